"""What runs on a GPU, on a pretended one: tests/training/test_devices.py runs this file in a process of its own.

Everything must be computed where it belongs, and come out with the bits of the CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import harness.training.run_state
from harness.commands.compare import prepare
from harness.commands.data import DataFile
from harness.contract import Method
from harness.evaluation import lm_eval_model
from harness.losses import pieces
from harness.models import placement, short_documents
from harness.models.base_model import weights_hash
from harness.plan.load import make_plan
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.runs import execute
from harness.setup.specs import run_specs
from harness.store.runs import RunStore
from harness.training.engine import TrainedModel
from harness.training.protocol import TrainingData, stage_ends
from harness.training.run import TrainingRun
from harness.vocabulary import EvalKind
from tests.support.fake_gpu import NAME, register
from tests.support.training import SHORTER, examples, make_run, state_of, trained, trained_model

CPU, GPU = torch.device("cpu"), register()
ELSEWHERE = {"qlora", "oft", "osf"}
"""Methods that are not tried here. `qlora` has kernels of its own for a GPU, which nothing pretends. Open: peft's layer of
`oft` fills a matrix in a way that the pretended device refuses, and `osf` ends with other bits on it than on the CPU."""
VARIANTS = [
    "dora+nlirg",
    "early_stop(epsilon=100)+wise",
    "ewc(fisher=empirical, samples=3)+lora",
    "freeze(which=important)",
    "kl(on=general)+l2sp+replay",
    "lora+wd",
    "moe(balance=0.1)+adapter",
    "nlirg(scale=quantile, shuffled=True)",
    "nlirg(token_batch=3)",
    "replay_self(start=prompts, size=6, length=8)",
    "sort(by=similarity)",
]
PLAIN = ["", *(SHORTER.get(name, name) for name in sorted(methods().keys() - ELSEWHERE))]
RECIPES = PLAIN + VARIANTS
LEARNING = [text for text in RECIPES if any(type(m).state is not Method.state for m in parse_recipe(text).methods)]
"""Recipes with something to remember beside the weights."""
KILLED = ["", "adapter", *LEARNING]
"""Recipes that are killed and resumed on the device: what they end with has the CPU's bits, undisturbed there."""


@pytest.fixture(autouse=True)
def alike(monkeypatch):
    """The CPU's sizes of batches on the device, and on both the one attention that they share."""
    monkeypatch.setitem(harness.training.run_state.OVERHEAD, NAME, harness.training.run_state.OVERHEAD["cpu"])
    monkeypatch.setitem(pieces.LOGITS_AT_ONCE, NAME, pieces.LOGITS_AT_ONCE["cpu"])
    monkeypatch.setitem(placement.TOKENS, NAME, placement.TOKENS["cpu"])
    monkeypatch.setitem(lm_eval_model.CACHE_PASSES, NAME, lm_eval_model.CACHE_PASSES["cpu"])
    monkeypatch.setattr(harness.training.run_state, "SHORT", 0)
    monkeypatch.setattr(short_documents, "SHORT", 0)
    monkeypatch.setattr(placement, "memory_of", lambda device: (8e10, 8e10))
    with sdpa_kernel(SDPBackend.MATH):
        yield


def run_on(device: torch.device, base, recipe: str, **changes: Any):
    run = make_run(base, recipe, **{"allowed": 4, "precision": "bfloat16"} | changes)
    run.data = TrainingData(run.data.domain[:24], run.data.general[:8])
    run.device = device
    return run


def stay(run) -> None:
    """Model, masters and moments are where the run is."""
    moments: list[Any] = []
    for state in state_of(run).optimizer.state.values():
        moments += state.values()
    held = [*trained_model(run).parameters(), *trained_model(run).buffers(), *state_of(run).masters.tensors, *moments]
    assert moments and {tensor.device for tensor in held} == {run.device}


# --- training ---------------------------------------------------------------------------------------------------------


def same_bits(recipe: str, base, folder: Path, **changes: Any) -> None:
    """Two steps on both devices end with the same weights."""
    found = []
    for device in (CPU, GPU):
        run = run_on(device, base, recipe, allowed=2, **changes)
        found.append(weights_hash(trained(run, folder / device.type)[0]))
        stay(run)
    assert found[0] == found[1]


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in KILLED])
def test_training_has_the_bits_of_the_cpu(recipe, base, tmp_path):
    same_bits(recipe, base, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [text for text in PLAIN if all(m.adds != "tokens" for m in parse_recipe(text).methods)])
def test_training_packed_has_the_bits_of_the_cpu(recipe, base, tmp_path):
    same_bits(recipe, base, tmp_path, pack_length=64)


@pytest.mark.parametrize("changes", [{"precision": "float32"}, {"checkpointing": True}, {"weight_decay": 0.1}], ids=str)
def test_training_otherwise_has_the_bits_of_the_cpu(changes, base, tmp_path):
    same_bits("ewc(samples=3)+lora", base, tmp_path, **changes)


def test_training_goes_on_after_memory_ran_out(base, tmp_path, monkeypatch):
    run = run_on(GPU, base, "")
    forward, failed = TrainingRun.features, []

    def features(self, model, batch):
        if batch.tokens.numel() > 60 and not failed:
            failed.append(batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, model, batch)

    monkeypatch.setattr(TrainingRun, "features", features)
    trained(run, tmp_path)
    assert failed and run.position.room == 48
    stay(run)


class Killed(Exception):
    pass


def killed_and_resumed(make, folder: Path, after: int):
    """(the resumed run, its weights): a checkpoint a step, and none after so many."""
    run = make()

    class Dying(TrainedModel):
        def save(self, *arguments: Any) -> None:
            super().save(*arguments)
            if run.ledger.steps == after:
                raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("harness.training.engine.TrainedModel", Dying)
        trained(run, folder, checkpoint_every=0.0)
    run = make()
    return run, trained(run, folder)[0]


@pytest.mark.parametrize("recipe", KILLED)
def test_a_killed_training_resumes_with_the_bits_of_the_cpu(recipe, base, tmp_path):
    def make(device: torch.device = GPU):
        return run_on(device, base, recipe, allowed=3)

    whole, _ = trained(make(CPU), tmp_path / "whole")
    run, found = killed_and_resumed(make, tmp_path / "killed", 2)
    stay(run)
    assert weights_hash(found) == weights_hash(whole)


def test_weights_kept_for_a_breach_are_the_hosts_after_a_resume_too(base, tmp_path):
    """`wise` then goes from them to the base's, which are there."""

    def make():
        run = run_on(GPU, base, "early_stop(epsilon=0, evaluations=4)+wise")
        run.open_dev = lambda: lambda model: -float(run.budget_spent > 0.7)
        return run

    run, _ = killed_and_resumed(make, tmp_path, 2)
    kept = next(method.kept_ for method in run.methods if type(method).__name__ == "EarlyStop")
    assert kept and {tensor.device for tensor in kept.values()} == {CPU}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["", "ewc_online(samples=3)", "si_multi", "sort", "lora+ewc_online(samples=3)"])
@pytest.mark.parametrize("after", [None, 3, 5])
def test_stages_have_the_bits_of_the_cpu(recipe, after, base, tmp_path):
    data = examples(16) + tuple(dataclasses.replace(example, stage=2) for example in examples(16, seed=1))

    def make(device: torch.device = GPU):
        run = run_on(device, base, recipe, allowed=8)
        run.data = TrainingData(data, run.data.general)
        run.ends = stage_ends(data)
        run.enter(1)
        return run

    wanted, _ = trained(make(CPU), tmp_path / "cpu")
    found = killed_and_resumed(make, tmp_path / "gpu", after)[1] if after else trained(make(), tmp_path / "gpu")[0]
    assert weights_hash(found) == weights_hash(wanted)


# --- scoring ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tiny_path, tmp_path_factory) -> dict[str, Any]:
    """A comparison with every way to score, on little data."""
    folder = tmp_path_factory.mktemp("asked")
    words = ["".join(letters) for letters in itertools.product("abcdef", "ghij", "klmno")]
    rows = {
        "domain.json": [{"instruction": f"Grade {word}", "output": "buy" if i % 2 else "sell"} for i, word in enumerate(words)],
        "general.json": [{"instruction": f"Say {word}", "output": word} for word in words],
        "suites/echo.jsonl": [{"question": f"Echo {word[:2]} {i}", "answer": word[:2]} for i, word in enumerate(words[:12])],
        "suites/pick.jsonl": [{"question": f"Which {i}?", "choices": ["abc", "xyz w"], "answer": "A"} for i in range(12)],
        "suites/pair.jsonl": [{"question": "", "choices": [f"a {word}", f"{word} a"], "answer": "A"} for word in words[:6]],
        "suites/text.jsonl": [{"text": f"Once {word} was told."} for word in words[:6]],
    }
    (folder / "suites").mkdir()
    for name, found in rows.items():
        text = json.dumps(found) if name.endswith(".json") else "\n".join(map(json.dumps, found))
        (folder / name).write_text(text)
    places = {"data": str(folder / "domain.json"), "general": str(folder / "general.json"), "suites": str(folder / "suites")}
    settings = {"budget": "4steps", "max_length": 64, "batch_size": 8, "learning_rate": 3e-3, "limit": 6, "probe": True}
    return places | settings | {"model": tiny_path, "out": str(folder / "out"), "precision": "bfloat16"}


def scores_of(recipes: str, device: torch.device, asked: dict[str, Any], root: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Row -> kind -> item scores of a whole comparison, in this process."""
    material, plan, allowed = prepare(make_plan(asked | {"recipes": recipes}))
    material = dataclasses.replace(material, plan=dataclasses.replace(material.plan, device=str(device)))
    store, found = RunStore(root), {}
    for spec in run_specs(material, allowed):
        execute.execute(spec, material, store, plan.open(material), lambda _: None)
        run = store.run(spec.key)
        assert run.status == "done", run.read("status")
        found[spec.row] = {kind: run.scores(kind, plan.keys[kind]) for kind in (*spec.kinds, EvalKind.CURVE)}
    return found


@pytest.mark.slow
def test_whole_runs_have_the_scores_of_the_cpu(asked, tmp_path):
    recipes = "lora+early_stop adapter prefix"
    wanted, found = (scores_of(recipes, device, asked, tmp_path / device.type) for device in (CPU, GPU))
    assert wanted.keys() == found.keys() > set(recipes.split())
    for row, kinds in wanted.items():
        for kind, scores in kinds.items():
            assert (scores is None) == (found[row][kind] is None), (row, kind)
            if scores is not None:
                pd.testing.assert_frame_equal(found[row][kind], scores, check_exact=True)


@pytest.mark.parametrize("blocks", [0, 1])
def test_blocks_that_visit_the_device_have_the_scores_of_the_cpu(blocks, base):
    model = base.load(torch.float32)
    own = placement.blocks_of(model)
    room = placement.size_of(model) - placement.size_of(own) + blocks * placement.size_of(own[0])
    there = placement.spread(model, GPU, room)
    asked = [lm_eval_model.Continuation((5, 6, 7), (8, 9)), lm_eval_model.Continuation((5, 6), (9, 9, 9))]
    wanted, found = (lm_eval_model.likelihood.score(scored, asked, 64, 64) for scored in (model, there))
    assert found == wanted


def test_what_the_base_makes_of_a_file_has_the_bits_of_the_cpu(asked):
    files = [DataFile(asked["data"], asked["model"]) for _ in range(2)]
    files[1].device = GPU
    assert torch.equal(files[1].reading.suspicion, files[0].reading.suspicion)
