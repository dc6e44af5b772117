"""The verdict says no more than the evidence does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fake_store import FAILED, ROWS, build

from harness.report import write_report
from harness.report.verdict import verdicts, warnings
from harness.store import read_json, write_json

SEVERAL = (0, 1, 2, 3)
"""Seeds: one compares nothing, and two hardly."""


def some(*names: str, **changed: tuple) -> dict:
    return {name: ROWS[name] for name in ("base", *names)} | changed


def test_tracks_are_judged_apart(summary_of):
    found = verdicts(summary_of(seeds=SEVERAL))
    assert [v.track for v in found] == ["free", "general"]
    assert found[0].row in ("lora", "lora+nlirg", "distill") and found[1].row == "mix+lora"


def test_one_seed_is_no_verdict_and_says_what_more_would_cost(report):
    """`sft` under three seeds, taken as three recipes: 2 of 3 pairs "differed" at p < 0.001."""
    assert len(report.verdicts) == 2 and not any(v.row or v.separated for v in report.verdicts)
    for verdict in report.verdicts:
        assert verdict.sentence.startswith("One seed: nothing is compared.") and "over items only" in verdict.sentence
        assert "SEEDS=3 would add 16 runs, about 11 min of training" in verdict.sentence
    assert report.table.filter(regex="^(holm )?p vs|first probability|rank").isna().all(axis=None)
    assert report.summary.contrasts["change"].map(lambda change: change.known).all(), "differences stand, over items only"


def test_separated_methods_get_a_plain_sentence(summary_of):
    verdict = verdicts(summary_of(rows=some("sft", "lora"), items=1.0, seeds=SEVERAL))[0]
    assert verdict.separated and verdict.row == "lora"
    assert verdict.sentence.startswith("lora keeps ") and "; plain SFT keeps " in verdict.sentence


def test_equal_methods_are_not_separated(summary_of):
    rows = some("sft", lora=("recipe", "free", 0.48, 0.42))
    verdict = verdicts(summary_of(rows=rows, seeds=SEVERAL))[0]
    assert not verdict.separated and verdict.sentence.startswith("The evidence does not separate the methods: ")
    assert "could not be relied on to show (n = " in verdict.sentence


def test_a_leader_that_is_a_reference_is_judged_by_the_tables_corrected_p(summary_of):
    summary = summary_of(rows=some("sft", lora=("recipe", "free", 0.43, 0.80)), seeds=SEVERAL)
    assert verdicts(summary)[0].row == "sft" and verdicts(summary)[0].separated
    summary.__dict__["contrasts"] = summary.contrasts.assign(holm=0.2)  # as if of many comparisons
    assert not verdicts(summary)[0].separated


def test_a_method_that_keeps_all_but_learns_nothing_does_not_win(summary_of):
    rows = some("sft", "lora", low_lr=("recipe", "free", 0.1, 0.01))
    assert verdicts(summary_of(rows=rows, items=1.0, seeds=SEVERAL))[0].row == "lora"


def test_a_trade_is_told_with_its_price(summary_of):
    verdict = verdicts(summary_of(rows=some("sft", lora=("recipe", "free", 0.38, 0.05)), items=1.0, seeds=SEVERAL))[0]
    assert verdict.row == "lora" and verdict.details[0].startswith("It gains less than plain SFT: −")


def test_no_gain_no_price(summary_of):
    rows = some(sft=("recipe", "free", 0.0, 0.3))
    assert verdicts(summary_of(rows=rows, seeds=SEVERAL))[0].sentence.startswith("No recipe gained measurably")


def test_a_track_that_failed_says_so(summary_of):
    assert set(FAILED) == {"ewc"}
    assert verdicts(summary_of(rows=some("sft", "ewc")))[1].sentence.startswith("No recipe of this track ended")


def test_few_items_are_warned_about_loudly(summary_of):
    found = " ".join(warnings(summary_of(rows=some("sft"), items=0.05)))
    assert "Only 25 domain items, fewer than 200" in found and "general items, fewer than 100" in found


@pytest.mark.parametrize("judged", [49, 50])
def test_too_few_judged_outputs_are_warned_about(summary_of, judged):
    ratings = {"overall": {"value": 3.0, "low": 2.5, "high": 3.5, "n": judged}}
    summary = dataclasses.replace(summary_of(rows=some("sft"), items=0.1), people={"rows": {"base": ratings, "sft": ratings}})
    warned = [line for line in warnings(summary) if "judged by people" in line]
    assert warned == (
        ["Only 49 prompts were judged by people, fewer than 50: only large differences can be seen."] * (judged < 50)
    )


def test_chance_families_are_named(report):
    assert any(
        w.startswith("The base answers trivia_mc at chance or too near to tell (27.5 % against 25 %, n = 160)")
        for w in report.warnings
    )


def test_a_control_that_moved_is_an_alarm(summary_of):
    found = warnings(summary_of(rows=some("sft", **{"zero budget": ("control", "free", 0.2, 0.2)})))
    assert found[0].startswith("The zero-budget control (zero budget) differs from the base")
    assert not [w for w in warnings(summary_of(rows=some("sft", "zero budget"))) if "differs" in w]


def test_a_bare_comparison_is_still_reported(tmp_path: Path):
    folder, store = build(tmp_path, rows=some("sft", "ewc"), items=0.1)
    record = read_json(folder / "comparison.json")
    for entry in record["rows"]:
        entry["evals"] = {}
    write_json(folder / "comparison.json", {"name": "bare", "rows": record["rows"]})
    report = write_report(folder, store, reps=50)
    assert report.warnings == ["The base model has no scores, so nothing can be said about gain or retention."]
    assert "Nothing to draw" in (folder / "report.html").read_text()
