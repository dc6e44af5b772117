"""The training loop of every method: it calls hooks and the ledger, and knows no method by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch

from harness.contract import Weights
from harness.models.base_model import save_weights
from harness.models.packed_attention import check_packing
from harness.recipes.hooks import ask
from harness.store.runs import RunFolder
from harness.store.schema import LogLine
from harness.training.checkpoint import (
    Checkpoints,
    Progress,
    ProgressRecord,
    RoomRecord,
    read_progress,
)
from harness.training.run import PlannedRun, TrainingRun
from harness.training.step import advance, affordable, demand_finite

SIXTHS = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Fractions of the budget at which every run is evaluated."""

Observe = Callable[[float, Callable[[], Weights], TrainingRun], None]
"""Called at budget fractions, free of charge.

It is given the fraction, a function that returns the effective weights, and the run.
"""
Report = Callable[[LogLine], None]
"""Called after each optimizer step with its line of the log."""

ROUNDING = 1e-9
"""Fraction of the budget that sums of charges may miss a look by."""


class Overdrawn(Exception):
    """Preparation alone cost more than the budget."""


class Watch:
    """What goes out while a run trains: its log, looks at budget fractions, checkpoints."""

    def __init__(
        self,
        run: TrainingRun,
        log: TextIO,
        observe: Observe,
        report: Report,
        looks: Sequence[float],
        checkpoints: Checkpoints,
    ):
        self._run = run
        self._log = log
        self._observe = observe
        self._report = report
        self.checkpoints = checkpoints

        # A resumed run was evaluated already at the fractions before its checkpoint.
        self._looks = [look for look in looks if look > run.ledger.fraction + ROUNDING]

    def note(self, entry: LogLine) -> None:
        """Log a step, and report it."""
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        self._report(entry)

    def look(self) -> None:
        """Evaluate the run at the fractions that it has reached."""
        run = self._run
        while self._looks and self._looks[0] <= run.ledger.fraction + ROUNDING:
            fraction = self._looks.pop(0)
            weights = run.trained.gather()
            self._observe(fraction, weights, run)
            # The other ranks wait here, free of charge.
            run.engine.broadcast(None)


@contextmanager
def _opened_log(run: TrainingRun, stored: RunFolder, steps: int) -> Iterator[TextIO]:
    """Open the log inside the context, cut to its first `steps` entries.

    A killed run may have written more.
    """
    # Rank 0 alone writes the log; the other ranks write the same to nowhere.
    path = stored.log_path if run.engine.rank == 0 else Path(os.devnull)
    logged = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    path.write_text("".join(logged))
    with path.open("a") as log:
        yield log


def train(
    planned: PlannedRun,
    folder: Path,
    observe: Observe,
    report: Report,
    looks: Sequence[float] = SIXTHS,
    checkpoint_every: float = 30.0,
) -> tuple[Weights, Progress]:
    """Spend a planned run's budget; return the final weights and how far the training came.

    The weights are effective ones. Resumes from `folder/checkpoint` if there is one. `observe` is
    called in rising order after the steps that reach a fraction of `looks`. A checkpoint is saved
    every `checkpoint_every` seconds (0: after each step).
    """
    run, progress = _begin(planned, folder)
    stored = RunFolder(folder)
    save = partial(_save, run, stored.checkpoint)
    checkpoints = Checkpoints(run.engine.broadcast, save, checkpoint_every)
    with _opened_log(run, stored, progress.steps) as log:
        watch = Watch(run, log, observe, report, looks, checkpoints)
        _train_stage(run, progress, watch)

        # The stage's part of the budget is spent, or a method ended the run.
        while run.stage < len(run.ends) and progress.stopped_by == "budget":
            next_stage(run, folder)
            progress.begun = progress.steps
            _train_stage(run, progress, watch)
    return _final_weights(run), progress


def _train_stage(run: TrainingRun, progress: Progress, watch: Watch) -> None:
    """Make steps until the stage's part of the budget is spent or a method ends the run."""
    # A resumed run skips the steps of this stage that its checkpoint holds.
    for examples in islice(run.steps(), progress.steps - progress.begun, None):
        run.settle()
        step = affordable(run, examples)
        if not step:
            return
        entry = advance(run, step, progress)
        watch.note(entry)
        demand_finite(entry)
        watch.look()
        stopped_by = _stopper(run)
        if stopped_by:
            progress.stopped_by = stopped_by
            return
        watch.checkpoints.save_if_due(progress)


def _final_weights(run: TrainingRun) -> Weights:
    """Return the trained weights as methods finish them, on rank 0."""
    weights = run.trained.gather()()
    run.position.finishing = True
    # Ranks other than 0 hold no plain weights, and methods such as merging act on those.
    if run.engine.rank == 0:
        for method in run.filled("finish"):
            # Names that the method did not return keep their initial values.
            weights = run.start | ask(method, "finish", weights, run)
    return weights


def _save(run: TrainingRun, folder: Path, progress: Progress) -> None:
    """Save a checkpoint of the run's present state, whole or not at all."""
    run.trained.save(folder, _record(run, progress))


def _record(run: TrainingRun, progress: Progress) -> ProgressRecord:
    """Return the state of the run that a resumed run must know, besides tensors."""
    return {
        "steps": progress.steps,
        "epochs": progress.epochs,
        "begun": progress.begun,
        "stage": run.stage,
        "notes": progress.notes,
        "ledger": run.ledger.record(),
        "room": run.position.room,
        "paid": run.position.paid,
    }


def _begin(planned: PlannedRun, folder: Path) -> tuple[TrainingRun, Progress]:
    """Prepare on the untouched base; return the run that trains it, and how far it came.

    If there is a checkpoint, it is restored.
    """
    engine = planned.engine
    stored = RunFolder(folder)
    # Every rank must see the same files before it decides whether it resumes.
    _, record, cramped = engine.wait_until_equal(
        lambda: (folder.is_dir(), read_progress(stored.checkpoint), stored.read("room"))
    )
    progress = Progress(room=planned.position.room)

    # Where memory ran out in one of several processes, all began again with less room.
    if cramped is not None:
        planned.position.room = cramped["room"]
        progress.notes = cramped["notes"]

    # Methods look at the base before anything is wrapped, once per run.
    model = planned.load()
    if record is None:
        _prepare(planned, "prepare", model)
        engine.broadcast_method_state(planned.methods, folder, planned.device)
    else:
        engine.restore_methods(stored.checkpoint, planned.methods, planned.device)
    wrapped = planned.wrap(model)

    # What wraps the model must not let packed documents see each other either.
    if planned.training.pack_length:
        check_packing(wrapped.model)
    wrapped.model.train()
    run = TrainingRun(planned, wrapped)
    return run, progress if record is None else _resume(run, stored, record, cramped)


def _resume(
    run: TrainingRun,
    stored: RunFolder,
    record: ProgressRecord,
    cramped: RoomRecord | None,
) -> Progress:
    """Restore the stage, masters and moments, and the ledger of a run that was killed."""
    run.enter(record["stage"])
    run.trained.restore(stored.checkpoint)
    run.ledger.restore(record["ledger"])
    # Checkpoints of earlier versions charged nothing ahead.
    run.position.paid = record.get("paid", 0)

    # Less room than at the checkpoint counts; its notes include the checkpoint's.
    latest = cramped or record
    run.position.room = latest["room"]
    return Progress(
        steps=record["steps"],
        epochs=record["epochs"],
        begun=record["begun"],
        room=record["room"],
        notes=latest["notes"],
    )


def _prepare(run: PlannedRun, hook: str, model: Any) -> None:
    """Call the methods' `prepare` or `stage_begin` on rank 0.

    Raises Overdrawn where the budget does not pay for it.
    """
    methods = run.filled(hook)

    def prepare_all() -> None:
        for method in methods:
            getattr(method, hook)(model, run)

    if methods:
        run.engine.on_rank_zero(run.ledger, prepare_all)
    ledger = run.ledger
    if ledger.spent > ledger.allowed:
        cost = f"{ledger.spent:.3g} of {ledger.allowed:.3g} {ledger.meter}"
        raise Overdrawn(f"preparation cost {cost}")


def _stopper(run: TrainingRun) -> str:
    """Return the name of the method that ends the run now; empty if none does."""
    methods = run.filled("stop")
    if not methods:
        return ""

    def first_to_stop() -> str:
        for method in methods:
            if ask(method, "stop", run):
                return type(method).__name__.lower()
        return ""

    return run.engine.broadcast(run.engine.on_rank_zero(run.ledger, first_to_stop) or "")


def next_stage(run: TrainingRun, folder: Path) -> None:
    """Keep the weights as `weights/stage-<n>.safetensors`; begin the next stage.

    It has fresh moments. A killed run comes here again from its last checkpoint, and writes the
    same.
    """
    weights = run.trained.gather()()
    if run.engine.rank == 0:
        stored = RunFolder(folder)
        stored.weights_folder.mkdir(exist_ok=True)
        save_weights(weights, stored.stage_weights(run.stage))
    run.enter(run.stage + 1)
    if run.filled("stage_begin"):
        model = run.load()
        with torch.no_grad():
            # The trained weights are on rank 0 only, and only rank 0 prepares.
            for name, parameter in model.named_parameters() if run.engine.rank == 0 else ():
                parameter.copy_(weights[name])
        _prepare(run, "stage_begin", model)
        run.engine.broadcast_method_state(run.methods, folder, run.device)
    # Last, so that an interruption before here leaves the stage's own moments in the checkpoint.
    run.trained.begin()
