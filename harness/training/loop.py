"""The one training loop. It asks hooks and keeps the books; it knows no method by name."""

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
from harness.models.base_model import save_weights
from harness.models.kernels import compile_blocks
from harness.models.packed_attention import check_packing
from harness.recipes.hooks import ask
from harness.store.runs import RunFolder
from harness.training.checkpoint import Checkpoints, Progress, read_progress
from harness.training.run import TrainingRun
from harness.training.step import gradients, smaller, sum_of

SIXTHS = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Fractions of the budget at which every run is looked at."""

Observe = Callable[[float, Callable[[], Weights]], None]
"""Called at budget fractions with a function that gives the effective weights; free of charge."""
Report = Callable[[dict[str, Any]], None]


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
    """Spend the run's budget; give the final effective weights. Resumes from `folder/checkpoint` where there is one.

    `observe` is called after the step that reaches a fraction of `looks`, in rising order. A checkpoint is saved every
    `checkpoint_every` seconds (0: after each step).
    """
    engine, progress = run.engine, _set_up(run, folder)
    stored = RunFolder(folder)
    log = _open_log(stored.log_path, progress.steps) if engine.rank == 0 else _open_log(Path(os.devnull), 0)
    record = partial(_record, run)
    checkpoints = Checkpoints(engine, run.methods, record, stored.checkpoint, checkpoint_every)
    looks = [look for look in looks if look > run.ledger.fraction + 1e-9]
    with log:
        while True:
            for wanted in islice(run.steps(), progress.steps - progress.begun, None):
                run.settle()
                step = _affordable(run, wanted)
                if not step:
                    break
                entry = _advance(run, step, progress)
                log.write(json.dumps(entry) + "\n")
                log.flush()
                report(entry)
                _demand_finite(entry)
                while looks and looks[0] <= run.ledger.fraction + 1e-9:
                    observe(looks.pop(0), engine.gather())
                    engine.agreed(None)  # the others wait here, free of charge
                if stopped_by := _stopper(run):
                    progress.stopped_by = stopped_by
                    break
                checkpoints.save_if_due(progress)
            if run.stage == len(run.ends) or progress.stopped_by != "budget":
                break
            _next_stage(run, folder)
            progress.begun = progress.steps
    weights = engine.gather()()
    for method in run.filled("finish") if engine.rank == 0 else ():
        weights = run.start | ask(method, "finish", weights, run)  # what it knows nothing of is as it began
    return weights, progress


def _advance(run: TrainingRun, step: Step, progress: Progress) -> dict[str, Any]:
    """Make one optimizer step and count it; its line in the log."""
    entry = _optimizer_step(run, step, progress)
    progress.steps += 1
    progress.epochs += sum(e.part for e in step if e.source == "domain") / len(run.data.domain)
    stage = {"stage": run.stage} if len(run.ends) > 1 else {}
    return {"step": progress.steps, "spent": run.ledger.fraction} | entry | stage


def _record(run: TrainingRun, progress: Progress) -> dict[str, Any]:
    """What a resumed run must know of where this one stands, beside tensors."""
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
    if not all(math.isfinite(entry[key]) for key in ("loss", "gradient_norm")):
        raise Diverged(f"the loss was {entry['loss']} and the gradient norm {entry['gradient_norm']} at step {entry['step']}")


def _set_up(run: TrainingRun, folder: Path) -> Progress:
    """Prepare on the untouched base, choose what trains, build masters and optimizer; or take all of it from a checkpoint."""
    engine, stored = run.engine, RunFolder(folder)
    saved = stored.checkpoint
    _, record, cramped = engine.same(lambda: (folder.is_dir(), read_progress(saved), stored.read("room")))
    progress = Progress(room=run.room)
    if cramped is not None:
        run.room, progress.notes = cramped["room"], cramped["notes"]
    model = run.load()
    if record is None:
        _prepare(run, "prepare", model)
        engine.share(run.methods, folder, run.device)
    else:
        engine.restore_methods(saved, run.methods, run.device)
    wrapped = run.wrap(model)
    if run.training.pack_length:
        check_packing(wrapped.model)  # what wraps the model must not let documents see each other either
    run.model = wrapped.model.train()
    if run.training.compile:
        compile_blocks(run.model, run.longest, run.room)
    engine.build(wrapped, run.training.weight_decay, run.methods)
    if record is None:
        return progress
    run.enter(record["stage"])
    engine.restore(saved)
    run.ledger.restore(record["ledger"])
    found = record | (cramped or {})
    run.room = found["room"]
    return Progress(record["steps"], record["epochs"], record["begun"], room=record["room"], notes=found["notes"])


def _prepare(run: TrainingRun, hook: str, model: Any) -> None:
    """What methods look at before they train: `prepare`, or `stage_begin`; once, whatever the number of processes."""
    methods = run.filled(hook)
    if methods:
        run.engine.first(run.ledger, lambda: [getattr(method, hook)(model, run) for method in methods])
    if run.ledger.spent > run.ledger.allowed:
        raise Overdrawn(f"preparation cost {run.ledger.spent:.3g} of {run.ledger.allowed:.3g} {run.ledger.meter}")


def _stopper(run: TrainingRun) -> str:
    """The method that ends the run now; empty where none does."""
    stoppers = run.filled("stop")
    if not stoppers:
        return ""
    found = run.engine.first(run.ledger, lambda: next((m for m in stoppers if ask(m, "stop", run)), None))
    return run.engine.agreed(type(found).__name__.lower() if found else "")


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
        run.engine.share(run.methods, folder, run.device)
    run.engine.begin()


def _open_log(path: Path, steps: int) -> Any:
    """The log, holding just the first `steps` lines: what a killed run wrote after its checkpoint is written again."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    path.write_text("".join(lines))
    return path.open("a")


def _affordable(run: TrainingRun, step: Step) -> Step:
    """The step, cut to the examples that the budget still pays for; empty where it pays for none."""

    def affords(count: int) -> bool:
        return run.ledger.affords(*run.step_price(step[:count]))

    if affords(len(step)):
        return step
    low, high = 0, len(step)  # affordable, not affordable
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if affords(middle) else (low, middle)
    return [] if run.ledger.meter == "steps" else step[:low]


def _optimizer_step(run: TrainingRun, step: Step, progress: Progress) -> dict[str, Any]:
    """One step over micro-batches. Gradients sum over tokens and are divided by the step's normaliser at the end."""
    ledger, engine, begin = run.ledger, run.engine, time.perf_counter()
    before = ledger.fraction
    sums = gradients(run, step, progress)
    cut = {"out_of_memory": smaller(run)} if run.room != progress.room else {}
    progress.room = run.room
    with ledger.charge("update", 0.0, Counter(), run.device):
        masters = engine.masters
        engine.reduce()
        masters.scale_gradients(1.0 / max(sums.normaliser, 1e-12))
        for method in run.filled("gradient"):
            method.gradient(masters.values, masters.gradients, run)
        coupled, decoupled = _pulls(run, False), _pulls(run, True)
        if coupled:
            masters.add_pulls(coupled)
        norm = masters.clip(run.training.clip)
        ledger.steps += 1
        rate = run.rate((before + ledger.fraction) / 2)  # the schedule's clock: the middle of this step
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        if decoupled:
            masters.step_pulls(decoupled, rate)
        update: Callable[[], Any] = engine.step
        for method in run.filled("update"):
            update = partial(method.update, update, masters.values, run)
        update()
        engine.forget()
        masters.publish()
    engine.agree(ledger)
    return sums.entry() | {
        "rate": rate,
        "gradient_norm": norm,
        "tokens": sum(map(len, step)),
        "seconds": time.perf_counter() - begin,
        **cut,
        **{f"{type(m).__name__.lower()} {key}": value for m in run.filled("log") for key, value in ask(m, "log").items()},
    }


def _pulls(run: TrainingRun, decoupled: bool) -> Callable[[str, Tensor, Tensor], Tensor | None] | None:
    """The sum of the pulls of one kind, as one function; None where there is none."""
    pulls = [method for method in run.filled("pull") if method.decoupled is decoupled]
    return (lambda name, theta, start: sum_of(ask(m, "pull", name, theta, start) for m in pulls)) if pulls else None
