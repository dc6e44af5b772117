"""One optimizer step: what the budget pays for, its passes, and the update.

Forward and backward passes begin again, with smaller micro-batches, when memory runs out.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from harness.contract import Batch, Step
from harness.losses.pieces import loss_in_pieces, no_loss
from harness.losses.step_sums import StepSums
from harness.losses.weighted_loss import WeightedLoss
from harness.recipes.hooks import ask
from harness.store.schema import LogLine, StepLine
from harness.training.checkpoint import Progress
from harness.training.masters import Pull
from harness.training.run import TrainingRun


class Diverged(Exception):
    """The loss or the gradient stopped being a finite number."""


class Cramped(torch.OutOfMemoryError):
    """Memory ran out while other ranks wait for this one.

    All ranks must begin again, with this room and these notes.
    """

    def __init__(self, lack: str, room: int, notes: list[str]):
        super().__init__(lack, room, notes)
        self.lack = lack
        self.room = room
        self.notes = notes

    def __str__(self) -> str:
        return self.lack


def affordable(run: TrainingRun, step: Step) -> Step:
    """Return the step, cut to the examples that the budget still pays for; empty if to none."""

    def affords(count: int) -> bool:
        return run.ledger.affords(*run.step_price(step[:count]))

    if affords(len(step)):
        return step
    if run.ledger.meter == "steps":
        return []  # a smaller step costs as much

    # Bisect: `most` examples are affordable, `too_many` are not.
    most = 0
    too_many = len(step)
    while too_many - most > 1:
        middle = (most + too_many) // 2
        if affords(middle):
            most = middle
        else:
            too_many = middle
    return step[:most]


def advance(run: TrainingRun, step: Step, progress: Progress) -> LogLine:
    """Make one optimizer step and count it; return its line of the log."""
    entry = optimizer_step(run, step, progress)
    progress.steps += 1
    # A step may hold a part of an example (a method may cut it), which counts as that part of an
    # epoch.
    domain_examples = sum(example.part for example in step if example.source == "domain")
    progress.epochs += domain_examples / len(run.data.domain)
    line: LogLine = {"step": progress.steps, "spent": run.ledger.fraction, **entry}
    if len(run.ends) > 1:
        line["stage"] = run.stage
    return line


def demand_finite(entry: LogLine) -> None:
    """Raise Diverged where a step's loss or gradient norm is not finite."""
    loss = entry["loss"]
    norm = entry["gradient_norm"]
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(f"the loss was {loss} and the gradient norm {norm} at step {entry['step']}")


def optimizer_step(run: TrainingRun, step: Step, progress: Progress) -> StepLine:
    """Make one optimizer step; return its part of the log's line.

    Gradients sum over the tokens of all micro-batches. At the end they are divided by the step's
    normaliser.
    """
    begin = time.perf_counter()
    spent_before = run.ledger.fraction
    sums = _gradients(run, step, progress)

    # Methods that look at the loss see the mean over all ranks, before the schedule is asked.
    for method in run.filled("observe_loss"):
        method.observe_loss(sums.loss / sums.supervised)
    with run.ledger.charge("update", 0.0, Counter(), run.device):
        rate, norm = _update(run, sums.normaliser, spent_before)
    run.engine.merge_ledgers(run.ledger)

    # What the step cost is read off the clock last, so that it holds the update too.
    entry: StepLine = {
        **sums.entry(),
        "rate": rate,
        "gradient_norm": norm,
        "tokens": sum(map(len, step)),
        "seconds": time.perf_counter() - begin,
    }
    if run.position.room != progress.room:
        entry["out_of_memory"] = _smaller(run)
    progress.room = run.position.room
    of_methods = {}
    for method in run.filled("log"):
        for key, value in ask(method, "log").items():
            of_methods[f"{type(method).__name__.lower()} {key}"] = value
    return cast(StepLine, {**entry, **of_methods})


def _update(run: TrainingRun, normaliser: float, spent_before: float) -> tuple[float, float]:
    """Update masters and model by the step's gradients; return learning rate and gradient norm."""
    trained = run.trained
    masters = trained.masters

    # The mean gradient of the step, as methods change it.
    trained.reduce()
    masters.scale_gradients(1.0 / max(normaliser, 1e-12))
    for method in run.filled("gradient"):
        method.gradient(masters.values, masters.gradients, run)

    # Coupled pulls are gradients like any other, and are clipped with them.
    coupled = _pulls(run, decoupled=False)
    if coupled:
        masters.add_pulls(coupled)
    norm = masters.clip(run.training.clip)

    # The schedule's clock is the fraction spent in the middle of this step.
    run.ledger.steps += 1
    rate = run.rate((spent_before + run.ledger.fraction) / 2)
    for group in trained.optimizer.param_groups:
        group["lr"] = rate

    # Decoupled pulls are outside clipping and the optimizer's moments, but part of the step: what
    # a method keeps still, or moves nothing at all in a pass, no pull moves either.
    decoupled = _pulls(run, decoupled=True)

    def move() -> None:
        if decoupled:
            masters.step_pulls(decoupled, rate)
        trained.step()

    # Methods wrap that step, the last method outermost.
    update: Callable[[], Any] = move
    for method in run.filled("update"):
        update = partial(method.update, update, masters.values, run)
    update()
    trained.forget()
    masters.publish()
    return rate, norm


def _pulls(run: TrainingRun, decoupled: bool) -> Pull | None:
    """Return the sum of the decoupled (or of the other) pulls as one function, None if none."""
    methods = [method for method in run.filled("pull") if method.decoupled is decoupled]
    if not methods:
        return None

    def pull(name: str, theta: Tensor, start: Tensor) -> Tensor | None:
        return _sum_of(ask(method, "pull", name, theta, start) for method in methods)

    return pull


def _sum_of(parts: Iterable[Tensor | None]) -> Tensor | None:
    """Return the sum of the parts that are not None; None if all are."""
    total: Tensor | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def _gradients(run: TrainingRun, step: Step, progress: Progress) -> StepSums:
    """Compute the step's gradients, not yet summed over ranks; return its sums over all ranks.

    Where memory runs out, the step begins again with micro-batches of half the size, of the same
    examples, and later steps keep that size. Where ranks pass together, the whole run begins again
    (`Cramped`).
    """
    engine = run.engine
    stream = f"step {progress.steps}"
    if engine.rank:
        stream += f" rank {engine.rank}"
    while True:
        # Seeded by the step, not by what came before: a resumed run draws the dropout masks of an
        # uninterrupted one.
        torch.manual_seed(run.derive_seed(stream))
        sums = StepSums()
        lack = None
        try:
            _pass_all(run, step, sums)
        except torch.OutOfMemoryError as error:
            lack = str(error).splitlines()[0]
            # Collectives are under way in a sharded backward pass, so a rank cannot give up alone:
            # all begin again.
            if engine.sharded:
                raise _cramped(run, step, progress, lack) from error
        gathered = engine.all_gather((sums, lack))
        engine.merge_ledgers(run.ledger)
        lacks = [rank_lack for _, rank_lack in gathered if rank_lack]
        if not lacks:
            return StepSums.over_ranks([rank_sums for rank_sums, _ in gathered])

        # Memory ran out on some rank: every rank tries the step again with smaller micro-batches.
        run.trained.forget()
        _halve(run, step, lacks[0])
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        began = f"from step {progress.steps + 1} on"
        progress.notes = [f"Memory ran out: {began}, {_smaller(run)}; steps stay as large."]


def _smaller(run: TrainingRun) -> str:
    """Return what the log says about the step in which micro-batches became smaller."""
    return f"micro-batches of at most {run.position.room} tokens from here on"


def _pass_all(run: TrainingRun, step: Step, sums: StepSums) -> None:
    """Run the forward and backward passes of this rank's micro-batches."""
    trained = run.trained
    for batch, counts, last in trained.batches(run, step):
        # A repeated micro-batch only keeps this rank in step with the others: its gradients are
        # zero, and it is free.
        if not counts:
            features = trained.features(run, batch)
            with trained.gathered(run.head.module):
                loss = no_loss(run.head, features)
            trained.backward(loss, last)
            continue
        with run.charged("train", run.model, batch, backward=True):
            trained.backward(loss_of(run, batch, sums), last)


def _halve(run: TrainingRun, step: Step, lack: str) -> None:
    """Make micro-batches smaller. Raises OutOfMemoryError if they hold one example each already."""
    # Smaller than one example cannot be, so the run ends with the lack of memory as its reason.
    if not run.halve(step):
        raise torch.OutOfMemoryError(f"one example at a time is too much: {lack}")


def _cramped(run: TrainingRun, step: Step, progress: Progress, lack: str) -> Cramped:
    """Return the exception that makes all ranks of a sharded run begin again.

    They cannot try the step again. DeepSpeed's ranks wait for each other inside a pass: under
    ZeRO-3 for parts of the weights, under ZeRO-2 for buckets of gradients, which are summed in the
    backward pass whenever a bucket is full. So the other ranks (or their devices) are blocked and
    cannot be notified. And what DeepSpeed keeps of a failed pass (a bucket, marks of what was
    reduced, the sums of earlier micro-batches) would enter the next pass, or forbid it.
    """
    _halve(run, step, lack)
    room = run.position.room
    note = (
        f"Memory ran out in step {progress.steps + 1}: all processes began again from the last"
        f" checkpoint, with micro-batches of at most {room} tokens; steps stay as large, and what"
        " was done since then is in no budget."
    )
    return Cramped(lack, room, [*progress.notes, note])


def loss_of(run: TrainingRun, batch: Batch, sums: StepSums) -> Tensor:
    """Run the forward pass of one micro-batch and add to the step's sums.

    Return its weighted loss, summed over tokens. The head goes forward and backward here, at pieces
    of the places; the backward pass of what is returned is the blocks'.
    """
    trained = run.trained
    features = trained.features(run, batch)
    objective = WeightedLoss(run, batch, sums)
    with trained.gathered(run.head.module):
        at_once = objective.places_at_once(run.places_at_once)
        return loss_in_pieces(run.head, features, objective, at_once)
