"""One run under a ledger: the loop, a step, engines, checkpoints."""
