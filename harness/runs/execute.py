"""One run from question to answer: train under the ledger, evaluate, store. Errors become a status, not a crash."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, pvariance
from typing import Any

from harness.contract import Weights
from harness.models.base_model import read_weights, save_model, save_weights, weights_hash
from harness.models.device_memory import PeakMemory, ran_out_of_memory
from harness.plan.load import portable
from harness.recipes.hooks import ask
from harness.runs.monitor import Monitor
from harness.runs.run_scores import Events, Scoring
from harness.setup.evaluations import Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec, training_run
from harness.store.hashes import move_aside
from harness.store.lease import Lost, leased
from harness.store.provenance import where
from harness.store.runs import RunFolder, RunStore
from harness.store.schema import PROTOCOL, SCHEMA_VERSION
from harness.store.workspace import workspace
from harness.training.checkpoint import Progress
from harness.training.engine import Alone
from harness.training.loop import SIXTHS, Diverged, Overdrawn, train
from harness.training.step import Cramped

Join = Callable[[], Alone]
"""Gives the engine of this process once all processes of the run are there."""


def execute(
    spec: RunSpec, material: Material, store: RunStore, evaluation: Evaluation, events: Events, join: Join = Alone
) -> None:
    """Make what the store lacks of a run and its evaluations. Waits while another process makes the same run."""
    home = store.run(spec.key)
    try:
        with leased(home.path) as lease, workspace(home) as here:

            def tell(event: dict[str, Any]) -> None:
                lease.check()
                here.push_checkpoint()
                events(event)

            _execute(spec, material, RunFolder(here.local), evaluation, tell, join)
            lease.check()
    except Lost:
        if join is not Alone:
            raise  # all processes of the run begin again
        execute(spec, material, store, evaluation, events)  # whoever took it over is waited for


def follow(spec: RunSpec, material: Material, join: Join) -> None:
    """Train with rank 0 of the run, which executes it; write nothing here but parts of checkpoints."""
    run = training_run(material, spec)
    run.engine = join()
    folder = run.engine.broadcast(Path())  # the first process's
    memory = PeakMemory(run.device)
    try:
        train(run, folder, lambda *_: None, lambda _: None, _looks(spec))
    except (Diverged, Overdrawn):
        return  # the first process says it
    run.engine.all_gather(memory.bytes)


def _looks(spec: RunSpec) -> list[float]:
    return sorted({*SIXTHS, *(fraction for fraction in spec.models if fraction < 1)})


def _execute(spec: RunSpec, material: Material, folder: RunFolder, evaluation: Evaluation, events: Events, join: Join) -> None:
    evaluator = Scoring(spec, material, folder, evaluation)
    try:
        for damage in folder.set_aside():
            events({"phase": "damaged", "reason": f"{damage.path} {damage.why}"})
        found = folder.status == "done" and folder.has_models(spec.models)
        if not found or not (evaluator.complete or _weights_are_sound(folder)):
            evaluator.forget()
            _train(spec, material, folder, evaluator, events, join)
        if not evaluator.complete:
            evaluator.score(read_weights(folder.weights), events)
        if not evaluation.keep:
            shutil.rmtree(folder.weights_folder, ignore_errors=True)
    except (Lost, Cramped):
        raise
    except Exception as error:  # one run's failure never stops the others
        status, reason = _status_of(error)
        trace = traceback.format_exc() if status == "failed" else None
        folder.write("status", {"status": status, "reason": reason, "traceback": trace})


def _weights_are_sound(folder: RunFolder) -> bool:
    """Return whether the trained weights are there and are those that were trained; others are set aside."""
    if not folder.weights.exists():
        return False
    sound = weights_hash(read_weights(folder.weights)) == folder.read("run")["happened"]["weights_hash"]
    if not sound:
        move_aside(folder.weights)
    return sound


def _status_of(error: Exception) -> tuple[str, str]:
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, Overdrawn):
        return "overdrawn", str(error)
    if ran_out_of_memory(error):
        return "out_of_memory", str(error).splitlines()[0] if str(error) else "memory ran out"
    return "failed", f"{type(error).__name__}: {error}"


def _train(spec: RunSpec, material: Material, folder: RunFolder, scoring: Scoring, events: Events, join: Join) -> None:
    """Train, keep the weights, and write run.json, ledger.json and, last, status.json."""
    folder.remove("status")
    folder.unseal()
    begin, started = time.monotonic(), datetime.now(UTC)
    run = training_run(material, spec)
    run.open_dev = scoring.evaluation.open_dev
    monitor = Monitor(spec, material.plan, folder.path, resumed=folder.checkpoint.exists())

    tokens, seconds = 0, 0.0

    def report(entry: dict[str, Any]) -> None:
        nonlocal tokens, seconds
        tokens, seconds = tokens + entry["tokens"], seconds + entry["seconds"]
        monitor.step(entry)
        events({"phase": "training", "spent": entry["spent"], "loss": entry["loss"], "speed": tokens / seconds})

    def observe(fraction: float, weights: Callable[[], Weights]) -> None:
        with memory.paused(), nullcontext() if scoring.has_room else run.aside():
            if fraction in spec.models:
                save_model(material.base, weights(), folder.model(fraction))
            if fraction in SIXTHS and "path" in spec.kinds:  # where there is no path, no curve is wanted either
                monitor.scores(fraction, scoring.look(fraction, weights()))

    memory = PeakMemory(run.device)
    if spec.role == "base":
        weights, progress = run.start, Progress()
    else:
        run.engine = join()
        run.engine.broadcast(folder.path)
        weights, progress = train(run, folder.path, observe, report, _looks(spec), material.plan.checkpoint_every)
    peak = max(run.engine.all_gather(memory.bytes))
    if 1.0 in spec.models:
        save_model(material.base, weights, folder.model(1.0))
    folder.weights_folder.mkdir(exist_ok=True)
    save_weights(weights, folder.weights)
    happened = _happened(folder, spec, progress, begin, started) | {
        "peak_memory_bytes": peak,
        "weights_hash": weights_hash(weights),
        "evaluation_seconds": scoring.seconds,
        "models": list(spec.models),
        "notes": [*progress.notes, *(note for method in run.methods for note in ask(method, "notes"))],
    }
    record = {"schema_version": SCHEMA_VERSION, "key": spec.key, "asked": asked(spec, material), "happened": happened}
    folder.write("run", record | {"where": where()})
    folder.write("ledger", run.ledger.record())
    folder.seal()
    folder.write("status", {"status": "done", "reason": None, "traceback": None})
    shutil.rmtree(folder.checkpoint, ignore_errors=True)
    folder.remove("room")
    monitor.close()


def _happened(folder: RunFolder, spec: RunSpec, progress: Progress, begin: float, started: datetime) -> dict[str, Any]:
    """Return when the run was made, how far it came, and how steadily."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": time.monotonic() - begin,
        "steps": progress.steps,
        "epochs": progress.epochs,
        "stopped_by": progress.stopped_by,
        "stability": stability(folder.log(), spec.training.warmup),
    }


def asked(spec: RunSpec, material: Material) -> dict[str, Any]:
    """Return the question in full, for run.json."""
    dataset, base = material.dataset, material.base
    return {
        "recipe": spec.row,
        "methods": spec.question.get("methods", []),
        "track": spec.track,
        "role": spec.role,
        "seed": spec.seed,
        "learning_rate": spec.training.learning_rate,
        "training": spec.question.get("training"),
        "examples": {part: spec.question[part] for part in ("data", "general") if spec.question.get(part)},
        "budget": {"text": material.plan.budget, "meter": spec.meter, "amount": spec.allowed},
        "model": {"name": portable(material.plan).model, "hash": base.hash, "parameters": base.parameters},
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint}
        | {part: len(getattr(dataset, part)) for part in ("train", "dev", "test")},
        "protocol": PROTOCOL,
        "threads": material.plan.threads,
        "precision": material.plan.precision,
    }


def stability(log: list[dict[str, Any]], warmup: float) -> dict[str, float | int | None]:
    """Return the variance of the loss after warm-up, and the number of gradient norms above ten medians."""
    losses = [entry["loss"] for entry in log if entry["spent"] > warmup]
    norms = [entry["gradient_norm"] for entry in log]
    spikes = sum(norm > 10 * median(norms) for norm in norms) if norms else None
    return {"loss_variance": pvariance(losses) if len(losses) > 1 else None, "gradient_spikes": spikes}
