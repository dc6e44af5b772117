"""The recovery probe: do a few general examples bring back what was lost?

A copy of the finished weights is trained on at most 50 examples of the general pool, three times over, at plain fine-tuning's
rate. What comes back to 80 % was not gone; what does not needs to be learned again. The pool holds no test item and nothing of
the held-out families, so these must come back by themselves. Costs are reported and charged to no budget.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import TypedDict

from harness.contract import Weights
from harness.models.base_model import save_model
from harness.setup.material import Material
from harness.setup.probe_examples import BATCH, EPOCHS, probe_examples
from harness.training.ledger import Ledger, LedgerRecord
from harness.training.loop import train
from harness.training.protocol import TrainingData
from harness.training.run import PlannedRun

SEED = 0


class ProbeRecord(TypedDict):
    """probe.json: what the recovery probe trained on, and what it cost."""

    examples: int
    epochs: int
    batch_size: int
    learning_rate: float
    ledger: LedgerRecord


def probe(material: Material, weights: Weights) -> tuple[Weights, ProbeRecord]:
    """Return (plain weights after the probe, what it cost: examples, rate, ledger). Raises Diverged as training does."""
    examples = tuple(probe_examples(material))
    training = dataclasses.replace(material.training, batch_size=BATCH)
    steps = EPOCHS * math.ceil(len(examples) / BATCH)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"

        # The probe begins at the finished weights, as another run begins at the base.
        save_model(material.base, weights, path)
        start = dataclasses.replace(material.base, path=str(path))

        # No method and no general replay: the probe asks what plain training on a few examples
        # brings back.
        data = TrainingData(examples, ())
        run = PlannedRun(start, data, (), training, Ledger("steps", steps), SEED, material.plan.device)
        recovered, _ = train(run, Path(folder), lambda *_: None, lambda _: None)
    record: ProbeRecord = {
        "examples": len(examples),
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": training.learning_rate,
        "ledger": run.ledger.record(),
    }
    return recovered, record
