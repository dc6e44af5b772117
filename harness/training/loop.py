"""The training loop of every method: it calls hooks and charges the ledger, and knows no method by name."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.contract import Step, Weights
from harness.losses.weighted_loss import sum_of
from harness.models.base_model import save_weights
from harness.models.kernels import compile_blocks
from harness.models.packed_attention import check_packing
from harness.recipes.hooks import ask
from harness.store.runs import RunFolder
from harness.training.checkpoint import Checkpoints, Progress, read_progress
from harness.training.run import TrainingRun
from harness.training.step import gradients, smaller

SIXTHS = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Fractions of the budget at which every run is evaluated."""

Observe = Callable[[float, Callable[[], Weights]], None]
"""Called at budget fractions with a function that returns the effective weights; free of charge."""
Report = Callable[[dict[str, Any]], None]
"""Called after each optimizer step with its line of the log."""

ROUNDING = 1e-9
"""Fraction of the budget that sums of charges may miss a look by."""


class Diverged(Exception):
    """The loss or the gradient stopped being a finite number."""


class Overdrawn(Exception):
    """Preparation alone cost more than the budget."""


def train(
    run: TrainingRun,
    folder: Path,
    observe: Observe,
    report: Report,
    looks: Sequence[float] = SIXTHS,
    checkpoint_every: float = 30.0,
) -> tuple[Weights, Progress]:
    """Spend the run's budget; return the final effective weights and how far the training came.

    Resumes from `folder/checkpoint` if there is one. `observe` is called after the step that reaches a fraction of `looks`,
    in rising order. A checkpoint is saved every `checkpoint_every` seconds (0: after each step).
    """
    engine = run.engine
    stored = RunFolder(folder)
    progress = _set_up(run, folder)

    # Rank 0 alone writes the log; the other ranks write the same lines to nowhere.
    log_path = stored.log_path if engine.rank == 0 else Path(os.devnull)
    log = _open_log(log_path, progress.steps)
    record = partial(_record, run)
    checkpoints = Checkpoints(engine, run.methods, record, stored.checkpoint, checkpoint_every)

    # A resumed run was evaluated already at the fractions before its checkpoint.
    looks = [look for look in looks if look > run.ledger.fraction + ROUNDING]
    with log:
        while True:
            # A resumed run skips the steps of this stage that its checkpoint holds.
            for examples in islice(run.steps(), progress.steps - progress.begun, None):
                run.settle()
                step = _affordable(run, examples)
                if not step:
                    break
                entry = _advance(run, step, progress)
                log.write(json.dumps(entry) + "\n")
                log.flush()
                report(entry)
                _demand_finite(entry)
                while looks and looks[0] <= run.ledger.fraction + ROUNDING:
                    observe(looks.pop(0), engine.gather())
                    engine.broadcast(None)  # the other ranks wait here, free of charge
                stopped_by = _stopper(run)
                if stopped_by:
                    progress.stopped_by = stopped_by
                    break
                checkpoints.save_if_due(progress)

            # The stage's part of the budget is spent, or a method ended the run.
            if run.stage == len(run.ends) or progress.stopped_by != "budget":
                break
            _next_stage(run, folder)
            progress.begun = progress.steps
    weights = engine.gather()()
    if engine.rank == 0:
        for method in run.filled("finish"):
            # Names that the method did not return keep their initial values.
            weights = run.start | ask(method, "finish", weights, run)
    return weights, progress


def _advance(run: TrainingRun, step: Step, progress: Progress) -> dict[str, Any]:
    """Make one optimizer step and count it; return its line of the log."""
    entry = _optimizer_step(run, step, progress)
    progress.steps += 1
    domain_examples = sum(example.part for example in step if example.source == "domain")
    progress.epochs += domain_examples / len(run.data.domain)
    line = {"step": progress.steps, "spent": run.ledger.fraction} | entry
    if len(run.ends) > 1:
        line["stage"] = run.stage
    return line


def _record(run: TrainingRun, progress: Progress) -> dict[str, Any]:
    """Return the state of the run that a resumed run must know, besides tensors."""
    return {
        "steps": progress.steps,
        "epochs": progress.epochs,
        "begun": progress.begun,
        "stage": run.stage,
        "notes": progress.notes,
        "ledger": run.ledger.record(),
        "room": run.room,
    }


def _demand_finite(entry: dict[str, Any]) -> None:
    """Raise Diverged where a step's loss or gradient norm is not finite."""
    loss = entry["loss"]
    norm = entry["gradient_norm"]
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(f"the loss was {loss} and the gradient norm {norm} at step {entry['step']}")


def _set_up(run: TrainingRun, folder: Path) -> Progress:
    """Prepare on the untouched base, choose what trains, build masters and optimizer; or restore it from a checkpoint."""
    engine = run.engine
    stored = RunFolder(folder)
    _, record, cramped = engine.wait_until_equal(
        lambda: (folder.is_dir(), read_progress(stored.checkpoint), stored.read("room"))
    )
    progress = Progress(room=run.room)

    # Where memory ran out in one of several processes, all began again with less room.
    if cramped is not None:
        run.room = cramped["room"]
        progress.notes = cramped["notes"]

    # Methods look at the base before anything is wrapped, once per run.
    model = run.load()
    if record is None:
        _prepare(run, "prepare", model)
        engine.broadcast_method_state(run.methods, folder, run.device)
    else:
        engine.restore_methods(stored.checkpoint, run.methods, run.device)
    wrapped = run.wrap(model)

    # What wraps the model must not let packed documents see each other either.
    if run.training.pack_length:
        check_packing(wrapped.model)
    run.take(wrapped.model.train())
    if run.training.compile:
        compile_blocks(run.model, run.longest, run.room)
    engine.build(wrapped, run.training.weight_decay, run.methods)
    if record is None:
        return progress
    run.enter(record["stage"])
    engine.restore(stored.checkpoint)
    run.ledger.restore(record["ledger"])

    # Less room than at the checkpoint counts; its notes include the checkpoint's.
    latest = cramped or record
    run.room = latest["room"]
    return Progress(record["steps"], record["epochs"], record["begun"], room=record["room"], notes=latest["notes"])


def _prepare(run: TrainingRun, hook: str, model: Any) -> None:
    """Call the methods' `prepare` or `stage_begin` on rank 0. Raises Overdrawn where the budget does not pay for it."""
    methods = run.filled(hook)

    def prepare_all() -> None:
        for method in methods:
            getattr(method, hook)(model, run)

    if methods:
        run.engine.on_rank_zero(run.ledger, prepare_all)
    if run.ledger.spent > run.ledger.allowed:
        raise Overdrawn(f"preparation cost {run.ledger.spent:.3g} of {run.ledger.allowed:.3g} {run.ledger.meter}")


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


def _next_stage(run: TrainingRun, folder: Path) -> None:
    """Keep the weights as `weights/stage-<n>.safetensors`, and begin the next stage with fresh moments.

    A killed run comes here again from its last checkpoint, and writes the same.
    """
    weights = run.engine.gather()()
    if run.engine.rank == 0:
        stored = RunFolder(folder)
        stored.weights_folder.mkdir(exist_ok=True)
        save_weights(weights, stored.stage_weights(run.stage))
    run.enter(run.stage + 1)
    if run.filled("stage_begin"):
        model = run.load()
        with torch.no_grad():
            for name, parameter in model.named_parameters() if run.engine.rank == 0 else ():
                parameter.copy_(weights[name])
        _prepare(run, "stage_begin", model)
        run.engine.broadcast_method_state(run.methods, folder, run.device)
    run.engine.begin()


def _open_log(path: Path, steps: int) -> Any:
    """Open the log, cut to its first `steps` lines: what a killed run wrote after its checkpoint is written again."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    path.write_text("".join(lines))
    return path.open("a")


def _affordable(run: TrainingRun, step: Step) -> Step:
    """Return the step, cut to the examples that the budget still pays for; empty where it pays for none."""

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


def _optimizer_step(run: TrainingRun, step: Step, progress: Progress) -> dict[str, Any]:
    """Make one optimizer step; return its part of the log's line.

    Gradients sum over the tokens of all micro-batches and are divided by the step's normaliser at the end.
    """
    begin = time.perf_counter()
    spent_before = run.ledger.fraction
    sums = gradients(run, step, progress)
    with run.ledger.charge("update", 0.0, Counter(), run.device):
        rate, norm = _update(run, sums.normaliser, spent_before)
    run.engine.merge_ledgers(run.ledger)

    entry = sums.entry()
    entry["rate"] = rate
    entry["gradient_norm"] = norm
    entry["tokens"] = sum(map(len, step))
    entry["seconds"] = time.perf_counter() - begin
    if run.room != progress.room:
        entry["out_of_memory"] = smaller(run)
    progress.room = run.room
    for method in run.filled("log"):
        for key, value in ask(method, "log").items():
            entry[f"{type(method).__name__.lower()} {key}"] = value
    return entry


def _update(run: TrainingRun, normaliser: float, spent_before: float) -> tuple[float, float]:
    """Update the masters by the step's gradients, and the model by the masters; return learning rate and gradient norm."""
    engine = run.engine
    masters = engine.masters

    # The mean gradient of the step, as methods change it.
    engine.reduce()
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
    for group in engine.optimizer.param_groups:
        group["lr"] = rate

    # Decoupled pulls are a step of their own, outside clipping and the optimizer's moments.
    decoupled = _pulls(run, decoupled=True)
    if decoupled:
        masters.step_pulls(decoupled, rate)

    # Methods wrap the optimizer's step, the last method outermost.
    update: Callable[[], Any] = engine.step
    for method in run.filled("update"):
        update = partial(method.update, update, masters.values, run)
    update()
    engine.forget()
    masters.publish()
    return rate, norm


def _pulls(run: TrainingRun, decoupled: bool) -> Callable[[str, Tensor, Tensor], Tensor | None] | None:
    """Return the sum of the decoupled (or the other) pulls as one function; None if there are none."""
    methods = [method for method in run.filled("pull") if method.decoupled is decoupled]
    if not methods:
        return None

    def pull(name: str, theta: Tensor, start: Tensor) -> Tensor | None:
        return sum_of(ask(method, "pull", name, theta, start) for method in methods)

    return pull
