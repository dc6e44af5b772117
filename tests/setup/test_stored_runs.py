"""A run that was stored on 30 November 2026 (version 0.2.0, protocol 3) is found under the key that it had then.

What depends on the machine, the model and the data is put in; names, structure and all else are the code's. Whoever changes
what a question says makes every user train everything again: then PROTOCOL rises, and this test changes with it.
"""

from __future__ import annotations

import json

import pytest

from harness.plan.load import make_plan
from harness.setup.material import gather
from harness.setup.specs import run_specs
from harness.store.question import Question
from harness.store.schema import key_of

TRAINING = {
    "learning_rate": 0.001,
    "batch_size": 32,
    "micro_tokens": 8192,
    "warmup": 0.05,
    "decay": "cosine",
    "weight_decay": 0.0,
    "clip": 1.0,
    "precision": "float32",
    "pack_length": None,
    "checkpointing": False,
}
STORED = {
    "protocol": 3,
    "role": "recipe",
    "model": "model",
    "methods": [{"name": "wd", "settings": {"decay": 0.1}, "source": "source"}],
    "training": TRAINING,
    "data": "data",
    "general": None,
    "budget": {"meter": "steps", "allowed": 5.0},
    "seed": 0,
    "threads": 1,
    "device": "cpu",
    "torch": "2.13.0",
}
KEY = "7c7ec9ce19803ac7"


@pytest.fixture(scope="module")
def fields(tiny_path, tmp_path_factory) -> dict:
    """The question of a run of today, with what depends on this machine and these files replaced."""
    folder = tmp_path_factory.mktemp("stored")
    records = [{"instruction": f"Grade item {i}", "output": "buy" if i % 2 else "sell"} for i in range(120)]
    (folder / "data.json").write_text(json.dumps(records))
    options = {"data": str(folder / "data.json"), "model": tiny_path, "recipes": "wd", "budget": "5steps", "pack_length": 0}
    options |= {"precision": "float32", "device": "cpu", "suites": "", "out": str(folder)}
    material = gather(make_plan(options))
    (spec,) = [spec for spec in run_specs(material, 5.0) if spec.role == "recipe"]
    question = dict(spec.question.fields)
    method = question["methods"][0] | {"source": "source"}
    return question | {"model": "model", "methods": [method], "data": "data", "torch": "2.13.0"}


def test_its_question_has_the_fields_that_it_had(fields):
    training = dict(fields["training"])
    training["pack_length"] = training["pack_length"] or None  # padded, asked for or not
    assert fields | {"training": training} == STORED


def test_its_key_is_the_one_that_it_had():
    assert Question(STORED).key == key_of(json.loads(json.dumps(STORED))) == KEY
