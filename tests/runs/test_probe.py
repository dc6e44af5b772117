"""The recovery probe: the one training loop on a copy, on pool examples only, the same bits each time, nothing charged."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from harness.commands.compare import prepare
from harness.errors import PlanError
from harness.models.base_model import plain_weights
from harness.runs.probe import probe
from harness.runs.run_scores import Scoring
from harness.setup.probe_examples import EPOCHS, EXAMPLES, probe_examples
from harness.setup.specs import run_specs
from harness.store.runs import RunStore
from tests.setup.test_material import files, plan  # noqa: F401

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def prepared(files, tiny_path):  # noqa: F811
    settings = {"precision": "float32", "learning_rate": 3e-3, "recipes": "sft prefix", "probe": True}
    return prepare(plan(files, tiny_path, **settings))


def test_fifty_pool_examples_none_of_them_dev_or_test(prepared):
    material = prepared[0]
    found = probe_examples(material)
    assert len(found) == EXAMPLES == 50 and found == probe_examples(material)
    dev = {record.id for record in material.general_dev}
    assert all(example.source == "general" and example.id not in dev for example in found)


def test_it_trains_a_copy_the_same_way_each_time_and_says_what_it_cost(prepared):
    material = prepared[0]
    few = dataclasses.replace(material.training_data, general=material.training_data.general[:12])
    material = dataclasses.replace(material, training_data=few)
    start = plain_weights(material.base.load(torch.float32))
    before = {name: tensor.clone() for name, tensor in start.items()}
    one, cost = probe(material, start)
    two, _ = probe(material, start)
    assert all(torch.equal(one[name], two[name]) for name in one) and one.keys() == start.keys()
    assert all(torch.equal(before[name], start[name]) for name in start)
    assert any(not torch.equal(one[name], start[name]) for name in one)
    assert cost["examples"] == 12 and cost["ledger"]["steps"] == EPOCHS * 2
    assert cost["ledger"]["flops"] > 0 and set(cost["ledger"]["tokens"]) == {"general"}


def test_what_does_not_fold_is_not_probed(prepared):
    material, evaluation, _ = prepared
    specs = {spec.row: spec for spec in run_specs(material, 1e9)}
    assert [row for row, spec in specs.items() if "probe" in spec.kinds] == ["base", "sft"]
    assert "probe" in evaluation.keys


def test_the_store_has_scores_after_it_and_its_cost(prepared, tmp_path):
    material, evaluation, _ = prepared
    few = dataclasses.replace(material.training_data, general=material.training_data.general[:10])
    material = dataclasses.replace(material, training_data=few)
    spec = next(spec for spec in run_specs(material, 1e9) if spec.row == "sft")
    folder = RunStore(tmp_path).run(spec.key)
    scoring = Scoring(dataclasses.replace(spec, kinds=("probe",)), material, folder, evaluation.open(material))
    scoring.score(plain_weights(material.base.load(torch.float32)), lambda _: None)
    scores = folder.scores("probe", evaluation.keys["probe"])
    assert scores is not None and set(scores["group"]) == {"general"} and scoring.complete
    assert folder.read("probe")["examples"] == 10


def test_without_general_data_it_is_refused(files, tiny_path):  # noqa: F811
    with pytest.raises(PlanError, match="probe needs general data"):
        prepare(plan(files, tiny_path, general=None, probe=True))
