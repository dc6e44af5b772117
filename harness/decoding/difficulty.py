"""What the base makes of each training example: its loss beside its own uncertainty. For ordering data and for finding faults.

At the place that predicts the supervised token y_t the base gives a distribution p; from the *same* p come the token's loss
l_t = -log p(y_t) and the entropy h_t = -sum_v p(v) log p(v), nats. z-scores are over all supervised tokens of the data:
z_l = (l - mean l) / sd l, z_h likewise. z_l - z_h says how much worse a token is than the base itself expected there. Over
windows of 3 successive supervised tokens (their means; a shorter answer is one window):

    wrong    z_l > 0.6 and z_h < -0.6 somewhere: the base is sure of something else; perhaps a wrong label
    hard     z_l > 0.6 and z_h > 0.6 somewhere: the base does not know, and knows that

The rule and its constants are y-trainer's anomaly detection, with loss and entropy of one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contract import Batch, Example

WINDOW = 3
FLAG = 0.6


@dataclass(frozen=True)
class Reading:
    """The tokens of n examples as the base reads them."""

    tokens: list[Tensor]
    """An example each: (2, S) loss and entropy of its supervised tokens, nats."""

    @property
    def loss(self) -> Tensor:
        """(n,) mean token loss."""
        return torch.stack([scores[0].mean() for scores in self.tokens])

    @property
    def similarity(self) -> Tensor:
        """(n,) minus the mean of z_l - z_h: how well the loss is what the base's own uncertainty lets expect."""
        return torch.stack([(z[1] - z[0]).mean() for z in self._z()])

    @property
    def suspicion(self) -> Tensor:
        """(n,) the largest mean of z_l - z_h over windows."""
        return torch.stack([(w[0] - w[1]).max() for w in self._windows()])

    @property
    def wrong(self) -> list[bool]:
        return [bool(((w[0] > FLAG) & (w[1] < -FLAG)).any()) for w in self._windows()]

    @property
    def hard(self) -> list[bool]:
        return [bool(((w[0] > FLAG) & (w[1] > FLAG)).any()) for w in self._windows()]

    def _z(self) -> list[Tensor]:
        """Return (2, S) z-scores."""
        # Over all examples together, so that an example is measured against the others.
        everything = torch.cat(self.tokens, 1)
        mean, deviation = everything.mean(1, keepdim=True), everything.std(1, keepdim=True).clamp(min=1e-6)
        return [(scores - mean) / deviation for scores in self.tokens]

    def _windows(self) -> list[Tensor]:
        """Return (2, W) means of z-scores."""
        return [z.unfold(1, min(WINDOW, z.shape[1]), 1).mean(-1) for z in self._z()]


def token_scores(nll: Tensor, logits: Tensor) -> Tensor:
    """Return (2, S) loss and entropy from the losses (S,) and the logits (S, V) that they were taken from."""
    return torch.stack([nll, torch.special.entr(logits.softmax(-1)).sum(-1)])


def read(examples: Sequence[Example], batches: Iterable[Batch], scores: Callable[[Batch], Tensor]) -> Reading:
    """Return the reading of these examples, in their order; `scores` gives a batch's `token_scores`."""
    scored: dict[tuple[str, tuple[int, ...]], Tensor] = {}
    for batch in batches:
        # Batches are sorted by length: scores go back to the order of the examples.
        of_batch, rows = scores(batch).cpu(), batch.rows.cpu()
        for row, example in enumerate(batch.examples):
            scored[example.id, example.tokens] = of_batch[:, rows == row]
    return Reading([scored[example.id, example.tokens] for example in examples])
