"""The one training loop. It asks hooks and keeps the books; it knows no method by name."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.checkpoint import read_progress, restore_methods, restore_training, save_checkpoint
from harness.contract import Batch, Step, Weights
from harness.masters import Masters
from harness.model import save_weights
from harness.packing import check_packing
from harness.run import TrainingRun
from harness.sums import StepSums

SIXTHS = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Fractions of the budget at which every run is looked at."""

Observe = Callable[[float, Callable[[], Weights]], None]
"""Called at budget fractions with a function that gives the effective weights; free of charge."""
Report = Callable[[dict[str, Any]], None]


class Diverged(Exception):
    """The loss or the gradient stopped being a finite number."""


class Overdrawn(Exception):
    """Preparation alone cost more than the budget."""


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint."""

    steps: int = 0
    epochs: float = 0.0
    begun: int = 0
    """Steps before the stage under way."""
    stopped_by: str = "budget"
    log: list[dict[str, Any]] = field(default_factory=list)


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
    `checkpoint_every` seconds, of a large model more rarely: at most a twentieth of the time goes there (0: after each step).
    """
    masters, optimizer, progress = _set_up(run, folder)
    log = _open_log(folder / "log.jsonl", progress.steps)
    saved, pause = time.monotonic(), checkpoint_every
    looks = [look for look in looks if look > run.ledger.fraction + 1e-9]
    with log:
        while True:
            for wanted in islice(run.steps(), progress.steps - progress.begun, None):
                run.settle()
                step = _affordable(run, wanted)
                if not step:
                    break
                torch.manual_seed(run.derive_seed(f"step {progress.steps}"))
                entry = _optimizer_step(run, masters, optimizer, step)
                progress.steps += 1
                progress.epochs += sum(e.part for e in step if e.source == "domain") / len(run.data.domain)
                entry = {"step": progress.steps, "spent": run.ledger.fraction} | entry
                if len(run.ends) > 1:
                    entry["stage"] = run.stage
                log.write(json.dumps(entry) + "\n")
                log.flush()
                report(entry)
                if not all(math.isfinite(entry[key]) for key in ("loss", "gradient_norm")):
                    raise Diverged(
                        f"the loss was {entry['loss']} and the gradient norm {entry['gradient_norm']} at step {progress.steps}"
                    )
                while looks and looks[0] <= run.ledger.fraction + 1e-9:
                    observe(looks.pop(0), masters.effective)
                stopper = next((m for m in run.filled("stop") if m.stop(run)), None)
                if stopper is not None:
                    progress.stopped_by = type(stopper).__name__.lower()
                    break
                if time.monotonic() - saved > pause:
                    begin = time.monotonic()
                    save_checkpoint(folder / "checkpoint", masters, optimizer, list(run.methods), _record(run, progress))
                    saved = time.monotonic()
                    pause = max(checkpoint_every, 19 * (saved - begin)) if checkpoint_every else 0.0
            if run.stage == len(run.ends) or progress.stopped_by != "budget":
                break
            optimizer = _next_stage(run, masters, folder)
            progress.begun = progress.steps
    weights = masters.effective()
    for method in run.filled("finish"):
        weights = run.start | method.finish(weights, run)  # what it knows nothing of is as it began
    return weights, progress


def _set_up(run: TrainingRun, folder: Path) -> tuple[Masters, torch.optim.Optimizer, Progress]:
    """Prepare on the untouched base, choose what trains, build masters and optimizer; or take all of it from a checkpoint."""
    record = read_progress(folder / "checkpoint")
    model = run.load()
    if record is None:
        for method in run.filled("prepare"):
            method.prepare(model, run)
        _refuse_overdrawn(run)
    else:
        restore_methods(folder / "checkpoint", list(run.methods), run.device)
    wrapped = run.wrap(model)
    if run.training.pack_length:
        check_packing(wrapped.model)  # what wraps the model must not let documents see each other either
    run.model = wrapped.model.train()
    run.masters = masters = Masters(wrapped)
    optimizer, progress = _optimizer(run, masters), Progress()
    if record is not None:
        run.enter(record["stage"])
        restore_training(folder / "checkpoint", masters, optimizer)
        run.ledger.restore(record["ledger"])
        progress = Progress(record["steps"], record["epochs"], record["begun"])
    return masters, optimizer, progress


def _optimizer(run: TrainingRun, masters: Masters) -> torch.optim.Optimizer:
    return torch.optim.AdamW(masters.tensors, lr=0.0, weight_decay=run.training.weight_decay, fused=True)


def _refuse_overdrawn(run: TrainingRun) -> None:
    if run.ledger.spent > run.ledger.allowed:
        raise Overdrawn(f"preparation cost {run.ledger.spent:.3g} of {run.ledger.allowed:.3g} {run.ledger.meter}")


def _next_stage(run: TrainingRun, masters: Masters, folder: Path) -> torch.optim.Optimizer:
    """Keep the weights as `weights/stage-<n>.safetensors`, and begin the next stage with fresh moments.

    A killed run comes here again from its last checkpoint, and writes the same.
    """
    weights = masters.effective()
    (folder / "weights").mkdir(exist_ok=True)
    save_weights(weights, folder / "weights" / f"stage-{run.stage}.safetensors")
    run.enter(run.stage + 1)
    if beginners := run.filled("stage_begin"):
        model = run.load()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        for method in beginners:
            method.stage_begin(model, run)
        _refuse_overdrawn(run)
    return _optimizer(run, masters)


def _record(run: TrainingRun, progress: Progress) -> dict[str, Any]:
    where = {"steps": progress.steps, "epochs": progress.epochs, "begun": progress.begun, "stage": run.stage}
    return where | {"ledger": run.ledger.record()}


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


def _optimizer_step(run: TrainingRun, masters: Masters, optimizer: torch.optim.Optimizer, step: Step) -> dict[str, Any]:
    """One step over micro-batches. Gradients sum over tokens and are divided by the step's normaliser at the end."""
    ledger, begin = run.ledger, time.perf_counter()
    before = ledger.fraction
    sums = StepSums()
    for batch in run.batches(step):
        with run.charged("train", run.model, batch, backward=True):
            backward(run, batch, sums)
            masters.take_gradients()
    with ledger.charge("update", 0.0, Counter(), run.device):
        masters.scale_gradients(1.0 / max(sums.normaliser, 1e-12))
        for method in run.filled("gradient"):
            method.gradient(masters.values, masters.gradients, run)
        coupled, decoupled = _pulls(run, False), _pulls(run, True)
        if coupled:
            masters.add_pulls(coupled)
        norm = float(torch.nn.utils.clip_grad_norm_(masters.tensors, run.training.clip, foreach=True))
        ledger.steps += 1
        rate = run.rate((before + ledger.fraction) / 2)  # the schedule's clock: the middle of this step
        for group in optimizer.param_groups:
            group["lr"] = rate
        if decoupled:
            masters.step_pulls(decoupled, rate)
        update: Callable[[], Any] = optimizer.step
        for method in run.filled("update"):
            update = partial(method.update, update, masters.values, run)
        update()
        optimizer.zero_grad(set_to_none=True)
        masters.publish()
    return sums.entry() | {
        "rate": rate,
        "gradient_norm": norm,
        "tokens": sum(map(len, step)),
        "seconds": time.perf_counter() - begin,
        **{f"{type(m).__name__.lower()} {key}": value for m in run.filled("log") for key, value in m.log().items()},
    }


def _pulls(run: TrainingRun, decoupled: bool) -> Callable[[str, Tensor, Tensor], Tensor | None] | None:
    """The sum of the pulls of one kind, as one function; None where there is none."""
    pulls = [method for method in run.filled("pull") if method.decoupled is decoupled]
    return (lambda name, theta, start: _sum_of(m.pull(name, theta, start) for m in pulls)) if pulls else None


def backward(run: TrainingRun, batch: Batch, sums: StepSums) -> None:
    """Forward and backward of one micro-batch; adds to the step's sums."""
    nll, logits = run.nll(run.model, batch)
    weights = torch.ones_like(nll)
    weighters = run.filled("token_weights")
    with torch.no_grad():
        for method in weighters:
            weights = weights * method.token_weights(nll.detach(), logits.detach(), batch).float()
        weighted = weights * nll.detach()
        if weighters:
            sums.weigh(nll.detach(), weights)
        by_sum = all(method.renorm for method in weighters)
        normaliser = float(weights.sum() if by_sum else (weighted != 0).sum())
        for method in run.filled("share"):
            weights = weights * method.share(batch)
        sums.add(nll.detach(), weights, normaliser)
    loss = (weights * nll).sum()
    penalties = run.filled("penalty")
    if penalties:
        extra = _sum_of(method.penalty(logits, batch, run) for method in penalties).sum()
        # The step divides everything by its normaliser; a penalty is a mean over tokens, so it is multiplied by the mean
        # weight first (as known so far in the step; exact with one micro-batch, and where nothing weighs tokens).
        loss = loss + extra * (sums.normaliser / sums.supervised)
        sums.penalty += float(extra.detach())
    loss.backward()


def _sum_of(parts: Any) -> Any:
    """Sum of tensors, None where all are None."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total
