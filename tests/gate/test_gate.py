"""The gate against planted faults: each in a copy of the tree, checked by `lethe check` against the committed baseline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.commands.check import read_gate
from harness.commands.cli import main
from harness.gate.baseline import read_policy
from harness.gate.evidence import read_evidence
from harness.gate.verdict import decide
from tests.support.training import small_files

ROOT = Path(__file__).resolve().parents[2]
WEIGHERS = """        with torch.no_grad():
            return ask(method, "token_weights", nll.detach(), logits.detach(), batch).float()
"""
FAULTS = {  # what: (recipe that shows it, file, text, text in its place, rows and metrics that must fail)
    "replay switched off": (
        "replay",
        "trainers/replay.py",
        "        return blend(steps,",
        "        return steps\n        return blend(steps,",
        {("replay", "general"), ("replay", "kl_to_base/general")},
    ),
    "EWC's penalty zeroed": (
        "ewc",
        "trainers/ewc.py",
        "return self.strength * self.fisher_[name]",
        "return 0.0 * self.fisher_[name]",
        {("ewc", "general"), ("ewc", "kl_to_base/general")},
    ),
    "KL's sign flipped": (
        "kl",
        "trainers/kl.py",
        "masked_scatter(ours, self.beta * divergence)",
        "masked_scatter(ours, -self.beta * divergence)",
        {("kl", "kl_to_base/domain")},
    ),
    "NLIRG's weights not detached": (
        "nlirg",
        "harness/losses/weighted_loss.py",
        WEIGHERS,
        """        return ask(method, "token_weights", nll, logits, batch).float()
""",
        {("nlirg", "nll/domain")},
    ),
    "evaluation template changed": (
        "sft",
        "harness/evaluation/codec.py",
        "return [self.tokens_of[_conversation_of(t)] if isinstance(t, Rendered)",
        "return [self.tokens_of[_conversation_of(t)][:-4] if isinstance(t, Rendered)",
        {("base", "general"), ("zero budget", "general")},
    ),
    "labels unshifted": (
        "sft",
        "harness/training/run.py",
        "return self.head.features(model, batch)",
        "return self.head.features(model, __import__('dataclasses').replace(batch, places=batch.places + 1))",
        {("sft", "domain"), ("sft", "nll/domain")},
    ),
}
OWN = ["replay switched off", "EWC's penalty zeroed", "KL's sign flipped", "NLIRG's weights not detached"]
"""Faults that one recipe each shows and no other: planted together."""


def check(tree: Path, recipes: str, out: Path) -> subprocess.CompletedProcess:
    """`lethe check` of some recipes in a process of its own, in that tree."""
    command = [
        sys.executable,
        "-m",
        "harness.commands.cli",
        "check",
        "--only",
        recipes,
        "--out",
        str(out),
        "--junit",
        str(out / "check.xml"),
    ]
    own = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(command, cwd=tree, env=os.environ | own, check=False, capture_output=True, text=True)


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what runs; the world and its model are shared."""
    copy = tmp_path / "tree"
    for name in ("harness", "trainers"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "suites").symlink_to(ROOT / "suites")
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("faults", [OWN, ["evaluation template changed"], ["labels unshifted"]], ids=" and ".join)
def test_planted_faults_are_caught(faults, tree, tmp_path):
    for recipe, file, text, instead, _ in map(FAULTS.__getitem__, faults):
        source = (tree / file).read_text()
        assert source.count(text) == 1, f"{file} has changed: plant the fault of {recipe} anew"
        (tree / file).write_text(source.replace(text, instead))
    done = check(tree, " ".join(FAULTS[fault][0] for fault in faults), tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    cases = ElementTree.parse(tmp_path / "check.xml").iter("testcase")
    failed = {(case.attrib["classname"], case.attrib["name"]) for case in cases if case.find("failure") is not None}
    for fault in faults:
        assert FAULTS[fault][-1] <= failed, fault
    if faults == OWN:  # nothing else is blamed
        assert {row for row, _ in failed} == {FAULTS[fault][0] for fault in OWN}


@pytest.mark.slow
def test_an_unchanged_tree_passes(tree, tmp_path):
    """Through the same copy that the faults are planted in."""
    done = check(tree, "replay", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    evidence = json.loads((tmp_path / "check" / "evidence.json").read_text())
    assert set(evidence["rows"]) == {"base", "zero budget", "replay"}


@pytest.mark.slow
def test_it_serves_ones_own_model_and_data(tiny_path, tmp_path, capsys):
    """Accepted, then unchanged: exactly 0. With a rate that ruins the model: caught, and the other rate is named."""
    plan, files = tmp_path / "gate.toml", small_files(tmp_path) | {"model": tiny_path}
    own = "".join(f"{name} = {value!r}\n" for name, value in files.items())
    text = f"{own}recipes = 'sft'\nbudget = '6steps'\nlearning_rate = 1e-3\nbatch_size = 8\nprecision = 'float32'\n"
    plan.write_text(text)
    assert main(["check", str(plan), "--accept", "--out", str(tmp_path)]) == 0
    assert main(["check", str(plan), "--out", str(tmp_path)]) == 0
    verdict = decide(read_evidence(tmp_path / "check" / "evidence.json"), read_policy(read_gate(plan)))
    assert all(one.change.value == 0 for one in verdict.findings if one.change.known)
    assert verdict.outcome == "pass" and not [note for note in verdict.notes if "no general task" not in note]
    plan.write_text(text.replace("1e-3", "0.3"))
    assert main(["check", str(plan), "--out", str(tmp_path)]) == 2
    assert "learning_rate was 0.001, now 0.3" in capsys.readouterr().out.replace("\n", " ")
    assert not list(tmp_path.glob(".check.*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_faults_can_still_be_planted(fault):
    _, file, text, _, _ = FAULTS[fault]
    assert (ROOT / file).read_text().count(text) == 1
