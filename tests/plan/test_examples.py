"""The plans in examples/: each is a plan as it stands, once its files are there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.commands.check import read_gate
from harness.errors import PlanError
from harness.plan.load import make_plan

PLANS = sorted((Path(__file__).parents[2] / "examples" / "plans").glob("*.toml"))


@pytest.mark.parametrize("path", [path for path in PLANS if path.stem != "gate"], ids=lambda path: path.stem)
def test_a_plan_is_taken_as_it_stands(path, folder):
    plan = make_plan({}, str(path))
    assert plan.recipe_texts == tomllib.loads(path.read_text(encoding="utf-8"))["recipes"]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_without_its_files_is_refused_by_their_names(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = read_gate(path).options
    with pytest.raises(PlanError) as error:
        make_plan(options)
    missing = options["data"].split(",")[-1]
    assert any(missing in fault for fault in error.value.faults)
    assert not any("no option" in fault or "no method" in fault or "no setting" in fault for fault in error.value.faults)


def test_the_gate_is_one():
    gate = read_gate(next(path for path in PLANS if path.stem == "gate"))
    assert gate.tolerance == 2.0 and gate.noise_seeds == 3
