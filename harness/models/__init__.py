"""One causal language model: load it, batch for it, run it, wrap it, place it, price it."""
