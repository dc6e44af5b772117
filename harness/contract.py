"""What a plug-in may see: Method, Batch, Example, Run. Their texts stand in harness/interface/.

Shapes: a batch holds B rows of T tokens, of which S are supervised (their next-token loss is trained).
The language-model head runs only at those S places, so per-token tensors are flat, `(S,)`, and logits `(S, V)`.
"""

from harness.interface.examples import Batch, Example, Step, Weights, last_answer
from harness.interface.method import (
    CHAINED_PLACES,
    HOOKS,
    PLACES,
    Folding,
    Method,
    Need,
    blocks_of,
    overrides,
)
from harness.interface.run import Bill, Run

__all__ = [
    "CHAINED_PLACES",
    "HOOKS",
    "PLACES",
    "Batch",
    "Bill",
    "Example",
    "Folding",
    "Method",
    "Need",
    "Run",
    "Step",
    "Weights",
    "blocks_of",
    "last_answer",
    "overrides",
]
