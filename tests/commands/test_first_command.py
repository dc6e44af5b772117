"""The README's first command, on the checkout as it is committed, ends well whatever the machine decides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.bundled import ROOT
from tests.plan.test_make import commands

LISTED = ["git", "-C", str(ROOT), "ls-files", "-z"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The files that git knows, results included, in a folder of their own."""
    if subprocess.run(LISTED, capture_output=True, check=False).returncode:
        pytest.skip("not a git checkout")
    names = subprocess.run(LISTED, capture_output=True, check=True, text=True).stdout.split("\0")
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def outcomes(checkout) -> dict[str, dict]:
    """What the command came to on each machine, one after the other in the same checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "tests.first_command", *commands("compare", DATA="finance.json")]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["machine"]: line for line in lines}


def test_no_machine_stops_the_first_command(outcomes):
    assert len(outcomes) == 6
    assert not {name: line["said"] for name, line in outcomes.items() if line["code"]}


def test_what_the_machines_decide_differs(outcomes):
    """Else the test above would not have asked what it is there to ask."""
    plans = {name: line["plan"] for name, line in outcomes.items()}
    assert {plan["precision"] for plan in plans.values()} == {"bfloat16", "float32"}
    assert {plan["meter"] for plan in plans.values()} == {"flops", "seconds"}
    assert {plan["scoring"] for plan in plans.values()} == {"bfloat16", "float32"}
    assert plans["one core"]["workers"] == 1
    assert plans["64 cores, little memory"]["workers"] == 1


def test_another_question_goes_to_the_next_free_name_and_says_what_differs(outcomes):
    assert outcomes["as published"]["plan"]["name"] == outcomes["one core"]["plan"]["name"] == "finance"
    line = outcomes["no fast bf16"]
    assert line["plan"]["name"] == "finance-2"
    assert "precision was 'bfloat16', now 'float32'" in line["said"] and "finance-2" in line["said"]
    assert len({line["plan"]["name"] for line in outcomes.values()}) == 4
