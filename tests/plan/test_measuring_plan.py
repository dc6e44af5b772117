"""A plan that measures what others tuned: nothing is trained, and test files may stand alone."""

from __future__ import annotations

import json

import pytest

from harness.data.tested_only import NAME, dataset_of_tests
from harness.errors import PlanError
from harness.plan.load import make_plan, resolve_places
from harness.plan.measured import plan_options


def test_it_trains_nothing_and_keeps_its_test_files(tmp_path, tiny_path):
    test = tmp_path / "test.json"
    test.write_text(json.dumps([{"instruction": f"Grade {number}", "output": "buy"} for number in range(12)]))
    options = {"test": str(test), "suites": "dialogue"}
    plan = resolve_places(make_plan(plan_options(tiny_path, [f"one two={tiny_path},{tiny_path}"], options)))
    assert (plan.sources, plan.recipe_texts, plan.test) == ([], [], str(test))
    assert (plan.measured_models[0].row, plan.measured_models[0].places) == ("one two", (tiny_path, tiny_path))
    assert str(plan.name).startswith("measured-")
    dataset = dataset_of_tests(plan.test)
    assert (dataset.name, len(dataset.train), len(dataset.test)) == ("test", 0, 12)


def test_without_test_files_there_is_no_domain():
    dataset = dataset_of_tests(None)
    assert (dataset.name, dataset.train, dataset.test) == (NAME, (), ())


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(PlanError) as caught:
        make_plan({"data": "", "recipes": "sft", "measured": f"a={tmp_path / 'gone'} base={tmp_path}", "require": "family=x"})
    told = "\n".join(caught.value.faults)
    for words in ("data is empty", "'base' is a row of every table", "family=POINTS"):
        assert words in told
    with pytest.raises(PlanError, match="gone' does not exist"):
        make_plan({"data": "", "recipes": "", "measured": f"a={tmp_path / 'gone'}"})
    with pytest.raises(PlanError, match="recipes is empty"):
        make_plan({"recipes": ""})
