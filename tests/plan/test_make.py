"""What `make` passes on: every option of the plan is a make variable, whatever its value holds."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess

import pytest

from harness.bundled import ROOT
from harness.plan.load import MEASURING
from harness.plan.plan import Plan

FIELDS = [field.name for field in dataclasses.fields(Plan)]


def commands(target: str, **variables: str) -> list[str]:
    """The words of the `lethe` command that make would run."""
    given = [f"{name}={value}" for name, value in variables.items()]
    plain = ["make", "-n", "-C", str(ROOT), "--no-print-directory", "VENV=.venv", *given, target]
    printed = subprocess.run(plain, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if "bin/lethe " in line)
    return shlex.split(line.removeprefix("@"))[1:]


@pytest.mark.parametrize("target", ["compare", "plan"])
def test_every_option_of_the_plan_is_a_make_variable(target):
    values = {name.upper(): f"{name} of 'it' $$x" for name in (*FIELDS, "plan")}
    words = commands(target, **values)
    assert words[0] == target
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert flags == {f"--{name.replace('_', '-')}": f"{name} of 'it' $x" for name in (*FIELDS, "plan")}


def test_measure_passes_on_what_trains_nothing():
    values = {name.upper(): f"{name} of 'it'" for name in (*FIELDS, "plan", "junit")}
    words = commands("measure", BASE="the base", TUNED="one name=two", GATE="1", **values)
    assert words[:4] == ["measure", "the base", "one", "name=two"]
    assert words[-1] == "--gate"
    flags = dict(zip(words[4:-1:2], words[5:-1:2], strict=True))
    assert flags == {f"--{name.replace('_', '-')}": f"{name} of 'it'" for name in (*MEASURING, "plan", "junit")}


def test_what_is_not_given_is_not_passed_on():
    assert commands("compare", DATA="finance.json") == ["compare", "--data", "finance.json"]
    assert commands("diff", A="one run", B="two") == ["diff", "one run", "two"]
    assert commands("diff", A="one", B="two", TO="there") == ["diff", "one", "two", "--to", "there"]
    assert commands("check", OUT="there", ONLY="sft lora") == ["check", "--only", "sft lora", "--out", "there"]


def test_a_name_that_the_system_set_is_not_the_users(monkeypatch):
    """Planted fault: the machine's name, which WSL sets, would name every comparison."""
    monkeypatch.setenv("NAME", "DESKTOP-1")
    assert commands("compare", DATA="finance.json") == ["compare", "--data", "finance.json"]
    assert commands("compare", NAME="mine") == ["compare", "--name", "mine"]
