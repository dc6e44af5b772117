"""What the recovery probe trains on, and what its question is."""

from __future__ import annotations

from harness.contract import Example
from harness.errors import PlanError
from harness.evaluation.evaluator import Evaluator
from harness.setup.material import Material
from harness.store.schema import key_of
from harness.training.protocol import fingerprint

EXAMPLES = 50
"""Most examples that the probe trains on."""
EPOCHS = 3
BATCH = 10


def probe_examples(material: Material) -> list[Example]:
    """Return at most 50 examples of the general pool, hash-sampled: the same for every run."""
    # By hash of the id, so that the probe trains on the same examples after any recipe.
    return sorted(material.training_data.general, key=lambda example: key_of(["probe", example.id]))[:EXAMPLES]


def probe_key(material: Material, final: Evaluator) -> str:
    """Return the key of the recovery probe's question: its training data, settings and evaluation."""
    examples = probe_examples(material)
    # Without general data there is nothing to recover with, and a probe of nothing would look like
    # no recovery.
    if not examples:
        raise PlanError("probe needs general data to recover with; give GENERAL=file, or leave probe out")
    settings = [EXAMPLES, EPOCHS, BATCH, material.training.question]
    return key_of([final.general_only().key, fingerprint(examples), settings])
