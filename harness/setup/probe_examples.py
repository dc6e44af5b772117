"""What the recovery probe trains on."""

from __future__ import annotations

from harness.contract import Example
from harness.setup.material import Material
from harness.store.schema import key_of

EXAMPLES = 50


EPOCHS = 3


BATCH = 10


def probe_examples(material: Material) -> list[Example]:
    """At most 50 examples of the general pool, drawn by content: the same for every run."""
    # By hash of the id, so that the probe trains on the same examples after any recipe.
    return sorted(material.training_data.general, key=lambda example: key_of(["probe", example.id]))[:EXAMPLES]
