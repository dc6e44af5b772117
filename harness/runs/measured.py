"""A model that nobody trains here: scored as every run is, and recorded without a budget."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from torch import nn

from harness.measured.tuned import Tuned, load_tuned
from harness.models.placement import placed
from harness.runs.events import Evaluating, Events
from harness.setup.comparison_record import Happened, run_record, times_since
from harness.setup.evaluations import Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.journal import Journal
from harness.store.runs import RunFolder
from harness.vocabulary import EvalKind, Status


def measure(
    spec: RunSpec,
    tuned: Tuned,
    material: Material,
    folder: RunFolder,
    evaluation: Evaluation,
    events: Events,
) -> None:
    """Make every evaluation of the model that the store lacks, then say that it is done.

    The model stands on the device alone while it answers; the base joins it there, as far as there
    is room, for what is measured against it.
    """
    begin = time.monotonic()
    started = datetime.now(UTC)
    # Only what the store lacks: naming a model again must be quick.
    missing = [kind for kind in spec.kinds if not folder.has_scores(kind, evaluation.keys[kind])]
    if missing:
        model = placed(load_tuned(tuned, material.base, evaluation.dtype), evaluation.device)
        for kind in missing:
            events(Evaluating(kind=kind))
            _score(kind, model, tuned, folder, evaluation)
    happened: Happened = {
        **times_since(begin, started),
        "evaluation_seconds": time.monotonic() - begin,
        "models": [],
        "notes": list(tuned.notes),
    }
    folder.write("run", run_record(spec, material, happened))
    folder.write("status", {"status": Status.DONE, "reason": None, "traceback": None})


def _score(kind: EvalKind, model: nn.Module, tuned: Tuned, folder: RunFolder, evaluation: Evaluation) -> None:
    """Make one evaluation of the model, and store it."""
    key = evaluation.keys[kind]
    journal = Journal(folder.journal_path(kind, key), tuned.hash)
    folder.write_scores(kind, key, evaluation.score(kind, model, journal=journal))
