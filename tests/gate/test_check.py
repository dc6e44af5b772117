"""The gate's verdict on evidence, and how it is said. Nothing is trained here."""

from __future__ import annotations

import copy
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.errors import PlanError
from harness.gate.announce import junit, step_summary
from harness.gate.baseline import floors_of
from harness.gate.exact import add_relations
from harness.gate.judge import Rule, judge
from harness.gate.verdict import Policy, decide
from harness.stats.analysis import Estimate
from tests.support.gate_evidence import ITEMS, drop, elsewhere, evidence


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("harness.gate.verdict.REPS", 200)


def policy(**changes) -> Policy:
    return Policy(**({"baseline": evidence(), "floors": {}} | changes))


def outcome(found: dict, **changes) -> str:
    return decide(found, policy(**changes)).outcome


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rule", "wanted"),
    [
        (Estimate(-3.0, -3.9, -2.1, n=500), Rule(1, 2.0), "regression"),
        (Estimate(-3.0, -6.0, -1.9, n=500), Rule(1, 2.0), "inconclusive"),  # the interval includes the tolerance
        (Estimate(-3.0, -3.9, -2.1, n=9), Rule(1, 2.0), "inconclusive"),
        (Estimate(-1.9, -9.0, 5.0, n=500), Rule(1, 2.0), "pass"),
        (Estimate(-1.9, -9.0, 5.0, n=500), Rule(1, 2.0, exact=True), "changed"),
        (Estimate(0.0, 0.0, 0.0, n=500), Rule(1, 2.0, exact=True), "pass"),
        (Estimate(+9.0, 8.0, 10.0, n=500), Rule(1, 2.0), "pass"),
        (Estimate(+19.0, 9.0, 30.0, n=500), Rule(1, 2.0), "pass"),  # not surely that much better
        (Estimate(+19.0, 11.0, 30.0, n=500), Rule(1, 2.0), "inconclusive"),  # too good to be true
        (Estimate(+19.0, 11.0, 30.0, n=500), Rule(1, 2.0, floor=15.0), "pass"),
        (Estimate(-0.1, -0.1, -0.1, n=500), Rule(-1, 2.0, vanished=True), "inconclusive"),
        (Estimate(+9.0, 8.0, 10.0, n=500), Rule(-1, 2.0), "regression"),
        (Estimate(-9.0, -10.0, -8.0, n=500), Rule(-1, 2.0), "pass"),
        (Estimate(+9.0, 8.0, 10.0, n=500), Rule(0, 2.0), "regression"),
        (Estimate(-9.0, -10.0, 1.0, n=500), Rule(0, 2.0), "inconclusive"),
        (Estimate(+0.1, -9.0, 9.0, n=500), Rule(0, 0.0, exact=True), "regression"),
        (Estimate(), Rule(1, 2.0), "regression"),
        # a fall of 10.6 on a score of 8.6 within a tolerance of 15.66
        (Estimate(-10.6, -12.0, -9.3, n=500), Rule(1, 15.66, had=8.6), "regression"),
        (Estimate(-10.6, -12.0, -4.2, n=500), Rule(1, 15.66, had=8.6), "pass"),
        (Estimate(-10.6, -12.0, -9.3, n=500), Rule(1, 15.66, had=90.0), "pass"),
    ],
)
def test_the_rule(change, rule, wanted):
    assert judge(change, rule) == wanted


def test_an_unchanged_tree_reads_exactly_zero():
    verdict = decide(evidence(), policy())
    assert verdict.outcome == "pass" and verdict.exit_code == 0
    scored = [one for one in verdict.findings if one.change.known]
    assert all(one.change.value == one.change.low == one.change.high == 0 for one in scored)
    assert {one.metric for one in verdict.findings if not one.change.known} == {"exact"}
    assert {"general", "general/facts", "domain", "kl_to_base/general"} <= {one.metric for one in verdict.findings}


def test_a_method_that_forgets_more_fails_in_its_own_row():
    verdict = decide(evidence(ewc=0.3), policy())
    worse = {(one.row, one.metric) for one in verdict.findings if one.outcome == "regression"}
    assert {("ewc", "general"), ("ewc", "general/facts"), ("ewc", "kl_to_base/general")} <= worse
    assert {row for row, _ in worse} == {"ewc"} and verdict.exit_code == 2


def test_to_be_better_never_fails_a_recipe():
    better = decide(elsewhere(), policy(baseline=evidence(ewc=0.05)))
    assert better.outcome == "pass" and any(one.change.value > 3 for one in better.findings)


def test_the_base_fails_by_being_different_at_all():
    """By one item on the baseline's machine, beyond the tolerance elsewhere."""
    for found, wrong in ((evidence(), 1), (elsewhere(), ITEMS)):
        found["rows"]["base"]["seeds"]["0"]["scores"]["grammar/acc"][:wrong] = [1.0] * wrong
        findings = decide(found, policy()).findings
        assert ("base", "general/grammar") in {(one.row, one.metric) for one in findings if one.outcome == "regression"}


def test_floors_count_on_another_machine_only_and_up_to_five_points():
    every = {"ewc": {one.metric: 60.0 for one in decide(evidence(), policy()).findings}}
    lost = {"ewc": 0.04}
    assert outcome(elsewhere(**lost)) != "pass"
    assert outcome(elsewhere(**lost), floors=every) == "pass"
    assert outcome(evidence(**lost), floors=every) != "pass"
    assert outcome(elsewhere(ewc=0.3), floors=every) == "regression"


def test_a_total_loss_passes_no_tolerance():
    assert outcome(elsewhere(ewc=0.3), tolerance=60.0) == "pass"
    verdict = decide(elsewhere(ewc=0.9), policy(tolerance=99.0))
    assert verdict.outcome == "regression"
    assert "more than half of the" in next(
        one.sentence for one in verdict.findings if one.metric == "general/facts" and one.outcome == "regression"
    )


def test_too_few_items_are_inconclusive():
    few = evidence()
    for run in few["rows"]["ewc"]["seeds"].values():
        run["scores"]["facts/exact_match"][1:9] = [0.0] * 8
    verdict = decide(few, policy())
    assert verdict.outcome == "inconclusive" and verdict.exit_code == 4


# --- change is seen, not only loss ------------------------------------------------------------------------------------


def recipe_run(found: dict, row: str = "ewc") -> dict:
    return found["rows"][row]["seeds"]["0"]


def swap_two_items(found: dict) -> None:
    scores = recipe_run(found)["scores"]["finance/exact_match"]
    right, wrong = scores.index(1), scores.index(0)
    scores[right], scores[wrong] = 0, 1


def drift_against_itself(found: dict) -> None:
    for row in ("sft", "ewc"):
        recipe_run(found, row)["scores"]["general_held_out/kl_to_base"] = [0] * ITEMS


def score_the_base_instead(found: dict) -> None:
    recipe_run(found)["scores"] = copy.deepcopy(found["rows"]["base"]["seeds"]["0"]["scores"])
    add_relations(found["rows"])


def score_another_recipe(found: dict) -> None:
    recipe_run(found)["scores"] = copy.deepcopy(recipe_run(found, "sft")["scores"])
    add_relations(found["rows"])


def train_nothing(found: dict) -> None:
    recipe_run(found)["exact"]["weights"] = "ab"
    add_relations(found["rows"])


def set_figure(name: str, value):
    def plant(found: dict) -> None:
        recipe_run(found)["exact"][name] = value

    return plant


def score_the_control_otherwise(found: dict) -> None:
    found["rows"]["zero budget"]["seeds"]["0"]["scores"]["facts/exact_match"][0] = 1
    add_relations(found["rows"])


PLANTED = {
    "one more item right and another wrong": (swap_two_items, "changed", "pass", "exact/scores"),
    "drift measured against the tuned model": (drift_against_itself, "inconclusive", "inconclusive", "kl_to_base/general"),
    "the base scored in a recipe's place": (score_the_base_instead, "regression", "regression", "exact/same scores as"),
    "another recipe's scores": (score_another_recipe, "regression", "regression", "exact/same scores as"),
    "nothing trained": (train_nothing, "regression", "regression", "exact/same weights as"),
    "a wrong seed": (set_figure("seed", 1), "regression", "regression", "exact/seed"),
    "dev items trained on": (set_figure("examples/data", "56ef"), "regression", "regression", "exact/examples"),
    "another rate": (set_figure("training/learning_rate", 1.1e-3), "regression", "regression", "exact/training"),
    "other items asked": (set_figure("asked/facts", "34cd"), "regression", "regression", "exact/asked"),
    "one step fewer": (set_figure("ledger/steps", 49), "regression", "regression", "exact/ledger"),
    "a FLOP in a million more": (set_figure("ledger/train flops", 1500001500000), "regression", "regression", "exact/ledger"),
    "other weights": (set_figure("weights", "cd"), "changed", "pass", "exact/weights"),
    "a control that is not the base": (score_the_control_otherwise, "regression", "regression", "exact/same scores as"),
}  # fmt: skip
"""What is planted -> (how, outcome on the baseline's machine, and elsewhere; the finding that must tell it)."""


@pytest.mark.parametrize("fault", PLANTED)
def test_what_differs_is_seen(fault):
    plant, here, there, metric = PLANTED[fault]
    for found, wanted in ((evidence(), here), (elsewhere(), there)):
        plant(found)
        verdict = decide(found, policy())
        told = {one.metric for one in verdict.findings if one.outcome != "pass"}
        assert verdict.outcome == wanted
        assert metric in told or wanted == "pass"


def test_changed_has_an_exit_code_of_its_own():
    found = evidence()
    set_figure("weights", "cd")(found)
    assert decide(found, policy()).exit_code == 5


def test_a_price_fitted_on_another_processor_rounds_otherwise():
    found = elsewhere()
    set_figure("ledger/train flops", 1.5e12 * (1 + 1e-12))(found)
    assert outcome(found) == "pass"


def test_another_question_costs_otherwise_and_is_named():
    found = evidence() | {"question": {"model": "ab", "data": "ef", "threads": 1}}
    for name, value in (("ledger/steps", 49), ("examples/data", "56ef"), ("weights", "cd")):
        set_figure(name, value)(found)
    verdict = decide(found, policy())
    assert verdict.outcome == "pass"
    assert verdict.notes[0] == "differs from the baseline: data was 'cd', now 'ef'"


@pytest.mark.parametrize("meter, account", [("seconds", "train"), ("flops", "generation")])
def test_what_time_or_an_answers_length_decides_is_not_compared_elsewhere(meter, account):
    found, old = elsewhere(), evidence()
    for one, steps in ((found, 49), (old, 50)):
        recipe_run(one)["exact"] |= {"ledger/meter": meter, "ledger/steps": steps, f"ledger/{account} tokens": 9}
    assert outcome(found, baseline=old) == "pass"


def test_only_the_baselines_seeds_are_paired():
    assert outcome(evidence(seeds=3)) == "pass"


def test_a_gpus_sums_are_not_exact():
    both = [evidence() | {"device": "cuda"} for _ in range(2)]
    swap_two_items(both[0])
    assert outcome(both[0], baseline=both[1]) == "pass"


# --- what is missing fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["row", "seed", "measure", "item", "nan", "diverged", "overdrawn"])
def test_what_is_missing_fails(what):
    assert outcome(drop(evidence(), what)) == outcome(drop(elsewhere(), what)) == "regression"


@pytest.mark.parametrize("what", ["failed", "out_of_memory"])
def test_a_crash_is_an_error_and_no_verdict(what):
    verdict = decide(drop(evidence(), what), policy())
    assert verdict.outcome == "error" and verdict.exit_code == 1
    assert "because" in next(one.sentence for one in verdict.findings if one.outcome == "error")


def test_a_regression_outranks_a_crash():
    assert decide(drop(evidence(sft=0.4), "failed"), policy()).exit_code == 2


def test_a_text_too_short_to_repeat_itself_is_not_missing():
    short = elsewhere()
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
    notes = decide(evidence() | {"question": {"model": "ab", "data": "ef"}}, policy()).notes
    assert "differs from the baseline: data was 'cd', now 'ef'" in notes


def test_a_baseline_without_general_ability_says_so():
    old, now = evidence(), evidence()
    for found in (old, now):
        for run in found["rows"]["base"]["seeds"].values():
            run["scores"] |= {name: [0] * ITEMS for name in ("facts/exact_match", "grammar/acc")}
    assert any("no general task above chance" in note for note in decide(now, policy(baseline=old)).notes)
    assert not any("no general task" in note for note in decide(evidence(), policy()).notes)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_the_noise_floor_is_students_interval_of_a_difference_between_seeds():
    """With the variance pooled over both recipes: 2 x 3 degrees of freedom."""
    found = evidence(seeds=4)
    rows = [
        [100 * np.mean(run["scores"]["finance/exact_match"]) for run in found["rows"][row]["seeds"].values()]
        for row in ("sft", "ewc")
    ]
    pooled = np.sqrt(np.mean([np.var(own, ddof=1) for own in rows]))
    assert floors_of(found, 1)["domain"] == pytest.approx(2.446912 * pooled * np.sqrt(2), abs=1e-3)
    assert floors_of(found, 2)["domain"] == pytest.approx(2.446912 * pooled, abs=1e-3)


def test_between_honest_seeds_the_gate_passes_on_another_machine():
    found = evidence(seeds=5)
    other = copy.deepcopy(found)
    other["where"]["machine"]["processor"] = "another"
    for row in ("sft", "ewc"):
        run = found["rows"][row]["seeds"]["3"]
        other["rows"][row]["seeds"] = {"0": run | {"exact": found["rows"][row]["seeds"]["0"]["exact"]}}
    first = copy.deepcopy(found)
    for row in ("sft", "ewc"):
        first["rows"][row]["seeds"] = {"0": found["rows"][row]["seeds"]["0"]}
    floors = dict.fromkeys(("sft", "ewc"), floors_of(found, 1))
    assert decide(other, policy(baseline=first, floors=floors)).outcome == "pass"


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
