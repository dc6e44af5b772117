"""Development items decide and are never trained on, whether the pool ships its own or they are taken out of it."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice
from pathlib import Path

import pytest

from harness.bundled import embedded
from harness.commands.compare import prepare
from harness.files.records import Record, read_records
from harness.plan.plan import Plan
from harness.setup import material as gathering
from harness.setup.material import Material
from harness.setup.probe_examples import probe_examples
from harness.setup.specs import planned_run, run_specs
from harness.vocabulary import Role
from tests.setup.test_material import files, plan  # noqa: F401

DRAWING = "mix replay"
"""Recipes that train on examples of the pool."""


def shipped_pool(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The file of a pool that ships its development items in a file beside it, as the embedded one does."""
    dev = [{"instruction": f"Spell the word v{i}", "output": f"v{i}"} for i in range(30)]
    path = files / "general_dev.json"
    path.write_text(json.dumps(dev))
    pool = files / "general.json"
    shipped = dataclasses.replace(embedded(), general=str(pool), general_dev=str(path))
    monkeypatch.setattr(gathering, "embedded", lambda: shipped)
    return path


def trained_on(material: Material, asked: Plan) -> set[str]:
    """Ids of all records that any run of the plan trains on, the probe's included."""
    examples = [*material.training_data.domain, *material.training_data.general, *probe_examples(material)]
    for spec in run_specs(material, 1e12):
        if spec.role == Role.RECIPE:
            for step in islice(planned_run(material, spec).steps(), 40):
                examples += step
    return {example.id.partition(".")[0] for example in examples}


def ids(records: tuple[Record, ...] | list[Record]) -> set[str]:
    return {record.id for record in records}


@pytest.mark.parametrize("ships", [True, False], ids=["a pool that ships them", "a pool of one's own"])
def test_no_development_item_is_trained_on(ships, files, tiny_path, monkeypatch):  # noqa: F811
    shipped = shipped_pool(files, monkeypatch) if ships else None
    asked = plan(files, tiny_path, recipes=f"sft {DRAWING}", probe=True, batch_size=8)
    material, *_ = prepare(asked)
    trained = trained_on(material, asked)
    pool = ids(read_records(str(files / "general.json")))
    dev = ids(material.general_dev)
    assert len(trained & pool) >= 80  # the pool is trained on
    assert not trained & dev
    assert not trained & ids(material.dataset.dev) and not trained & ids(material.dataset.test)
    if shipped:
        assert dev == ids(read_records(str(shipped))) and not dev & pool
    else:
        assert dev and dev < pool
