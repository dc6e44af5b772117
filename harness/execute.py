"""One run from question to answer: train under the ledger, evaluate, commit. What goes wrong becomes a status, not a crash."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median, pvariance
from typing import Any

import pandas as pd
import torch

from harness import PROTOCOL
from harness.checkpoint import Progress
from harness.contract import Weights
from harness.evaluation import Evaluation
from harness.gradients import Cramped
from harness.hooks import ask
from harness.journal import Journal
from harness.lease import Lost, leased
from harness.material import Material
from harness.model import read_weights, save_model, save_weights, weights_hash
from harness.monitor import Monitor
from harness.parallel.alone import Alone
from harness.placing import has_room, placed, release
from harness.plan import portable
from harness.probe import probe
from harness.specs import RunSpec, training_run
from harness.store import ITEM_COLUMNS, SCHEMA_VERSION, RunFolder, RunStore
from harness.train import SIXTHS, Diverged, Overdrawn, train
from harness.where import PeakMemory, where
from harness.workspace import workspace
from harness.wrapping import Wrapped, wrap

ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Where the line from the base (0) to the tuned model (1) is scored on dev items."""

Events = Callable[[dict[str, Any]], None]


Join = Callable[[], Alone]
"""Gives the engine of this process once all processes of the run are there."""


def execute(
    spec: RunSpec, material: Material, store: RunStore, evaluation: Evaluation, events: Events, join: Join = Alone
) -> None:
    """Make the run and its evaluations, whatever of them the store lacks. Another process at the same run is waited for."""
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
    """Train with the first process of the run, which executes it; nothing is written here but parts of checkpoints."""
    run = training_run(material, spec)
    run.engine = join()
    folder = run.engine.agreed(Path())  # the first process's
    memory = PeakMemory(run.device)
    try:
        train(run, folder, lambda *_: None, lambda _: None, _looks(spec))
    except (Diverged, Overdrawn):
        return  # the first process says it
    run.engine.exchange(memory.bytes)


def _looks(spec: RunSpec) -> list[float]:
    return sorted({*SIXTHS, *(fraction for fraction in spec.models if fraction < 1)})


def _execute(spec: RunSpec, material: Material, folder: RunFolder, evaluation: Evaluation, events: Events, join: Join) -> None:
    evaluator = Scoring(spec, material, folder, evaluation)
    try:
        found = folder.status == "done" and folder.has_models(spec.models)
        if not found or not (evaluator.complete or _weights_path(folder).exists()):
            evaluator.forget()
            _train(spec, material, folder, evaluator, events, join)
        if not evaluator.complete:
            evaluator.score(read_weights(_weights_path(folder)), events)
        if not evaluation.keep:
            shutil.rmtree(folder.path / "weights", ignore_errors=True)
    except (Lost, Cramped):
        raise
    except Exception as error:  # one run's failure never stops the others
        status, reason = _status_of(error)
        trace = traceback.format_exc() if status == "failed" else None
        folder.write("status", {"status": status, "reason": reason, "traceback": trace})


def _status_of(error: Exception) -> tuple[str, str]:
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, Overdrawn):
        return "overdrawn", str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return "out_of_memory", str(error).splitlines()[0] if str(error) else "memory ran out"
    return "failed", f"{type(error).__name__}: {error}"


def _weights_path(folder: RunFolder) -> Path:
    return folder.path / "weights" / "model.safetensors"


def _train(spec: RunSpec, material: Material, folder: RunFolder, scoring: Scoring, events: Events, join: Join) -> None:
    """Train, keep the weights, and write run.json, ledger.json and, last, status.json."""
    (folder.path / "status.json").unlink(missing_ok=True)
    begin, started = time.monotonic(), datetime.now(UTC)
    run = training_run(material, spec)
    run.open_dev = scoring.evaluation.open_dev
    monitor = Monitor(spec, material.plan, folder.path, resumed=(folder.path / "checkpoint").exists())

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
        run.engine.agreed(folder.path)
        weights, progress = train(run, folder.path, observe, report, _looks(spec), material.plan.checkpoint_every)
    peak = max(run.engine.exchange(memory.bytes))
    if 1.0 in spec.models:
        save_model(material.base, weights, folder.model(1.0))
    _weights_path(folder).parent.mkdir(exist_ok=True)
    save_weights(weights, _weights_path(folder))
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
    folder.write("status", {"status": "done", "reason": None, "traceback": None})
    shutil.rmtree(folder.path / "checkpoint", ignore_errors=True)
    (folder.path / "room.json").unlink(missing_ok=True)
    monitor.close()


def _happened(folder: RunFolder, spec: RunSpec, progress: Progress, begin: float, started: datetime) -> dict[str, Any]:
    """When it ran, how far it came, and how steadily."""
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
    """The question in full, for run.json."""
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
    """Variance of the loss after warm-up, and the number of gradient norms above ten medians."""
    losses = [entry["loss"] for entry in log if entry["spent"] > warmup]
    norms = [entry["gradient_norm"] for entry in log]
    spikes = sum(norm > 10 * median(norms) for norm in norms) if norms else None
    return {"loss_variance": pvariance(losses) if len(losses) > 1 else None, "gradient_spikes": spikes}


class Scoring:
    """The evaluations of one run: final on everything, curve on a fixed sub-sample, path on dev items; or dev items only."""

    def __init__(self, spec: RunSpec, material: Material, folder: RunFolder, evaluation: Evaluation):
        self.spec, self.folder, self.evaluation, self.material = spec, folder, evaluation, material
        self.seconds = 0.0
        self.run = training_run(material, spec)
        self.stay = [method for method in self.run.filled("trainable") if method.adds and not method.folds]
        """Methods whose added parameters do not fold into plain weights: what is scored is wrapped by them too."""

    @cached_property
    def wrapped(self) -> Wrapped:
        """A model to put the weights being scored in, in the host's memory."""
        wrapped = wrap(self.evaluation.load(), self.stay, self.run, self.evaluation.base_weights)
        wrapped.model.eval()
        return wrapped

    @cached_property
    def start(self) -> Weights:
        """Where the line to the trained weights begins: the base, and what was added as it began in the computing precision."""
        return self.run.wrap(self.run.load()).start if self.stay else self.evaluation.base_weights

    @property
    def complete(self) -> bool:
        """Whether the store holds all scores this run must have."""
        keys = self.evaluation.keys
        return all(self.folder.has_scores(kind, keys[kind]) for kind in self.spec.kinds)

    def forget(self) -> None:
        """Drop the scores of finished models: another training may end elsewhere (on a GPU)."""
        for kind in self.spec.kinds:
            self.folder.drop_scores(kind, self.evaluation.keys[kind])

    @property
    def has_room(self) -> bool:
        """Whether the model being scored can stand on the device beside what is there."""
        return has_room(self.wrapped.model, self.evaluation.device)

    def look(self, fraction: float, weights: Weights) -> pd.DataFrame:
        """Score the curve's sub-sample; rows of a fraction that is scored again (after a resume) are replaced."""
        scores = self._score("curve", weights, fraction=fraction)
        self._append("curve", scores, fraction)
        self._leave()
        return scores

    def _leave(self) -> None:
        """Give a device that is not the host back to the training; the base is copied there again for the next look."""
        if self.evaluation.device != "cpu":
            self.evaluation.__dict__.pop("base", None)
            release()

    def _append(self, kind: str, scores: pd.DataFrame, fraction: float) -> None:
        earlier = self.folder.scores(kind, self.evaluation.keys[kind])
        if earlier is not None:
            scores = pd.concat([earlier[earlier["fraction"] < fraction - 1e-9], scores], ignore_index=True)
        self.folder.write_scores(kind, self.evaluation.keys[kind], scores)

    def score(self, weights: Weights, events: Events) -> None:
        """Every evaluation of the finished run that the store lacks. The curve's last point is part of the final scores."""
        for kind in self.spec.kinds:
            if self.folder.has_scores(kind, self.evaluation.keys[kind]):
                continue
            if kind == "path":
                final = self.folder.scores("final", self.evaluation.keys["final"])
                self._append("curve", self.evaluation.evaluator("curve").part_of(final), 1.0)
            events({"phase": "evaluating", "what": kind})
            special = {"path": self._path, "stages": self._stages, "probe": self._probe}
            scores = special[kind](weights) if kind in special else self._score(kind, weights)
            self.folder.write_scores(kind, self.evaluation.keys[kind], scores)

    def _path(self, weights: Weights) -> pd.DataFrame:
        """Dev scores along the line from the base; of the base itself at alpha 0 only, of controls at 1 only.

        None at all where no line leads to the base.
        """
        if any(method.unlike_base for method in self.run.methods):
            return pd.DataFrame(columns=list(ITEM_COLUMNS))
        if self.spec.role != "recipe":
            alpha = 0.0 if self.spec.role == "base" else 1.0
            return self._score("path", weights, alpha=alpha)
        points = []
        for alpha in ALPHAS:
            between = {name: self.start[name].lerp(tensor, alpha) for name, tensor in weights.items()}
            points.append(self._score("path", between, alpha=alpha))
        return pd.concat(points, ignore_index=True)

    def _probe(self, weights: Weights) -> pd.DataFrame:
        """General scores after the recovery probe; none where it diverges."""
        try:
            recovered, cost = probe(self.material, weights)
        except Diverged as error:
            self.folder.write("probe", {"diverged": str(error)})
            return pd.DataFrame(columns=list(ITEM_COLUMNS))
        self.folder.write("probe", cost)
        return self._score("probe", recovered)

    def _stages(self, _: Weights) -> pd.DataFrame:
        """Scores after each stage but the last (`final` has those), of the weights as trained: FINISH acts once, at the end."""
        scores = []
        for stage in range(1, len(self.material.stages)):
            path = self.folder.path / "weights" / f"stage-{stage}.safetensors"
            if path.exists():  # a run that a method ended early has fewer
                scores.append(self._score("stages", read_weights(path)).assign(stage=stage))
        return pd.concat(scores, ignore_index=True) if scores else pd.DataFrame(columns=[*ITEM_COLUMNS, "stage"])

    def _score(self, kind: str, weights: Weights, **where_: float) -> pd.DataFrame:
        begin = time.monotonic()
        self.wrapped.set(weights)
        journal = Journal(self.folder.journal_path(kind, self.evaluation.keys[kind]), weights_hash(weights))
        model = placed(self.wrapped.model, self.evaluation.device)
        scores = self.evaluation.score(kind, model, journal=journal, **where_)
        self.seconds += time.monotonic() - begin
        return scores
