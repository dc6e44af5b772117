"""Runs inherit what their server has loaded and made ready, and end as runs that loaded it themselves."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from harness.commands.compare import prepare
from harness.errors import PlanError
from harness.models.base_model import copied, plain_weights, weights_hash
from harness.models.batches import collate
from harness.plan.load import make_plan
from harness.runs.execute import execute
from harness.setup.evaluations import EvaluationPlan
from harness.setup.specs import run_specs
from harness.setup.suite_tasks import load_tasks
from harness.store.runs import RunStore
from tests.support.training import small_files

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def asked(tiny_path, tmp_path_factory):
    """Material, evaluations and specs of a comparison of methods that need the base in different ways."""
    folder = tmp_path_factory.mktemp("asked")
    general = [{"instruction": f"Say {word}", "input": "", "output": word} for word in map(str, range(100, 160))]
    (folder / "general.json").write_text(json.dumps(general))
    places = small_files(folder, 60) | {"general": str(folder / "general.json"), "out": str(folder / "results")}
    settings = {
        "limit": 2,
        "recipes": "lora distill ewc(samples=4)+wise prompt",
        "budget": "2steps",
        "max_length": 64,
        "precision": "bfloat16",
    }
    # Short answers: a tiny model hardly ever ends its own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.evaluation.free_answers.LIMIT", 8)
        material, evaluation, allowed = prepare(make_plan({"model": tiny_path, **places, **settings}))
        yield material, evaluation, run_specs(material, allowed)


def results(specs, material, evaluation, root):
    """Weights and item scores of every run."""
    store, found = RunStore(root), {}
    for spec in specs:
        execute(spec, material, store, evaluation, lambda _: None)
        run = store.run(spec.key)
        assert run.status == "done", run.read("status")
        weights = run.read("run")["happened"]["weights_hash"]
        found[spec.row] = weights, {path.name: path.read_bytes() for path in sorted(run.path.glob("evals/*"))}
    return found


def test_runs_that_inherit_the_base_load_nothing_and_end_with_the_same_bits(asked, tmp_path, monkeypatch):
    material, plan, specs = asked
    loaded = results(specs, material, plan.open(material), tmp_path / "loaded")
    own = pickle.loads(pickle.dumps(material))  # as a server receives it
    ready = plan.open(own).prepare()
    monkeypatch.setattr("harness.models.base_model.load_model", lambda path, *_: pytest.fail(f"{path} is loaded again"))
    monkeypatch.setattr("harness.setup.evaluations.load_tasks", lambda _: pytest.fail("tasks are built again"))
    assert results(specs, own, ready, tmp_path / "inherited") == loaded
    assert weights_hash(plain_weights(own.base.original(torch.float32))) == own.base.hash  # no run has written to it


def test_nothing_runs_where_held_out_losses_are_not_the_models_own(asked, monkeypatch):
    """Planted fault: targets are read one place too late."""

    def unshifted(examples, device="cpu"):
        batch = collate(examples, device)
        return replace(batch, places=batch.places + 1)

    monkeypatch.setattr("harness.evaluation.drift.collate", unshifted)
    with pytest.raises(RuntimeError, match="targets are not shifted by one"):
        EvaluationPlan.make(asked[0], load_tasks(asked[0]))


def test_a_held_model_is_not_sent_along_nor_taken_for_another(asked):
    base = replace(asked[0].base)
    base.hold(torch.float32)
    assert base.original(torch.float32) is base.original(torch.float32)
    assert len(pickle.dumps(base)) < 4 * base.parameters
    other = replace(base, path="elsewhere")
    with pytest.raises(PlanError, match="elsewhere"):
        other.load(torch.float32)


def test_a_copy_is_a_model_of_its_own_whose_tied_weights_stay_tied(asked):
    model = asked[0].base.load(torch.float32)
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    twin = copied(model, "cpu")
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().weight
    assert weights_hash(plain_weights(twin)) == weights_hash(plain_weights(model))
    with torch.no_grad():
        twin.get_input_embeddings().weight.zero_()
    twin.config.use_cache = False
    assert model.get_input_embeddings().weight.any() and model.config.use_cache


def test_a_server_is_ready_to_fork_without_having_set_up_cuda(asked, tmp_path):
    """CUDA that is set up before a fork is of no use after it; importing a library can be enough."""
    (tmp_path / "asked").write_bytes(pickle.dumps(asked[:2]))
    watched = [sys.executable, "-W", "ignore", "-m", "tests.support.watched", str(tmp_path / "asked")]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
