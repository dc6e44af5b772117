"""A model that nobody trains here: scored as every run is, and recorded without a budget."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from harness.measured.tuned import Tuned, load_tuned
from harness.models.placement import placed
from harness.plan.load import portable
from harness.runs.events import Evaluating, Events
from harness.setup.evaluations import Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.journal import Journal
from harness.store.provenance import where
from harness.store.runs import RunFolder
from harness.store.schema import PROTOCOL, SCHEMA_VERSION
from harness.vocabulary import Status


def measure(spec: RunSpec, tuned: Tuned, material: Material, folder: RunFolder, evaluation: Evaluation, events: Events) -> None:
    """Make every evaluation of the model that the store lacks, then say that it is done.

    The model stands on the device alone while it answers; the base joins it there, as far as there is room, for what is
    measured against it.
    """
    begin, started = time.monotonic(), datetime.now(UTC)
    # Only what the store lacks: naming a model again must be quick.
    missing = [kind for kind in spec.kinds if not folder.has_scores(kind, evaluation.keys[kind])]
    if missing:
        model = placed(load_tuned(tuned, material.base, evaluation.dtype), evaluation.device)
        for kind in missing:
            events(Evaluating(kind=kind))
            journal = Journal(folder.journal_path(kind, evaluation.keys[kind]), tuned.hash)
            folder.write_scores(kind, evaluation.keys[kind], evaluation.score(kind, model, journal=journal))
    happened = {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": time.monotonic() - begin,
        "evaluation_seconds": time.monotonic() - begin,
        "models": [],
        "notes": list(tuned.notes),
    }
    record = {"schema_version": SCHEMA_VERSION, "key": spec.key, "asked": _asked(spec, tuned, material), "happened": happened}
    folder.write("run", record | {"where": where()})
    folder.write("status", {"status": Status.DONE, "reason": None, "traceback": None})


def _asked(spec: RunSpec, tuned: Tuned, material: Material) -> dict[str, Any]:
    """Return what was asked, for run.json: which model, against which base. Its budget is not known, so none is named."""
    dataset, base = material.dataset, material.base
    return {
        "recipe": spec.row,
        "methods": [],
        "track": spec.track,
        "role": spec.role,
        "seed": spec.seed,
        "measured": tuned.record(),
        "model": {"name": portable(material.plan).model, "hash": base.hash, "parameters": base.parameters},
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint}
        | {part: len(getattr(dataset, part)) for part in ("train", "dev", "test")},
        "protocol": PROTOCOL,
        "threads": material.plan.threads,
        "precision": material.plan.precision,
    }
