"""The forward and backward passes of an optimizer step, and how they begin again when memory runs out."""

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
    """Memory ran out while other ranks wait for this one: all ranks must begin again, with this room and these notes."""

    def __init__(self, lack: str, room: int, notes: list[str]):
        super().__init__(lack, room, notes)
        self.lack = lack
        self.room = room
        self.notes = notes

    def __str__(self) -> str:
        return self.lack


def gradients(run: TrainingRun, step: Step, progress: Progress) -> StepSums:
    """Compute the step's gradients, not yet summed over ranks; return its sums over all ranks.

    Where memory runs out, the step begins again with micro-batches of half the size, of the same examples, and later steps
    keep that size. Where ranks pass together, the whole run begins again (`Cramped`).
    """
    engine = run.engine
    stream = f"step {progress.steps}"
    if engine.rank:
        stream += f" rank {engine.rank}"
    while True:
        torch.manual_seed(run.derive_seed(stream))
        sums = StepSums()
        lack = None
        try:
            _pass_all(run, step, sums)
        except torch.OutOfMemoryError as error:
            lack = str(error).splitlines()[0]
            if engine.sharded:
                raise _cramped(run, step, progress, lack) from error
        gathered = engine.all_gather((sums, lack))
        engine.merge_ledgers(run.ledger)
        lacks = [rank_lack for _, rank_lack in gathered if rank_lack]
        if not lacks:
            return StepSums.over_ranks([rank_sums for rank_sums, _ in gathered])

        # Memory ran out on some rank: every rank tries the step again with smaller micro-batches.
        engine.forget()
        _halve(run, step, lacks[0])
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        progress.notes = [f"Memory ran out: from step {progress.steps + 1} on, {smaller(run)}; steps stay as large."]


def smaller(run: TrainingRun) -> str:
    """Return what the log says about the step in which micro-batches became smaller."""
    return f"micro-batches of at most {run.room} tokens from here on"


def _pass_all(run: TrainingRun, step: Step, sums: StepSums) -> None:
    """Run the forward and backward passes of this rank's micro-batches."""
    engine = run.engine
    for batch, counts, last in engine.batches(run, step):
        # A repeated micro-batch only keeps this rank in step with the others: its gradients are zero, and it is free.
        if not counts:
            losses, _ = engine.nll(run, batch)
            engine.backward(losses.sum() * 0.0, last)
            continue
        with run.charged("train", run.model, batch, backward=True):
            engine.backward(loss_of(run, batch, sums), last)


def _halve(run: TrainingRun, step: Step, lack: str) -> None:
    """Make micro-batches smaller. Raises OutOfMemoryError if they hold one example each already."""
    if not run.halve(step):
        raise torch.OutOfMemoryError(f"one example at a time is too much: {lack}")


def _cramped(run: TrainingRun, step: Step, progress: Progress, lack: str) -> Cramped:
    """Return the exception that makes all ranks of a sharded run begin again; they cannot try the step again.

    DeepSpeed's ranks wait for each other inside a pass: under ZeRO-3 for parts of the weights, under ZeRO-2 for buckets of
    gradients, which are summed in the backward pass whenever a bucket is full. So the other ranks (or their devices) are
    blocked and cannot be notified. And what DeepSpeed keeps of a failed pass (a bucket, marks of what was reduced, the sums
    of earlier micro-batches) would enter the next pass, or forbid it.
    """
    _halve(run, step, lack)
    note = (
        f"Memory ran out in step {progress.steps + 1}: all processes began again from the last checkpoint, with"
        f" micro-batches of at most {run.room} tokens; steps stay as large, and what was done since then is in no budget."
    )
    return Cramped(lack, run.room, [*progress.notes, note])


def loss_of(run: TrainingRun, batch: Batch, sums: StepSums) -> Tensor:
    """Run the forward pass of one micro-batch; return its weighted loss, summed over tokens, and add to the step's sums."""
    nll, logits = run.engine.nll(run, batch)
    weights = torch.ones_like(nll)
    weighters = run.filled("token_weights")
    with torch.no_grad():
        for method in weighters:
            weights = weights * ask(method, "token_weights", nll.detach(), logits.detach(), batch).float()
        weighted = weights * nll.detach()
        if weighters:
            sums.weigh(nll.detach(), weights)

        # Either the weights' sum, or the number of tokens whose weighted loss is not 0, where a method asks for that.
        by_sum = all(method.renorm for method in weighters)
        normaliser = float(weights.sum() if by_sum else (weighted != 0).sum())

        # Shares come after the normaliser: unlike weights they are not normalised away.
        for method in run.filled("share"):
            weights = weights * ask(method, "share", batch)
        sums.add(nll.detach(), weights, normaliser)
    loss = (weights * nll).sum()
    penalties = run.filled("penalty")
    if penalties:
        extra = sum_of(ask(method, "penalty", logits, batch, run) for method in penalties).sum()
        # The step divides everything by its normaliser. A penalty is a mean over tokens, so it is multiplied by the mean
        # weight first: the mean so far in the step, which is exact with one micro-batch and where nothing weighs tokens.
        loss = loss + extra * (sums.normaliser / sums.supervised)
        sums.penalty += float(extra.detach())
    return loss


def sum_of(parts: Any) -> Any:
    """Return the sum of tensors; None if all are None."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


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
        if len(parts) == 1:
            return parts[0]
        total = cls()
        for name in ("supervised", "loss", "weighted", "normaliser", "penalty"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for name in ("zones", "given"):
            tensors = [getattr(part, name) for part in parts if getattr(part, name) is not None]
            setattr(total, name, torch.stack(tensors).sum(0) if tensors else None)
        return total

    def entry(self) -> dict[str, Any]:
        """Return the sums as logged: means over supervised tokens, and each zone's share of tokens and of gradient."""
        entry: dict[str, Any] = {}
        if self.given is not None:
            entry["weights"] = _mean_weights(self.given)
        entry["loss"] = self.loss / self.supervised
        entry["task_loss"] = self.weighted / max(self.normaliser, 1e-12)
        entry["penalty"] = self.penalty / self.supervised
        entry["supervised"] = self.supervised
        assert self.zones is not None
        entry["zones"] = _zone_shares(self.zones)
        return entry


def _zone_shares(zones: Tensor) -> list[dict[str, float | None]]:
    """Return each zone's bounds and its share of tokens and of gradient, from their `(2, zones)` sums."""
    tokens, gradient = (zones / zones.sum(1, keepdim=True).clamp(min=1e-12)).tolist()
    shares = []
    for index, low in enumerate(ZONES[:-1]):
        high = ZONES[index + 1]
        bound = None if math.isinf(high) else high
        shares.append({"low": low, "high": bound, "tokens": tokens[index], "gradient": gradient[index]})
    return shares


def _mean_weights(given: Tensor) -> dict[str, list]:
    """Return the number of tokens and their mean weight per bin of token loss; None for an empty bin."""
    tokens, weights = given.tolist()
    means = [weight / count if count else None for count, weight in zip(tokens, weights, strict=True)]
    return {"edges": list(WEIGHT_EDGES), "tokens": tokens, "mean": means}
