"""The gate's verdict on evidence, and how it is said. Nothing is trained here."""

from __future__ import annotations

import copy
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.announce import junit, step_summary
from harness.check import Policy, decide, floors_of, judge
from harness.errors import PlanError
from harness.stats import Estimate
from tests.gate_evidence import ITEMS, drop, evidence


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("harness.check.REPS", 400)


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
