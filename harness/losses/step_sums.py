"""Sums over the supervised tokens of one optimizer step, and how the log says them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.store.schema import LossLine, TokenWeights, Zone

ZONES = (0.0, 1.45, 6.6, 15.0, math.inf)
"""Bounds of the logged token-loss zones (mastered, learnable, hard, noise), in nats."""
WEIGHT_EDGES = (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 15.0)
"""Edges of the token-loss bins, in nats, whose mean token weight is logged where a method weighs tokens."""


@dataclass
class StepSums:
    """Sums over the supervised tokens of one optimizer step."""

    supervised: int = 0
    loss: float = 0.0
    weighted: float = 0.0
    normaliser: float = 0.0
    penalty: float = 0.0
    zones: Tensor | None = None
    given: Tensor | None = None
    """(2, bins) the number of tokens and the sum of the weights that methods gave them, by token loss."""

    def weigh(self, nll: Tensor, weights: Tensor) -> None:
        """Add one micro-batch's token weights `(S,)`, before anything is normalised; `nll` `(S,)` are its losses."""
        # Weights before any normalisation: what a method gave, not what became of it.
        bins = torch.bucketize(nll, torch.tensor(WEIGHT_EDGES, device=nll.device))
        parts = torch.stack([torch.ones_like(nll), weights]).float()
        sums = torch.zeros(2, len(WEIGHT_EDGES) + 1, device=nll.device).index_add_(1, bins, parts).cpu()
        self.given = sums if self.given is None else self.given + sums

    def add(self, nll: Tensor, weights: Tensor, normaliser: float) -> None:
        """Add one micro-batch: losses and weights `(S,)`, shares included, and the divisor of its weighted loss."""
        self.supervised += len(nll)
        self.normaliser += normaliser
        self.loss += float(nll.sum())
        self.weighted += float((weights * nll).sum())
        edges = torch.tensor(ZONES[1:-1], device=nll.device)
        zone = torch.bucketize(nll, edges)
        # The gradient of a token's loss at its own logit is 1 - p = 1 - exp(-loss).
        parts = torch.stack([torch.ones_like(nll), weights * -torch.expm1(-nll)]).float()
        sums = torch.zeros(2, len(ZONES) - 1, device=nll.device).index_add_(1, zone, parts).cpu()
        self.zones = sums if self.zones is None else self.zones + sums

    @classmethod
    def over_ranks(cls, parts: Sequence[StepSums]) -> StepSums:
        """Return the sums of all ranks of a run together."""
        # One rank's sums are the step's, to the last bit.
        if len(parts) == 1:
            return parts[0]
        total = cls()
        for name in ("supervised", "loss", "weighted", "normaliser", "penalty"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for name in ("zones", "given"):
            tensors = [getattr(part, name) for part in parts if getattr(part, name) is not None]
            setattr(total, name, torch.stack(tensors).sum(0) if tensors else None)
        return total

    def entry(self) -> LossLine:
        """Return the sums as logged: means over supervised tokens, and each zone's share of tokens and of gradient."""
        assert self.zones is not None
        entry: LossLine = {
            "loss": self.loss / self.supervised,
            "task_loss": self.weighted / max(self.normaliser, 1e-12),
            "penalty": self.penalty / self.supervised,
            "supervised": self.supervised,
            "zones": _zone_shares(self.zones),
        }
        # Weights stand first in a line, as in the logs of earlier versions.
        return {"weights": _mean_weights(self.given), **entry} if self.given is not None else entry


def _zone_shares(zones: Tensor) -> list[Zone]:
    """Return each zone's bounds and its share of tokens and of gradient, from their `(2, zones)` sums."""
    tokens, gradient = (zones / zones.sum(1, keepdim=True).clamp(min=1e-12)).tolist()
    shares: list[Zone] = []
    # The last zone has no upper bound, which JSON cannot say as infinity.
    for index, low in enumerate(ZONES[:-1]):
        high = ZONES[index + 1]
        bound = None if math.isinf(high) else high
        shares.append({"low": low, "high": bound, "tokens": tokens[index], "gradient": gradient[index]})
    return shares


def _mean_weights(given: Tensor) -> TokenWeights:
    """Return the number of tokens and their mean weight per bin of token loss; None for an empty bin."""
    tokens, weights = given.tolist()
    means = [weight / count if count else None for count, weight in zip(tokens, weights, strict=True)]
    return {"edges": list(WEIGHT_EDGES), "tokens": tokens, "mean": means}
