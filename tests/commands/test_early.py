"""What is refused before anything that computes is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import PlanError
from harness.plan.load import make_plan

LONG = "x" * 300
REFUSED = {
    "a budget": (["compare", "--budget", "3parsecs"], "3parsecs"),
    "a method": (["compare", "--recipes", "sfft"], "did you mean 'sft'?"),
    "a setting": (["compare", "--recipes", "mix(x=1)"], "no setting 'x'"),
    "a suite": (["compare", "--suites", "genral"], "did you mean 'general'?"),
    "a file": (["plan", "--data", "nowhere.json"], "data 'nowhere.json' does not exist"),
    "a model": (["plan", "--model", "./nowhere"], "'./nowhere' does not exist"),
    "an option": (["compare", "--budgett", "1s"], "did you mean '--budget'?"),
    "a comparison": (["export", "nonesuch", "--to", "x"], "nonesuch holds no comparison.json"),
    "a folder for data": (["plan", "/"], "data '/' is a folder; name a file in it"),
    "a folder for a test": (["plan", "--test", "/"], "test '/' is a folder; name a file in it"),
    "a folder for a plan": (["compare", "--plan", "/"], "plan file '/' is a folder"),
    "a file for results": (["compare", "--out", __file__], "is no folder"),
    "results below a file": (["compare", "--out", f"{__file__}/results"], "is no folder"),
    "no name for results": (["compare", "--out", ""], "out is empty"),
    "a long name of data": (["plan", LONG], "(300 characters)' cannot be a file here"),
    "a long name of a model": (["plan", "--model", LONG], "(300 characters)' cannot be a file here"),
    "a long name of a suite": (["plan", "--suites", LONG], "(300 characters)' cannot be a file here"),
    "a long name of a plan": (["plan", "--plan", LONG], "(300 characters)' cannot be a file here"),
    "a long name of rules": (["plan", "--rules", LONG], "characters) cannot be a file here"),
    "a folder for rules": (["plan", "--rules", "/"], "rules file '/' is a folder"),
    "a long name of a comparison": (["report", LONG], "cannot be read"),
    "a nobody's home": (["plan", "~nobody-is-called-so/d.json"], "check the path"),
    "a unit": (["compare", "--budget", "600s", "--meter", "flops"], "drop one"),
}
CODE = """
import contextlib, io, json, sys
from harness.commands.cli import main
told = {}
for name, arguments in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    told[name] = code, said.getvalue(), sorted({"torch", "transformers", "lm_eval"} & set(sys.modules))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict:
    """What each command said, its exit code, and which of the large libraries it had imported."""
    import json

    commands = json.dumps({name: arguments for name, (arguments, _) in REFUSED.items()})
    done = subprocess.run([sys.executable, "-c", CODE, commands], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_torch_is_imported(told, name):
    code, said, imported = told[name]
    assert code == 2 and REFUSED[name][1] in said
    assert said.count("\n") == 1 and "whole error" not in said
    assert not imported


def test_all_faults_come_together():
    with pytest.raises(PlanError) as caught:
        make_plan({"recipes": "sfft mix(x=1) lora(r=1.5)", "budget": "3parsecs", "data": "nowhere.json", "batch_size": 0})
    assert len(caught.value.faults) == 6


def test_what_may_be_on_the_hub_is_not_refused():
    plan = make_plan({"data": "org/some-data", "model": "org/model-1b", "suites": "arc_challenge", "recipes": "mix(ratio=0.3)"})
    assert plan.model == "org/model-1b"
