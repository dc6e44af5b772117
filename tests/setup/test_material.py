"""What a plan amounts to: examples, notes, run keys, and what is kept out of training."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from harness.commands.compare import prepare
from harness.errors import PlanError
from harness.plan.load import make_plan
from harness.plan.settings import Settings, default_rate
from harness.setup.material import gather
from harness.setup.specs import run_specs


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    domain = [{"instruction": f"Grade item number {i}", "output": "buy" if i % 2 else "sell"} for i in range(300)]
    general = [{"instruction": f"Echo the word w{i}", "output": f"w{i}"} for i in range(100)]
    suite = [{"id": str(i), "question": f"ECHO the  word w{i}", "answer": f"w{i}"} for i in range(90, 130)]
    for name, rows in (("domain", domain), ("general", general)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "echo.jsonl").write_text("\n".join(map(json.dumps, suite)))
    return folder


def plan(files, tiny_path, **more):
    fixed = {"data": str(files / "domain.json"), "model": tiny_path, "suites": str(files / "echo.jsonl"), "max_length": 64}
    return make_plan({**fixed, "general": str(files / "general.json"), "recipes": "sft", "out": str(files / "out"), **more})


def test_retention_items_never_reach_training(files, tiny_path):
    """Ten pool records ask what the suite asks, in other case and spacing: they are left out, and it is said."""
    before = gather(plan(files, tiny_path))
    material, *_ = prepare(plan(files, tiny_path))
    asked = {f"Echo the word w{i}" for i in range(90, 100)}
    leaked = {record.id for record in (*before.pool, *before.general_dev) if record.messages[0].content in asked}
    kept = {e.id for e in material.training_data.general} | {record.id for record in material.general_dev}
    assert len(leaked) == 10 and len(kept) == 90 and not leaked & kept
    assert any("10 general records ask what a general suite asks" in note for note in material.notes)


def test_a_final_only_plan_asks_for_scores_of_finished_models_alone(files, tiny_path):
    whole, short = (run_specs(gather(plan(files, tiny_path, final_only=only)), 1e9) for only in (False, True))
    assert {spec.kinds for spec in whole} == {("final", "quality", "path")}
    assert {spec.kinds for spec in short} == {("final", "quality")}
    assert [spec.key for spec in whole] == [spec.key for spec in short]  # the same runs, less to score


def test_recipes_without_their_data_are_left_out_with_a_note(files, tiny_path):
    material = gather(plan(files, tiny_path, general=None, recipes="sft mix lora+replay"))
    assert [recipe.text for recipe in material.recipes] == ["sft"]
    assert any("mix is left out: it needs general data" in note for note in material.notes)


def test_nothing_left_to_run_is_refused(files, tiny_path):
    with pytest.raises(PlanError, match="mix is left out: it needs general data"):
        gather(plan(files, tiny_path, general=None, recipes="mix"))


def keys(files, tiny_path, **more):
    return [spec.key for spec in run_specs(gather(plan(files, tiny_path, **more)), 1e9)]


def test_equal_questions_are_one_run(files, tiny_path):
    assert keys(files, tiny_path, recipes="ewc+nlirg") == keys(files, tiny_path, recipes="nlirg+ewc")


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-4}, {"batch_size": 16}, {"threads": 2}, {"precision": "float32"}, {"max_length": 20}]
)
def test_another_question_is_another_run_but_the_same_base(files, tiny_path, change):
    fixed = {"precision": "bfloat16"}
    one, two = keys(files, tiny_path, **fixed), keys(files, tiny_path, **{**fixed, **change})
    assert one[0] == two[0] and one[2] != two[2]


def test_seeds_are_runs_of_their_own(files, tiny_path):
    found = keys(files, tiny_path, seeds=3)
    assert len(set(found)) == 5


@pytest.mark.parametrize("parameters, rate", [(10**9, 2e-5), (8 * 10**9, 7.07e-6), (1_000, 1e-3)])
def test_default_learning_rate(parameters, rate):
    assert default_rate(parameters) == pytest.approx(rate, rel=1e-3)


def test_budget_and_meter_that_disagree(files, tiny_path):
    with pytest.raises(PlanError, match="in seconds but meter is flops"):
        gather(plan(files, tiny_path, budget="60s", meter="flops"))


def test_a_model_that_is_not_there(files, tiny_path):
    with pytest.raises(PlanError, match="give the folder of a Hugging Face checkpoint"):
        gather(plan(files, str(files / "nowhere")))


def test_dev_decisions_never_touch_a_test_item(files, tiny_path, tmp_path):
    """A suite that asks what most of the pool asks: the dev items that it asks too are gone."""
    from harness.evaluation.item_rows import headline

    suite = [{"id": str(i), "question": f"Echo the WORD w{i}", "answer": f"w{i}"} for i in range(70)]
    (tmp_path / "echo.jsonl").write_text("\n".join(map(json.dumps, suite)))
    asked_for = plan(files, tiny_path, recipes="early_stop", suites=str(tmp_path / "echo.jsonl"))
    material, plan_, _ = prepare(asked_for)
    assert 0 < len(material.general_dev) < len(gather(asked_for).general_dev)
    evaluation = plan_.open(material)
    dev, final = evaluation.evaluator("retention"), evaluation.evaluator("final")
    prompts = [{" ".join(str(i.args[0]).casefold().split()) for t in e.tasks for i in t.instances} for e in (dev, final)]
    ids = [{t.ids[place] for t in e.tasks for place in t.docs} for e in (dev, final)]
    assert prompts[0] and prompts[1] and not prompts[0] & prompts[1] and not ids[0] & ids[1]
    assert {t.spec.group for t in dev.tasks} == {"general"}
    asked = {turn.content for record in material.general_dev for turn in record.messages if turn.role == "user"}
    assert len(dev.tasks[0].docs) == len(asked) and all(any(a.casefold() in p for a in asked) for p in prompts[0])
    model = material.base.load(torch.float32)
    assert evaluation.open_dev()(model) == headline(dev.score(model))["retention"]
    with_dev = next(spec for spec in run_specs(material, 1.0) if spec.role == "recipe")
    assert with_dev.question.fields["general_dev"] == [record.id for record in material.general_dev]


def test_what_decides_on_dev_items_is_left_out_without_them(files, tiny_path, tmp_path):
    (tmp_path / "few.json").write_text(json.dumps([{"instruction": f"Say {i}", "output": "yes"} for i in range(9)]))
    material = gather(plan(files, tiny_path, recipes="sft early_stop mix", general=str(tmp_path / "few.json")))
    assert [recipe.text for recipe in material.recipes] == ["sft", "mix"]
    assert any(note.startswith("early_stop is left out") for note in material.notes)


def test_what_does_not_begin_as_the_base_gets_an_untrained_row(files, tiny_path):
    """Once for each such wrapping, whatever else is in the recipe; and the report says so."""
    material = gather(plan(files, tiny_path, recipes="qlora ewc+qlora qlora(r=4)+nlirg lora prompt"))
    specs = [spec for spec in run_specs(material, 1e9) if spec.role == "untrained"]
    assert [spec.row for spec in specs] == ["qlora, untrained", "qlora(r=4), untrained", "prompt, untrained"]
    assert all(spec.allowed == 0 for spec in specs)
    assert any("qlora does not begin as the base: its linear layers are quantised" in note for note in material.notes)


OPEN = {"test", "general", "rules", "answer_format", "pack_length", "limit", "domain_metric", "gpu", "devices", "deepspeed"}
OPEN |= {"workers", "ray", "checkpoints", "require", "tensorboard", "template", "measured"}


def test_below_the_plan_only_what_a_comparison_lacks_is_none(files, tiny_path):
    """Whoever adds an option whose default depends on something resolves it in harness/setup/resolve.py."""
    asked = plan(files, tiny_path)
    settings = gather(asked).plan
    assert isinstance(settings, Settings) and asked.learning_rate is None and settings.learning_rate > 0
    options = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    assert {name for name, value in options.items() if value is None} <= OPEN
    assert options.keys() == {field.name for field in dataclasses.fields(asked)}, "so that its record is one of a plan"


def test_conversations_are_packed_by_default_but_not_behind_virtual_tokens(files, tiny_path):
    material = gather(plan(files, tiny_path, recipes="sft prefix"))
    assert material.plan.pack_length == 2048
    packed = {spec.row: spec.training.pack_length for spec in run_specs(material, 1e9) if spec.role == "recipe"}
    assert packed == {"sft": material.plan.pack_length, "prefix": None}
    assert gather(plan(files, tiny_path, pack_length=0)).plan.pack_length == 0
    assert gather(plan(files, tiny_path, compile=True)).plan.pack_length is None


def test_models_that_cannot_be_packed_are_padded(files, tiny_path, monkeypatch):
    monkeypatch.setattr("harness.setup.resolve.attention_span", lambda _: 8)
    assert gather(plan(files, tiny_path)).plan.pack_length is None
    monkeypatch.undo()

    def refuse(_):
        raise PlanError("they see each other")

    monkeypatch.setattr("harness.setup.resolve.check_packing", refuse)
    assert gather(plan(files, tiny_path)).plan.pack_length is None
    with pytest.raises(PlanError, match="see each other"):
        gather(plan(files, tiny_path, pack_length=128))


def test_added_parts_are_not_saved_as_models(files, tiny_path):
    material = gather(plan(files, tiny_path, recipes="sft adapter", checkpoints="1"))
    assert any(note.startswith("No models of adapter are saved") for note in material.notes)
    assert {spec.row: spec.models for spec in run_specs(material, 1e9)} == {
        "base": (),
        "zero budget": (),
        "sft": (1.0,),
        "adapter": (),
    }


def test_models_are_scored_in_fp32_where_the_gpu_has_room_for_it(files, tiny_path, monkeypatch):
    found = [gather(plan(files, tiny_path, **more)).plan.scoring for more in ({}, {"gpu": "4090"}, {"scoring": "bfloat16"})]
    assert found == ["float32", "float32", "bfloat16"]
    monkeypatch.setattr("harness.setup.machine.SCORED", 1e9)
    found = [gather(plan(files, tiny_path, **more)).plan.scoring for more in ({}, {"gpu": "4090"})]
    assert found == ["float32", "bfloat16"], "without a GPU it is fp32 whatever the size"
