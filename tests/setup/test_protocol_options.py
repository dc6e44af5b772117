"""Options of published comparisons: a plain form in place of the chat template, loss on prompts, and PEFT's whole protocol."""

from __future__ import annotations

import json

import pytest
import torch

from harness.errors import PlanError
from harness.files.turns import Turn
from harness.models.base_model import weights_hash
from harness.plan.load import make_plan
from harness.runs.laws import Workshop
from harness.setup.material import gather
from harness.setup.specs import run_specs
from harness.setup.suite_tasks import load_tasks
from harness.tokens.chat_template import ChatTemplate
from harness.tokens.plain_form import plain_form
from harness.training.ledger import Ledger
from harness.training.run import PlannedRun

FORM = "Question: {question}\\nAnswer:"


@pytest.fixture
def sums(tmp_path):
    """A data file of forty sums, with the fields of MetaMathQA."""
    rows = [{"query": f"{a} plus {a + 1}?", "response": str(2 * a + 1)} for a in range(40)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "sums.jsonl")


def gathered(sums, tiny_path, tmp_path, **more):
    asked = {"data": sums, "model": tiny_path, "suites": sums_suite(tmp_path), "out": str(tmp_path / "out"), "recipes": "sft"}
    return gather(make_plan(asked | more))


def sums_suite(folder) -> str:
    rows = [{"id": str(a), "question": f"Half of {2 * a}?", "answer": str(a)} for a in range(30)]
    (folder / "halves.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "halves.jsonl")


@pytest.mark.parametrize(
    "form, turns, wanted",
    [
        (FORM, ["2+2?"], "Question: 2+2?\nAnswer:"),
        ("Q: {question}\n", ["a", "b", "c"], "Q: a\nb</s>\n\nQ: c\n"),
        ('{{ "x" }} {question}\'s', ["why"], '{{ "x" }} why\'s'),
    ],
)
def test_a_plain_form_stands_as_it_is_written(form, turns, wanted, base):
    import copy

    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = plain_form(form)
    roles = ("user", "assistant", "user")
    template = ChatTemplate(tokenizer)
    prompt = template.encode_prompt([Turn(role, text) for role, text in zip(roles, turns, strict=False)])
    assert tokenizer.decode(prompt) == wanted


def test_domain_is_trained_and_asked_in_the_plain_form_and_on_prompts(sums, tiny_path, tmp_path):
    plain = gathered(sums, tiny_path, tmp_path)
    formed = gathered(sums, tiny_path, tmp_path, template=FORM)
    whole = gathered(sums, tiny_path, tmp_path, template=FORM, prompt_loss=True)
    decode = formed.base.tokenizer.decode
    told = {decode(example.tokens) for example in formed.training_data.domain}
    assert "Question: 3 plus 4?\nAnswer: 7</s>" in told
    answers = {decode([t for t, on in zip(e.tokens, e.supervised, strict=True) if on]) for e in formed.training_data.domain}
    assert " 7</s>" in answers
    assert all(all(example.supervised) for example in whole.training_data.domain)
    assert [e.tokens for e in whole.training_data.domain] == [e.tokens for e in formed.training_data.domain]
    asked = formed.template.encode_prompt([Turn("user", "Half of 4?")])
    assert decode(asked) == "Question: Half of 4?\nAnswer:"
    keys = [run_specs(material, 1e9)[-1].key for material in (plain, formed, whole)]
    assert len(set(keys)) == 3


def test_a_form_without_its_question_and_a_form_of_plain_texts_are_refused(sums, tmp_path):
    with pytest.raises(PlanError, match=r"write \{question\} in it once"):
        make_plan({"data": sums, "template": "Question:"})
    with pytest.raises(PlanError, match="prompt_loss is about questions and answers"):
        make_plan({"data": sums, "mode": "cpt", "prompt_loss": True})


def test_pefts_protocol_trains_every_one_of_its_methods(sums, tiny_path, tmp_path):
    """On a tiny model: the values of the plan, the form of its texts, and two steps of each recipe."""
    asked = {"data": sums, "model": tiny_path, "suites": sums_suite(tmp_path), "out": str(tmp_path / "out"), "device": "cpu"}
    recipes = make_plan({}, "peft-metamath").recipes.replace("r=32", "r=8").replace("preserved=128", "preserved=10")
    material = gather(make_plan(asked | {"recipes": recipes, "precision": "float32"}, "peft-metamath"))
    plan = material.plan
    assert (plan.batch_size, plan.budget, plan.weight_decay, plan.warmup, plan.clip) == (4, "5000steps", 0.1, 0.1, 1.0)
    assert plan.max_length == 768 or plan.max_length == material.base.max_length
    told = {material.base.tokenizer.decode(example.tokens) for example in material.training_data.domain}
    assert "Question: 3 plus 4? Think step by step.\nAnswer: 7</s>" in told
    specs = [spec for spec in run_specs(material, 5000) if spec.role == "recipe"]
    assert [spec.recipe.partition("(")[0] for spec in specs] == ["sft", "lora", "dora", "oft", "osf", "prefix"]
    rates = [spec.training.learning_rate for spec in specs]
    assert rates == [1e-5, 1e-4, 1e-4, 1e-4, 5e-5, 1e-3]
    for recipe, spec in zip(material.recipes, specs, strict=True):
        run = PlannedRun(material.base, material.training_data, recipe.methods, spec.training, Ledger("steps", 2), 0)
        weights, progress = Workshop(material.base, tmp_path).trained(run)
        assert progress.steps == 2 and weights_hash(weights) != material.base.hash
        assert all(tensor.isfinite().all() for tensor in weights.values()) and torch.is_tensor(next(iter(weights.values())))


ARENA = {
    "ifeval": {"key": "1", "prompt": "Say no.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    "nq_open": {"question": "who sat on the mat", "answer": ["cat"]},
    "bbh": {"input": "not ( True ) is", "target": "False", "subject": "boolean_expressions"},
}
"""A row of each of PEFT-Arena's general benchmarks."""


def test_peft_arenas_scoring_is_ready_by_name(sums, tiny_path, tmp_path):
    """On a tiny model, from local files: what is asked under its target and its general ability."""
    folder = tmp_path / "arena"
    folder.mkdir()
    for name, row in ARENA.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    tests = []
    for name in ("math500", "amc23", "aime24"):
        rows = [{"question": f"{name}: {a} + {a}?", "answer": str(2 * a)} for a in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        tests.append(str(tmp_path / f"{name}.jsonl"))
    asked = {"data": sums, "test": "+".join(tests), "model": tiny_path, "suites": f"peft-arena:{folder}", "device": "cpu"}
    asked |= {"precision": "float32", "out": str(tmp_path / "out")}
    material = gather(make_plan(asked, "peft-arena"))
    assert [recipe.names for recipe in material.recipes] == [("sft",), ("lora",), ("oft",), ("pissa",), ("keeplora",)]
    tasks = load_tasks(material)
    assert sorted(task.family for task in tasks if task.group == "general") == ["bbh", "ifeval", "nq_open"]
    target = {task.name: task.metric for task in tasks if task.group == "domain"}
    assert len(target) == 3 and set(target.values()) == {"numeric"}
