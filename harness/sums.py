"""What an optimizer step adds up over its micro-batches, and says of itself in the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ZONES = (0.0, 1.45, 6.6, 15.0, math.inf)
"""Nats: the token-loss zones that are logged (mastered, learnable, hard, noise; bounds from METHODS section 1)."""
WEIGHT_EDGES = (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 15.0)
"""Nats: between these the mean weight of tokens is logged, where a method weighs them."""


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
    """(2, bins): tokens and sum of the weights that methods gave them, by token loss."""

    def weigh(self, nll: Tensor, weights: Tensor) -> None:
        """One micro-batch's (S,) losses and token weights, before anything is normalised."""
        place = torch.bucketize(nll, torch.tensor(WEIGHT_EDGES, device=nll.device))
        parts = torch.stack([torch.ones_like(nll), weights]).float()
        sums = torch.zeros(2, len(WEIGHT_EDGES) + 1, device=nll.device).index_add_(1, place, parts).cpu()
        self.given = sums if self.given is None else self.given + sums

    def add(self, nll: Tensor, weights: Tensor, normaliser: float) -> None:
        """One micro-batch: (S,) losses and weights (shares in), and what its weighted loss is to be divided by."""
        self.supervised += len(nll)
        self.normaliser += normaliser
        self.loss += float(nll.sum())
        self.weighted += float((weights * nll).sum())
        edges = torch.tensor(ZONES[1:-1], device=nll.device)
        zone = torch.bucketize(nll, edges)
        # the gradient of a token's loss at its own logit is 1 - p = 1 - exp(-loss)
        parts = torch.stack([torch.ones_like(nll), weights * -torch.expm1(-nll)]).float()
        sums = torch.zeros(2, len(ZONES) - 1, device=nll.device).index_add_(1, zone, parts).cpu()
        self.zones = sums if self.zones is None else self.zones + sums

    @classmethod
    def over_ranks(cls, parts: Sequence[StepSums]) -> StepSums:
        """Of all ranks of a run together."""
        if len(parts) == 1:
            return parts[0]
        total = cls()
        for name in ("supervised", "loss", "weighted", "normaliser", "penalty"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for name in ("zones", "given"):
            found = [tensor for part in parts if (tensor := getattr(part, name)) is not None]
            setattr(total, name, torch.stack(found).sum(0) if found else None)
        return total

    def entry(self) -> dict[str, Any]:
        """As logged: means over supervised tokens, shares of tokens and of gradient in each zone."""
        assert self.zones is not None
        shares = (self.zones / self.zones.sum(1, keepdim=True).clamp(min=1e-12)).tolist()
        task = self.weighted / max(self.normaliser, 1e-12)
        penalty = self.penalty / self.supervised
        given = {} if self.given is None else {"weights": self._weights(*self.given.tolist())}
        return given | {
            "loss": self.loss / self.supervised,
            "task_loss": task,
            "penalty": penalty,
            "supervised": self.supervised,
            "zones": [
                {"low": low, "high": None if math.isinf(high) else high, "tokens": tokens, "gradient": gradient}
                for low, high, tokens, gradient in zip(ZONES[:-1], ZONES[1:], *shares, strict=True)
            ],
        }

    def _weights(self, tokens: list[float], weights: list[float]) -> dict[str, list]:
        means = [weight / count if count else None for count, weight in zip(tokens, weights, strict=True)]
        return {"edges": list(WEIGHT_EDGES), "tokens": tokens, "mean": means}
