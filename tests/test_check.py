"""The gate's verdict: pure, replayed from a file, refused where it cannot be had. Nothing is trained here."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.announce import junit, step_summary
from harness.check import Policy, decide, floors_of, judge
from harness.cli import main
from harness.errors import PlanError
from harness.evidence import legible, read_evidence, write_evidence
from harness.gate import read_gate, read_policy, write_baseline
from harness.stats import Estimate

ROOT = Path(__file__).resolve().parents[1]
ITEMS = 200
MEASURES = {  # name: (family, group, channel, metric, primary)
    "facts/exact_match": ("facts", "general", "generation", "exact_match", True),
    "grammar/acc": ("grammar", "general", "choice", "acc", True),
    "finance/exact_match": ("finance", "domain", "generation", "exact_match", True),
    "general_held_out/kl_to_base": ("general_held_out", "general", "drift", "kl_to_base", False),
    "facts/rep3_word": ("facts", "general", "degeneration", "rep3_word", False),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("harness.check.REPS", 400)


def measure(name: str) -> dict:
    family, group, channel, metric, primary = MEASURES[name]
    ids = [f"{family}-{i:03d}" for i in range(ITEMS)]
    fixed = {"task": name.partition("/")[0], "metric": metric, "family": family, "group": group, "channel": channel}
    return fixed | {"seen": None, "primary": primary, "higher_better": primary, "chance": 0.0, "items": ids, "clusters": ids}


def evidence(seeds: int = 1, **lost: float) -> dict:
    """A base right on nine of ten, and `sft` and `ewc` after it; `lost`: share of right general answers that a row loses."""
    rows = {}
    for row in ("base", "zero budget", "sft", "ewc"):
        role = {"base": "base", "zero budget": "control"}.get(row, "recipe")
        own = range(seeds if role == "recipe" else 1)
        runs = {str(seed): {"status": "done", "reason": None, "scores": scores(row, seed, lost.get(row, 0.0))} for seed in own}
        rows[row] = {"role": role, "track": "free", "seeds": runs}
    head = {"schema_version": 1, "protocol": 1, "question": {"model": "ab", "data": "cd"}, "where": {"git": {"commit": "12"}}}
    return head | {"measures": {name: measure(name) for name in MEASURES}, "rows": rows}


def scores(row: str, seed: int, lost: float) -> dict:
    rng = np.random.default_rng([len(row), seed])
    found = {}
    for name, (_, group, channel, _, _) in MEASURES.items():
        right = (np.arange(ITEMS) % 10 > 0).astype(float)
        if channel == "drift":
            right = rng.uniform(0.01, 0.03, ITEMS) + lost / 2 if row in ("sft", "ewc") else np.zeros(ITEMS)
        elif channel == "degeneration":
            right = np.zeros(ITEMS)
        elif group == "domain":
            right = rng.random(ITEMS) < (0.8 if row in ("sft", "ewc") else 0.05)
        elif row in ("sft", "ewc"):
            right = right * (rng.random(ITEMS) >= 0.1) * (np.arange(ITEMS) % 100 >= 100 * lost)
        found[name] = [round(float(score), 4) for score in right]
    return found


def policy(**changes) -> Policy:
    return Policy(**({"baseline": evidence(), "floors": {}} | changes))


def outcome(found: dict, **changes) -> str:
    return decide(found, policy(**changes)).outcome


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sign", "wanted"),
    [
        (Estimate(-3.0, -3.9, -2.1, n=500), 1, "regression"),
        (Estimate(-3.0, -6.0, -1.9, n=500), 1, "inconclusive"),  # the interval includes the tolerance
        (Estimate(-3.0, -3.9, -2.1, n=9), 1, "inconclusive"),
        (Estimate(-1.9, -9.0, 5.0, n=500), 1, "pass"),
        (Estimate(+9.0, 8.0, 10.0, n=500), 1, "pass"),
        (Estimate(+9.0, 8.0, 10.0, n=500), -1, "regression"),
        (Estimate(-9.0, -10.0, -8.0, n=500), -1, "pass"),
        (Estimate(+9.0, 8.0, 10.0, n=500), 0, "regression"),
        (Estimate(-9.0, -10.0, 1.0, n=500), 0, "inconclusive"),
        (Estimate(), 1, "regression"),
    ],
)
def test_fails_only_beyond_the_tolerance_with_the_whole_interval(change, sign, wanted):
    assert judge(change, sign, 2.0) == wanted


def test_an_unchanged_tree_reads_exactly_zero():
    verdict = decide(evidence(), policy())
    assert verdict.outcome == "pass" and verdict.exit_code == 0
    assert all(one.change.value == one.change.low == one.change.high == 0 for one in verdict.findings)
    assert {"general", "general/facts", "domain", "kl_to_base/general"} <= {one.metric for one in verdict.findings}


def test_a_method_that_forgets_more_fails_in_its_own_row():
    verdict = decide(evidence(ewc=0.3), policy())
    worse = {(one.row, one.metric) for one in verdict.findings if one.outcome == "regression"}
    assert {("ewc", "general"), ("ewc", "general/facts"), ("ewc", "kl_to_base/general")} <= worse
    assert {row for row, _ in worse} == {"ewc"} and verdict.exit_code == 2


def test_to_be_better_never_fails_a_recipe():
    assert outcome(evidence(), baseline=evidence(ewc=0.3)) == "pass"


def test_the_base_fails_by_being_different_at_all():
    better = evidence()
    better["rows"]["base"]["seeds"]["0"]["scores"]["grammar/acc"] = [1.0] * ITEMS
    findings = decide(better, policy()).findings
    assert ("base", "general/grammar") in {(one.row, one.metric) for one in findings if one.outcome == "regression"}


def test_the_tolerance_is_the_larger_of_the_users_and_the_noise_floor():
    assert outcome(evidence(ewc=0.3), tolerance=60.0) == "pass"
    every = {metric: 60.0 for one in decide(evidence(), policy()).findings for metric in (one.metric,)}
    assert outcome(evidence(ewc=0.3), floors={"ewc": every}) == "pass"
    assert outcome(evidence(ewc=0.3), floors={"ewc": dict.fromkeys(every, 0.1)}) == "regression"


def test_too_few_items_are_inconclusive():
    few = evidence()
    for run in few["rows"]["ewc"]["seeds"].values():
        run["scores"]["facts/exact_match"][1:9] = [0.0] * 8
    verdict = decide(few, policy())
    assert verdict.outcome == "inconclusive" and verdict.exit_code == 4


# --- what is missing fails --------------------------------------------------------------------------------------------


def drop(found: dict, what: str) -> dict:
    found, seeds = copy.deepcopy(found), found["rows"]["ewc"]["seeds"]
    run = found["rows"]["ewc"]["seeds"]["0"]
    if what == "row":
        del found["rows"]["ewc"]
    elif what == "seed":
        found["rows"]["ewc"]["seeds"] = {"1": seeds["0"]}
    elif what == "measure":
        del run["scores"]["general_held_out/kl_to_base"]
    elif what == "item":
        run["scores"]["finance/exact_match"][7] = None
    else:
        run |= {"status": what, "reason": "because", "scores": {}}
    return found


@pytest.mark.parametrize("what", ["row", "seed", "measure", "item", "diverged", "overdrawn"])
def test_what_is_missing_fails(what):
    assert outcome(drop(evidence(), what)) == "regression"


@pytest.mark.parametrize("what", ["failed", "out_of_memory"])
def test_a_crash_is_an_error_and_no_verdict(what):
    verdict = decide(drop(evidence(), what), policy())
    assert verdict.outcome == "error" and verdict.exit_code == 1
    assert "because" in next(one.sentence for one in verdict.findings if one.outcome == "error")


def test_a_regression_outranks_a_crash():
    assert decide(drop(evidence(sft=0.4), "failed"), policy()).exit_code == 2


def test_a_text_too_short_to_repeat_itself_is_not_missing():
    short = evidence()
    short["rows"]["ewc"]["seeds"]["0"]["scores"]["facts/rep3_word"][:50] = [None] * 50
    assert outcome(short) == "pass"


def test_only_the_recipes_asked_for_are_judged():
    assert outcome(evidence(ewc=0.4), only=("sft",)) == "pass"
    assert outcome(drop(evidence(), "row"), only=("sft",)) == "pass"
    with pytest.raises(PlanError, match="no row 'lora'; it has sft, ewc"):
        outcome(evidence(), only=("lora",))


def test_another_protocol_is_refused():
    with pytest.raises(PlanError, match="the baseline is of protocol 0"):
        outcome(evidence(), baseline=evidence() | {"protocol": 0})


def test_the_verdict_says_what_else_differs():
    assert decide(evidence() | {"question": {"model": "ab", "data": "ef"}}, policy()).notes == ("data was 'cd', now 'ef'",)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_the_noise_floor_is_students_interval_of_a_difference_between_seeds():
    found = evidence(seeds=4)
    own = [100 * np.mean(found["rows"]["sft"]["seeds"][str(s)]["scores"]["finance/exact_match"]) for s in range(4)]
    assert floors_of(found, 1)["sft"]["domain"] == pytest.approx(3.182446 * np.std(own, ddof=1) * np.sqrt(2), abs=1e-3)
    assert floors_of(found, 2)["sft"]["domain"] == pytest.approx(3.182446 * np.std(own, ddof=1), abs=1e-3)
    assert set(floors_of(found, 1)) == {"sft", "ewc"}


def test_between_honest_seeds_the_gate_passes():
    found = evidence(seeds=5)
    other = copy.deepcopy(found)
    for row in ("sft", "ewc"):
        other["rows"][row]["seeds"] = {"0": found["rows"][row]["seeds"]["3"]}
    assert decide(other, policy(floors=floors_of(found, 1))).outcome == "pass"


# --- files and the command -------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("tolerance = -1", "points from 0"),
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
    assert decide(read_evidence(tmp_path / "e.json"), policy()).outcome == "pass"


# --- how it is said ---------------------------------------------------------------------------------------------------


def test_junit_has_a_case_each_metric_and_counts_what_failed():
    verdict = decide(evidence(ewc=0.3), policy())
    suite = ElementTree.fromstring(junit(verdict)).find("testsuite")
    assert suite is not None and int(suite.attrib["tests"]) == len(verdict.findings) == len(suite.findall("testcase"))
    assert int(suite.attrib["failures"]) == verdict.count("regression") == len(suite.findall("testcase/failure")) > 0
    assert "beyond the tolerance" in suite.find("testcase/failure").attrib["message"]


def test_hostile_names_stay_text():
    bad = "<img src=x onerror=alert(1)>\x00|`\u202e"
    found = evidence(ewc=0.3)
    old = evidence()
    for one in (found, old):
        one["rows"] = {{"ewc": bad}.get(name, name): row for name, row in one["rows"].items()}
    verdict = decide(found, policy(baseline=old))
    assert ElementTree.fromstring(junit(verdict)) is not None
    summary = step_summary(verdict)
    assert "<img" not in summary and "\x00" not in summary and "\\|\\`" in summary


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
        f"import sys; from harness.cli import main; code = main(['check', {str(accepted)!r}, '--evidence', {str(path)!r}]);"
        "sys.exit(code or bool({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_the_policy_is_what_was_accepted(accepted):
    policy = read_policy(read_gate(accepted))
    assert policy.tolerance == 2.5 and policy.floors["sft"]["domain"] > 0
    assert list(policy.baseline["rows"]["sft"]["seeds"]) == ["0"]
