"""One run from question to answer: train under the ledger, evaluate, store.

Errors become a status, not a crash.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from harness.contract import Weights
from harness.models.base_model import read_weights, save_model, save_weights, weights_hash
from harness.models.device_memory import PeakMemory, ran_out_of_memory
from harness.recipes.hooks import ask
from harness.runs.events import Event, Events, SetAside, Stepped
from harness.runs.measured import measure
from harness.runs.monitor import Monitor, stability
from harness.runs.run_scores import Scoring
from harness.setup.comparison_record import Happened, run_record, times_since
from harness.setup.evaluations import Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec, planned_run
from harness.store.hashes import move_aside
from harness.store.lease import Lost, leased
from harness.store.runs import RunFolder, RunStore
from harness.store.schema import LogLine
from harness.store.workspace import workspace
from harness.training.checkpoint import Progress
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.loop import SIXTHS, Overdrawn, train
from harness.training.run import PlannedRun, TrainingRun
from harness.training.step import Cramped, Diverged
from harness.vocabulary import EvalKind, Role, Status

Join = Callable[[], Alone]
"""Returns the engine of this process once all processes of the run have joined."""


def execute(
    spec: RunSpec,
    material: Material,
    store: RunStore,
    evaluation: Evaluation,
    events: Events,
    join: Join = Alone,
) -> None:
    """Make what the store lacks of a run and its evaluations.

    Waits while another process makes the same run.
    """
    home = store.run(spec.key)
    try:
        with leased(home.path) as lease, workspace(home) as copy:

            def tell(event: Event) -> None:
                # In this order: a run whose lease was taken over must not write into the store any
                # more.
                lease.check()
                copy.push_checkpoint()
                events(event)

            _execute(spec, material, RunFolder(copy.local), evaluation, tell, join)
            lease.check()
    except Lost:
        # In a run of several processes the others have ended too, so one of them cannot go on
        # alone.
        if join is not Alone:
            raise  # all processes of the run begin again
        # Waits for the process that took the run over.
        execute(spec, material, store, evaluation, events)


def follow(spec: RunSpec, material: Material, join: Join) -> None:
    """Train with rank 0 of the run, which executes it; write only parts of checkpoints here."""
    run = planned_run(material, spec, join())
    folder = run.engine.broadcast(Path())  # rank 0's folder
    memory = PeakMemory(run.device)
    try:
        train(run, folder, lambda *_: None, lambda _: None, _looks(spec))
    except (Diverged, Overdrawn):
        return  # rank 0 stores the status
    run.engine.all_gather(memory.bytes)


def _looks(spec: RunSpec) -> list[float]:
    """Return the budget fractions at which the run is evaluated or saves a model, less than 1."""
    # The last fraction is left out: the end is evaluated by itself.
    fractions = {fraction for fraction in spec.models if fraction < 1}
    return sorted(fractions.union(SIXTHS))


def _execute(
    spec: RunSpec,
    material: Material,
    folder: RunFolder,
    evaluation: Evaluation,
    events: Events,
    join: Join,
) -> None:
    """Train and score whatever is not stored; store a status where that fails."""
    try:
        # Damaged files are set aside first: what is missing is then made again as if it had never
        # been.
        for damage in folder.set_aside():
            events(SetAside(reason=f"{damage.path} {damage.why}"))
        # A model tuned elsewhere is scored only.
        if spec.tuned is not None:
            measure(spec, spec.tuned, material, folder, evaluation.of(spec.tuned), events)
            return
        scoring = Scoring(spec, material, folder, evaluation)
        # A finished training is made again if its models are missing, or scores are and its
        # weights were deleted.
        trained = folder.status == Status.DONE and folder.has_models(spec.models)
        if not trained or not (scoring.complete or _weights_are_sound(folder)):
            # Another training may end elsewhere, so scores of the old one must not stand beside it.
            scoring.forget()
            _train(spec, material, folder, scoring, events, join)

        # A run that was killed while it was scored has its weights and some of its scores.
        if not scoring.complete:
            scoring.score(read_weights(folder.weights), events)
        if not evaluation.keep:
            shutil.rmtree(folder.weights_folder, ignore_errors=True)
    except (Lost, Cramped):
        raise
    except Exception as error:  # one run's failure never stops the others
        status, reason = _status_of(error)
        folder.end(status, reason, traceback.format_exc() if status == Status.FAILED else None)


def _weights_are_sound(folder: RunFolder) -> bool:
    """Return whether the weights in the store are those that were trained; set aside others."""
    if not folder.weights.exists():
        return False
    # By hash, not by presence: weights that were half written would score as something else.
    trained_hash = folder.read("run")["happened"]["weights_hash"]
    sound = weights_hash(read_weights(folder.weights)) == trained_hash
    if not sound:
        move_aside(folder.weights)
    return sound


def _status_of(error: Exception) -> tuple[Status, str]:
    """Return the (status, reason) of a run that an exception ended."""
    if isinstance(error, Diverged):
        return Status.DIVERGED, str(error)
    if isinstance(error, Overdrawn):
        return Status.OVERDRAWN, str(error)
    if ran_out_of_memory(error):
        message = str(error) or "memory ran out"
        return Status.OUT_OF_MEMORY, message.splitlines()[0]
    return Status.FAILED, f"{type(error).__name__}: {error}"


def _train(
    spec: RunSpec,
    material: Material,
    folder: RunFolder,
    scoring: Scoring,
    events: Events,
    join: Join,
) -> None:
    """Train, keep the weights, and write run.json, ledger.json and, last, status.json."""
    # A status from an earlier try says nothing about this one, and its seals would not match.
    folder.remove("status")
    folder.unseal()
    begin = time.monotonic()
    started = datetime.now(UTC)
    # The base is not trained, so it needs one process, however many a run has.
    engine = Alone() if spec.role == Role.BASE else join()
    run = planned_run(material, spec, engine, scoring.evaluation.open_dev)
    monitor = Monitor(spec, material.plan, folder.path, resumed=folder.checkpoint.exists())
    memory = PeakMemory(run.device)
    weights, progress = _trained(spec, material, folder, scoring, events, run, (monitor, memory))

    # The largest of all ranks: the one that decides whether the run fits.
    peak = max(engine.all_gather(memory.bytes))
    trained_hash = _save(spec, material, folder, weights)
    of_methods = chain.from_iterable(ask(method, "notes") for method in run.methods)
    happened: Happened = {
        **times_since(begin, started),
        "steps": progress.steps,
        "epochs": progress.epochs,
        "stopped_by": progress.stopped_by,
        "stability": stability(folder.log(), spec.training.warmup),
        "peak_memory_bytes": peak,
        "weights_hash": trained_hash,
        "evaluation_seconds": scoring.seconds,
        "models": _models(folder, scoring, trained_hash),
        "notes": [*progress.notes, *of_methods],
    }
    _write_records(spec, material, folder, happened, run.ledger)
    monitor.close()


def _save(spec: RunSpec, material: Material, folder: RunFolder, weights: Weights) -> str:
    """Save what a training ended in, and return the hash of its weights."""
    # Before they are scored: a crash of an evaluation must not cost a training.
    if 1.0 in spec.models:
        save_model(material.base, weights, folder.model(1.0))
    folder.weights_folder.mkdir(exist_ok=True)
    save_weights(weights, folder.weights)
    return weights_hash(weights)


def _trained(
    spec: RunSpec,
    material: Material,
    folder: RunFolder,
    scoring: Scoring,
    events: Events,
    run: PlannedRun,
    watchers: tuple[Monitor, PeakMemory],
) -> tuple[Weights, Progress]:
    """Train, reporting steps and evaluating on the way; return the weights and the progress."""
    monitor, memory = watchers
    tokens = 0
    seconds = 0.0

    def report(entry: LogLine) -> None:
        # Tokens and seconds of this process only: a resumed run shows the speed of now.
        nonlocal tokens, seconds
        tokens += entry["tokens"]
        seconds += entry["seconds"]
        monitor.step(entry)
        events(Stepped(spent=entry["spent"], loss=entry["loss"], speed=tokens / seconds))

    def observe(fraction: float, weights: Callable[[], Weights], training: TrainingRun) -> None:
        # Evaluation is neither charged nor counted as the training's memory; where it has no room
        # of its own, what trains moves aside.
        room = nullcontext() if scoring.has_room else training.aside()
        with memory.paused(), room:
            if fraction in spec.models:
                save_model(material.base, weights(), folder.model(fraction))
            # A run without a path needs no curve either.
            if fraction in SIXTHS and EvalKind.PATH in spec.kinds:
                monitor.scores(fraction, scoring.look(fraction, weights()))

    # Nothing to train: the base's row goes through the same path as every other one.
    if spec.role == Role.BASE:
        return run.start, Progress()
    run.engine.broadcast(folder.path)
    return train(run, folder.path, observe, report, _looks(spec), material.plan.checkpoint_every)


def _models(folder: RunFolder, scoring: Scoring, trained_hash: str) -> list[float]:
    """Return the fractions of the budget at which the store has models of this training.

    What an earlier training came to is removed, unless it ended in the same weights.
    """
    fractions = scoring.spec.models
    earlier = (folder.read("run") or {}).get("happened", {})
    if earlier.get("weights_hash") == trained_hash:
        return sorted({*fractions, *earlier.get("models", [])})
    folder.forget_end(scoring.evaluation.keys[EvalKind.CURVE], fractions)
    return sorted(fractions)


def _write_records(
    spec: RunSpec,
    material: Material,
    folder: RunFolder,
    happened: Happened,
    ledger: Ledger,
) -> None:
    """Write what is kept of a finished training, and remove what only a resumed one needs."""
    # The status comes last: once it stands, all the rest does.
    folder.write("run", run_record(spec, material, happened))
    folder.write("ledger", ledger.record())
    folder.seal()
    folder.end(Status.DONE)
    shutil.rmtree(folder.checkpoint, ignore_errors=True)
    folder.remove("room")
