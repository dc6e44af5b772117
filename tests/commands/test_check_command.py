"""`lethe check` on evidence from a file: its exit codes, what it accepts, what it refuses. Nothing is trained here."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.check import read_gate
from harness.commands.cli import main
from harness.gate.baseline import digest, read_policy, write_baseline
from harness.gate.evidence import legible, read_evidence, write_evidence
from harness.gate.exact import add_relations
from harness.gate.verdict import Policy, decide
from tests.support.gate_evidence import drop, evidence

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("harness.gate.verdict.REPS", 200)


@pytest.fixture
def accepted(tmp_path) -> Path:
    """A plan whose baseline is accepted."""
    plan = tmp_path / "gate.toml"
    plan.write_text("recipes = 'sft ewc'\n[check]\ntolerance = 2.5\n")
    write_baseline(read_gate(plan), evidence(seeds=3))
    return plan


def replay(plan: Path, found: dict, *more: str) -> int:
    path = plan.with_name("evidence.json")
    write_evidence(path, found)
    return main(["check", str(plan), "--evidence", str(path), *more])


def test_evidence_is_replayed_from_its_file(accepted, capsys):
    assert replay(accepted, evidence()) == 0
    assert replay(accepted, evidence(ewc=0.3)) == 2
    assert "WORSE" in capsys.readouterr().out


def test_the_baselines_page_has_a_metric_a_line_and_sorted_keys(accepted):
    text = accepted.with_suffix(".json").read_text()
    assert legible(json.loads(text)) + "\n" == text
    lines = [line for line in text.splitlines() if '"floor"' in line]
    assert len(lines) == 2 * 7 and all(line.count("floor") == 1 for line in lines)
    assert any(line.strip().startswith('"general/facts": {"floor": ') for line in lines)


def test_acceptance_renews_both_files_and_half_a_baseline_is_refused(accepted):
    path = accepted.with_name("new.json")
    write_evidence(path, evidence(seeds=3, ewc=0.3))
    assert main(["check", str(accepted), "--accept", "--evidence", str(path)]) == 0
    assert replay(accepted, evidence(ewc=0.3)) == 0
    accepted.with_suffix(".items.json").write_text(legible(evidence()))
    assert replay(accepted, evidence(ewc=0.3)) == 3


def test_what_is_accepted_has_noise_and_ended_well(accepted, capsys):
    for bad, text in ((evidence(), "one seed"), (drop(evidence(seeds=2), "diverged"), "ewc, seed 0: diverged")):
        path = accepted.with_name("bad.json")
        write_evidence(path, bad)
        assert main(["check", str(accepted), "--accept", "--evidence", str(path)]) == 3
        assert text in capsys.readouterr().err


def accept(plan: Path, found: dict) -> int:
    path = plan.with_name("accepted.json")
    write_evidence(path, found)
    return main(["check", str(plan), "--accept", "--evidence", str(path)])


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_acceptance_says_the_noise_floors(accepted, capsys):
    """Those above five points are an error of the baseline, kept in its page too."""
    still = evidence(seeds=3)
    for row in ("sft", "ewc"):
        for seed, run in still["rows"][row]["seeds"].items():
            run["scores"] = {
                name: [*scores[int(seed) :], *scores[: int(seed)]]
                for name, scores in evidence()["rows"][row]["seeds"]["0"]["scores"].items()
            }
    assert accept(accepted, still) == 0
    quiet = said(capsys)
    noisy = copy.deepcopy(still)
    for seed, run in noisy["rows"]["sft"]["seeds"].items():
        run["scores"]["finance/exact_match"] = [int(i < 60 + 60 * int(seed)) for i in range(200)]
    assert accept(accepted, noisy) == 0
    loud = said(capsys)
    assert "noise floors in points" in quiet and "ERROR" not in quiet
    assert "ERROR of the baseline: 2 of 7 noise floors are above 5 points (domain " in loud
    assert "warning: the noise floor is more than can be lost: domain" in loud
    assert any("noise floors are above" in fault for fault in json.loads(accepted.with_suffix(".json").read_text())["faults"])


def test_acceptance_warns_of_what_it_cannot_see(accepted, capsys):
    bad = evidence(seeds=3)
    for run in bad["rows"]["base"]["seeds"].values():
        run["scores"] |= {name: [0] * 200 for name in ("facts/exact_match", "grammar/acc")}
    for run in bad["rows"]["sft"]["seeds"].values():
        run["exact"]["weights"] = "the same"
    add_relations(bad["rows"])
    assert accept(accepted, bad) == 0
    text = said(capsys)
    assert "no general task is answered above chance" in text
    assert "sft: seeds 0 and 1, 0 and 2, 1 and 2 ended in the same weights" in text
    assert "zero budget does not score as the base does" in text


def test_an_older_baseline_is_refused_in_one_sentence(accepted, capsys):
    old = {key: value for key, value in evidence().items() if key != "layout"}
    write_evidence(accepted.with_suffix(".items.json"), old)
    record = json.loads(accepted.with_suffix(".json").read_text())
    accepted.with_suffix(".json").write_text(json.dumps(record | {"items_sha256": digest(accepted.with_suffix(".items.json"))}))
    assert replay(accepted, evidence()) == 3
    text = " ".join(capsys.readouterr().err.split())
    assert "has layout 1" in text and "renew a baseline with `lethe check --accept`" in text


def test_an_unfit_baseline_is_refused_before_anything_is_measured(accepted, monkeypatch, capsys):
    monkeypatch.setattr("harness.commands.check.measure", lambda *_: pytest.fail("it measures"))
    assert main(["check", str(accepted), "--only", "lora"]) == 3
    assert "the baseline has no row 'lora'" in capsys.readouterr().err
    monkeypatch.setattr("harness.gate.verdict.PROTOCOL", 99)
    assert main(["check", str(accepted)]) == 3
    assert "the baseline is of protocol" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("tolerance = -1", "points from 0"),
        ("tolerance = nan", "points from 0"),
        ("noise_seeds = 1", "one seed shows no noise"),
        ("tolerence = 2", "no option 'tolerence'"),
    ],
)
def test_a_check_that_cannot_be_done_exits_with_3(tmp_path, capsys, table, text):
    plan = tmp_path / "gate.toml"
    plan.write_text(f"[check]\n{table}\n")
    assert main(["check", str(plan)]) == 3
    assert text in capsys.readouterr().err


def test_misuse_exits_with_3(tmp_path, capsys):
    assert main(["check", "--bogus"]) == 3
    assert main(["check", str(tmp_path / "nowhere.toml")]) == 3
    (tmp_path / "gate.toml").write_text("")
    assert main(["check", str(tmp_path / "gate.toml"), "--evidence", str(tmp_path / "none.json")]) == 3
    assert "--accept" in capsys.readouterr().err


def test_evidence_survives_its_file(tmp_path):
    write_evidence(tmp_path / "e.json", evidence())
    assert decide(read_evidence(tmp_path / "e.json"), Policy(evidence(), {})).outcome == "pass"


def test_the_step_summary_is_appended(accepted, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    replay(accepted, evidence(ewc=0.3), "--junit", str(tmp_path / "junit.xml"))
    replay(accepted, evidence())
    text = (tmp_path / "summary.md").read_text()
    assert text.count("### Lethe: ") == 2 and "| WORSE | ewc | general |" in text
    assert (tmp_path / "junit.xml").read_text().startswith("<?xml")


def test_a_replay_needs_no_torch(accepted):
    path = accepted.with_name("evidence.json")
    write_evidence(path, evidence())
    code = (
        "import sys; from harness.commands.cli import main; "
        f"code = main(['check', {str(accepted)!r}, '--evidence', {str(path)!r}]);"
        "sys.exit(code or bool({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_the_policy_is_what_was_accepted(accepted):
    policy = read_policy(read_gate(accepted))
    assert policy.tolerance == 2.5 and policy.floors["sft"]["domain"] == policy.floors["ewc"]["domain"] > 0
    assert list(policy.baseline["rows"]["sft"]["seeds"]) == ["0"]
