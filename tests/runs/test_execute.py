"""A run as it is stored, read back from outside: whose weights were scored and saved, on what, and of which training.

Every check loads files with safetensors and transformers and computes what must stand beside them, so that it does not
depend on how the run was made.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.commands.compare import prepare
from harness.contract import Example, Weights
from harness.models.base_model import weights_hash
from harness.runs import execute as execution
from harness.runs.execute import execute
from harness.setup import evaluations
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec, run_specs
from harness.store.runs import RunFolder, RunStore
from harness.vocabulary import EvalKind, Role, Status
from tests.setup.test_material import plan

torch.set_num_threads(1)
STEPS = 6
ROW = "lora(r=4)+wise(alpha=0.5)"
"""Adapters that are folded, and weights that change once more at the end: what trains is not what is scored."""
ANOTHER = "f" * 16
"""The key of an evaluation that another comparison asked of the same run."""


@dataclass(frozen=True)
class Made:
    """Two recipes that were run and scored as processes of their own would do it."""

    material: Material
    plan: EvaluationPlan
    store: RunStore
    specs: dict[str, RunSpec]

    def folder(self, row: str) -> RunFolder:
        return self.store.run(self.specs[row].key)

    def scores(self, row: str, kind: EvalKind) -> pd.DataFrame:
        scores = self.folder(row).scores(kind, self.plan.keys[kind])
        assert scores is not None
        return scores

    def weights(self, row: str) -> Weights:
        return load_file(self.folder(row).weights)


def loaded(base: str | Path, weights: Weights | None = None) -> Any:
    """A model as transformers loads it, with these weights in place of its own."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if weights is not None:
        missing = model.load_state_dict(weights, strict=False).missing_keys
        assert set(missing) <= {"lm_head.weight"}  # tied
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Few records and items: a run is scored on all of them many times."""
    folder = tmp_path_factory.mktemp("few")
    domain = [{"instruction": f"Grade item number {i}", "output": "buy" if i % 2 else "sell"} for i in range(60)]
    general = [{"instruction": f"Echo the word w{i}", "output": f"w{i}"} for i in range(50)]
    suite = [{"id": str(i), "question": f"Say x{i}", "answer": f"x{i}"} for i in range(12)]
    for name, rows in (("domain", domain), ("general", general)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "echo.jsonl").write_text("\n".join(map(json.dumps, suite)))
    return folder


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """A sub-sample of so few items is a true part of all, and quickly scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluations, "CURVE", {"domain": 3, "general": 3, "drift": 2})
        patch.setattr(evaluations, "PATH", 3)
        yield


@pytest.fixture(scope="module")
def made(files, tiny_path, tmp_path_factory) -> Made:
    options = {"recipes": f"sft {ROW}", "budget": f"{STEPS}steps", "checkpoints": "0.5,1", "limit": 5, "seeds": 1}
    options |= {"precision": "float32", "learning_rate": 1e-2, "batch_size": 8, "keep": 10}
    material, evaluation, allowed = prepare(plan(files, tiny_path, **options))
    store = RunStore(tmp_path_factory.mktemp("store"))
    specs = {spec.row: spec for spec in run_specs(material, allowed) if spec.role == Role.RECIPE}
    kinds = (EvalKind.FINAL, EvalKind.PATH)
    specs = {row: dataclasses.replace(spec, kinds=kinds) for row, spec in specs.items()}
    for spec in specs.values():
        execute(spec, material, store, evaluation.open(material), lambda _: None)
        assert store.run(spec.key).read("status")["status"] == Status.DONE, store.run(spec.key).read("status")
    return Made(material, evaluation, store, specs)


def same(ours: pd.DataFrame, stored: pd.DataFrame) -> None:
    """Assert that two tables of scores hold the same items, answers and scores."""
    key = ["task", "metric", "item"]
    left, right = (table.sort_values(key, ignore_index=True) for table in (ours, stored))
    assert len(left) and left[[*key, "output"]].equals(right[[*key, "output"]])
    assert left["score"].to_numpy() == pytest.approx(right["score"].to_numpy(), abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("row", ["sft", ROW])
def test_the_stored_weights_are_the_ones_that_were_scored(made, tiny_path, row):
    weights = made.weights(row)
    told = made.folder(row).read("run")["happened"]["weights_hash"]
    assert told == weights_hash(weights) != weights_hash(dict(loaded(tiny_path).named_parameters()))
    same(made.plan.open(made.material).score(EvalKind.FINAL, loaded(tiny_path, weights)), made.scores(row, EvalKind.FINAL))


@pytest.mark.parametrize("row", ["sft", ROW])
def test_models_saved_at_the_end_and_on_the_way_are_the_ones_that_were_scored(made, row):
    end = loaded(made.folder(row).model(1.0))
    kept = made.weights(row)
    assert all(torch.equal(parameter, kept[name]) for name, parameter in end.named_parameters())

    curve = made.scores(row, EvalKind.CURVE)
    way = made.plan.open(made.material).score(EvalKind.CURVE, loaded(made.folder(row).model(0.5)))
    same(way, curve[curve["fraction"] == 0.5])
    losses = curve[curve["metric"] == "nll"].groupby("fraction")["score"].mean()
    assert losses.nunique() == len(losses) == 6  # each look saw other weights


def test_every_look_of_every_row_asks_the_same_items(made):
    asked = set()
    for row in made.specs:
        for _, look in made.scores(row, EvalKind.CURVE).groupby("fraction"):
            asked.add(frozenset(zip(look["task"], look["metric"], look["item"], strict=True)))
    (items,) = asked
    final = made.scores("sft", EvalKind.FINAL)
    assert items < set(zip(final["task"], final["metric"], final["item"], strict=True))
    for kind in (EvalKind.FINAL, EvalKind.PATH):
        one, two = (made.scores(row, kind)[["task", "metric", "item", "prompt", "target"]] for row in made.specs)
        assert one.equals(two)


def test_the_way_to_the_model_begins_at_the_base(made, tiny_path):
    start = dict(loaded(tiny_path).named_parameters())
    between = {name: start[name].detach().lerp(end, 0.4) for name, end in made.weights(ROW).items()}
    path = made.scores(ROW, EvalKind.PATH)
    scores = made.plan.open(made.material).score(EvalKind.PATH, loaded(tiny_path, between))
    same(scores, path[(path["alpha"] - 0.4).abs() < 1e-6])


def log_probabilities(model: Any, example: Example) -> tuple[Tensor, Tensor]:
    """(S, V) of an example's supervised tokens by the model alone, and (S,) those tokens."""
    places = [place for place, supervised in enumerate(example.supervised) if supervised and place]
    with torch.no_grad():
        logits = model(torch.tensor([example.tokens])).logits[0].double()
    return logits.log_softmax(-1)[[place - 1 for place in places]], torch.tensor([example.tokens[place] for place in places])


@pytest.mark.parametrize("group", ["domain", "general"])
def test_drift_is_measured_against_the_untouched_base(made, tiny_path, group):
    """By hand, from the stored weights and the base's own files."""
    material = made.material
    records = {"domain": material.dataset.test, "general": material.general_dev}[group]
    examples = {example.id: example for example in material.encode(records, group)}
    base, tuned = loaded(tiny_path), loaded(tiny_path, made.weights(ROW))
    scores = made.scores(ROW, EvalKind.FINAL).query(f"task == '{group}_held_out'")
    drifts = scores[scores["metric"] == "kl_to_base"].set_index("item")["score"]
    losses = scores[scores["metric"] == "nll"].set_index("item")["score"]
    assert len(drifts) >= 3 and (drifts > 1e-4).all()
    for item in drifts.index[:5]:
        before, labels = log_probabilities(base, examples[item])
        after, _ = log_probabilities(tuned, examples[item])
        assert drifts[item] == pytest.approx(float((before.exp() * (before - after)).sum(-1).mean()), rel=1e-3)
        assert losses[item] == pytest.approx(-float(after.gather(1, labels[:, None]).mean()), rel=1e-3)


def test_a_training_made_anew_keeps_no_score_of_the_earlier_one(made, tmp_path, monkeypatch, tiny_path):
    """On a GPU another training ends in other weights: here it is made to."""
    spec = dataclasses.replace(made.specs["sft"], kinds=(EvalKind.FINAL,), models=(1.0,))
    store = RunStore(tmp_path)
    folder = store.run(spec.key)
    shutil.copytree(made.folder("sft").path, folder.path)
    folder.write_scores(EvalKind.FINAL, ANOTHER, made.scores("sft", EvalKind.FINAL))
    folder.weights.unlink()
    folder.remove("status")

    def elsewhere(*arguments: Any, **options: Any) -> tuple[Weights, Any]:
        weights, progress = trained(*arguments, **options)
        return {name: 1.01 * tensor for name, tensor in weights.items()}, progress

    trained = execution.train
    monkeypatch.setattr(execution, "train", elsewhere)
    execute(spec, made.material, store, made.plan.open(made.material), lambda _: None)
    assert folder.status == Status.DONE
    assert weights_hash(load_file(folder.weights)) != weights_hash(made.weights("sft"))

    # What is left of scores and models is the new training's.
    final = folder.scores(EvalKind.FINAL, made.plan.keys[EvalKind.FINAL])
    assert final is not None and not final["score"].equals(made.scores("sft", EvalKind.FINAL)["score"])
    curve = folder.scores(EvalKind.CURVE, made.plan.keys[EvalKind.CURVE])
    assert curve is None
    assert sorted(path.name for path in folder.evaluations.glob("*.parquet")) == [
        f"final-{made.plan.keys[EvalKind.FINAL]}.parquet"
    ]
    assert [path.name for path in (folder.path / "models").iterdir()] == ["1"]
    assert folder.damages() == []


def test_a_training_made_anew_with_the_same_bits_loses_nothing(made, tmp_path):
    """Its weights were deleted and a new evaluation is asked: what other comparisons scored stays."""
    spec = dataclasses.replace(made.specs["sft"], kinds=(EvalKind.FINAL,))
    store = RunStore(tmp_path)
    folder = store.run(spec.key)
    shutil.copytree(made.folder("sft").path, folder.path)
    folder.write_scores(EvalKind.FINAL, ANOTHER, made.scores("sft", EvalKind.FINAL))
    folder.drop_scores(EvalKind.FINAL, made.plan.keys[EvalKind.FINAL])
    folder.weights.unlink()
    execute(spec, made.material, store, made.plan.open(made.material), lambda _: None)
    assert folder.status == Status.DONE and folder.has_scores(EvalKind.FINAL, ANOTHER)
    assert weights_hash(load_file(folder.weights)) == weights_hash(made.weights("sft"))
    assert sorted(path.name for path in (folder.path / "models").iterdir()) == ["0.5", "1"]
