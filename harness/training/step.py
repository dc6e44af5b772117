"""The forward and backward passes of an optimizer step, and how they begin again when memory runs out."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contract import Batch, Step
from harness.losses.pieces import loss_in_pieces, no_loss
from harness.losses.step_sums import StepSums
from harness.losses.weighted_loss import WeightedLoss
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
            features = engine.features(run, batch)
            with engine.gathered(run.head.parameters):
                loss = no_loss(run.head, features)
            engine.backward(loss, last)
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
    """Run the forward pass of one micro-batch; return its weighted loss, summed over tokens, and add to the step's sums.

    The head goes forward and backward here, at pieces of the places; the backward pass of what is returned is the blocks'.
    """
    engine = run.engine
    features = engine.features(run, batch)
    objective = WeightedLoss(run, batch, sums)
    with engine.gathered(run.head.parameters):
        return loss_in_pieces(run.head, features, objective, objective.places_at_once(run.places_at_once))
