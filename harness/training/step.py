"""The forward and backward passes of an optimizer step, and what becomes of them where memory runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.contract import Batch, Step
from harness.recipes.hooks import ask
from harness.training.checkpoint import Progress
from harness.training.run import TrainingRun


class Cramped(torch.OutOfMemoryError):
    """Memory ran out where other ranks wait for this one: all of them must begin again, with this room and these notes."""

    def __init__(self, lack: str, room: int, notes: list[str]):
        super().__init__(lack, room, notes)
        self.lack, self.room, self.notes = lack, room, notes

    def __str__(self) -> str:
        return self.lack


def gradients(run: TrainingRun, step: Step, progress: Progress) -> StepSums:
    """The step's gradients, not yet summed over ranks, and its sums over all of them.

    Where memory runs out the step begins again with micro-batches of half the size, of the same examples, and these remain;
    the whole run does (`Cramped`) where ranks pass together.
    """
    engine = run.engine
    while True:
        torch.manual_seed(run.derive_seed(f"step {progress.steps}" + (f" rank {engine.rank}" if engine.rank else "")))
        sums, lack = StepSums(), None
        try:
            _pass_all(run, step, sums)
        except torch.OutOfMemoryError as error:
            lack = str(error).splitlines()[0]
            if engine.sharded:
                raise _cramped(run, step, progress, lack) from error
        parts = engine.all_gather((sums, lack))
        engine.merge_ledgers(run.ledger)
        lack = next((found for _, found in parts if found), None)
        if lack is None:
            return StepSums.over_ranks([part for part, _ in parts])
        engine.forget()
        _halve(run, step, lack)
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        progress.notes = [f"Memory ran out: from step {progress.steps + 1} on, {smaller(run)}; steps stay as large."]


def smaller(run: TrainingRun) -> str:
    """What the log says of the step in which micro-batches became smaller."""
    return f"micro-batches of at most {run.room} tokens from here on"


def _pass_all(run: TrainingRun, step: Step, sums: StepSums) -> None:
    """Every micro-batch of this rank, forwards and backwards."""
    engine = run.engine
    for batch, counts, last in engine.batches(run, step):
        if not counts:
            engine.backward(engine.nll(run, batch)[0].sum() * 0.0, last)
            continue
        with run.charged("train", run.model, batch, backward=True):
            engine.backward(loss_of(run, batch, sums), last)


def _halve(run: TrainingRun, step: Step, lack: str) -> None:
    if not run.halve(step):
        raise torch.OutOfMemoryError(f"one example at a time is too much: {lack}")


def _cramped(run: TrainingRun, step: Step, progress: Progress, lack: str) -> Cramped:
    """Why all ranks of a sharded run must begin again. They cannot try the step again, as those of others do.

    DeepSpeed's ranks wait for each other inside a pass: under ZeRO-3 for parts of the weights, under ZeRO-2 for buckets of
    gradients, which are summed within backward, whenever one is full. So the others stand still and cannot be told, or their
    device does. And what DeepSpeed holds of a failed pass (a bucket, marks of what was reduced, the sums of earlier
    micro-batches) would go into the next one, or forbid it.
    """
    _halve(run, step, lack)
    note = (
        f"Memory ran out in step {progress.steps + 1}: all processes began again from the last checkpoint, with"
        f" micro-batches of at most {run.room} tokens; steps stay as large, and what was done since then is in no budget."
    )
    return Cramped(lack, run.room, [*progress.notes, note])


def loss_of(run: TrainingRun, batch: Batch, sums: StepSums) -> Tensor:
    """Forward pass of one micro-batch: its weighted loss, summed over tokens; adds to the step's sums."""
    nll, logits = run.engine.nll(run, batch)
    weights = torch.ones_like(nll)
    weighters = run.filled("token_weights")
    with torch.no_grad():
        for method in weighters:
            weights = weights * ask(method, "token_weights", nll.detach(), logits.detach(), batch).float()
        weighted = weights * nll.detach()
        if weighters:
            sums.weigh(nll.detach(), weights)
        by_sum = all(method.renorm for method in weighters)
        normaliser = float(weights.sum() if by_sum else (weighted != 0).sum())
        for method in run.filled("share"):
            weights = weights * ask(method, "share", batch)
        sums.add(nll.detach(), weights, normaliser)
    loss = (weights * nll).sum()
    penalties = run.filled("penalty")
    if penalties:
        extra = sum_of(ask(method, "penalty", logits, batch, run) for method in penalties).sum()
        # The step divides everything by its normaliser; a penalty is a mean over tokens, so it is multiplied by the mean
        # weight first (as known so far in the step; exact with one micro-batch, and where nothing weighs tokens).
        loss = loss + extra * (sums.normaliser / sums.supervised)
        sums.penalty += float(extra.detach())
    return loss


def sum_of(parts: Any) -> Any:
    """Sum of tensors, None where all are None."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


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
