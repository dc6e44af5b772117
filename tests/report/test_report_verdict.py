"""The verdict says no more than the evidence does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fake_store import FAILED, ROWS, build

from harness.report.verdict.cautions import warnings
from harness.report.verdict.verdict import verdict_of
from harness.report.write import write_report
from harness.store.files import read_json, write_json

SEVERAL = (0, 1, 2, 3)
"""Seeds: one compares nothing, and two hardly."""


def some(*names: str, **changed: tuple) -> dict:
    return {name: ROWS[name] for name in ("base", *names)} | changed


def test_the_verdict_is_over_the_rows_of_both_tracks(report):
    assert report.verdict.row == "mix+lora"
    assert any("without general data" in line for line in report.verdict.details)


def test_one_seed_compares_no_recipes_and_says_what_more_would_cost(report):
    """`sft` under three seeds, taken as three recipes: 2 of 3 pairs "differed" at p < 0.001."""
    verdict = report.verdict
    assert verdict.sentence.startswith("One seed: the recipes are not compared.") and not verdict.separated
    assert "SEEDS=3 would add 16 runs, about 11 min of training." in verdict.details[0]
    assert report.table.filter(regex="^(holm )?p vs|first probability|rank").isna().all(axis=None)
    assert all(change.known for change in report.summary.contrasts["change"]), "differences stand, over items only"


def test_the_sentence_leads_with_points(summary_of):
    verdict = verdict_of(summary_of(rows=some("sft", "mix+lora"), items=1.0, seeds=SEVERAL))
    assert verdict.separated
    assert verdict.sentence.startswith("mix+lora gains ") and " changes the general score by " in verdict.sentence
    assert verdict.sentence.index("points [") < verdict.sentence.index("(keeps ")
    assert any(line.startswith("Plain fine-tuning (sft) gains ") for line in verdict.details)


def test_equal_recipes_are_not_separated(summary_of):
    rows = {"base": ROWS["base"], "a": ("recipe", "free", 0.48, 0.01), "b": ("recipe", "free", 0.48, 0.01)}
    verdict = verdict_of(summary_of(rows=rows, seeds=SEVERAL))
    assert not verdict.separated and verdict.sentence.startswith("The evidence does not separate the recipes. ")
    assert "could not be relied on to show (n = " in verdict.sentence


def test_a_method_that_keeps_all_but_learns_little_does_not_win(summary_of):
    rows = some("sft", "mix+lora", low_lr=("recipe", "free", 0.1, 0.001))
    assert verdict_of(summary_of(rows=rows, items=1.0)).row == "mix+lora"


def test_no_gain_no_price(summary_of):
    rows = some(sft=("recipe", "free", 0.0, 0.3))
    assert verdict_of(summary_of(rows=rows)).sentence.startswith("No recipe gained measurably")


def test_recipes_that_failed_are_named(summary_of):
    assert set(FAILED) == {"ewc"}
    assert verdict_of(summary_of(rows=some("sft", "ewc"))).details[-1] == "Without numbers, see what failed: ewc."
    assert verdict_of(summary_of(rows=some("ewc"))).sentence.startswith("No recipe ended")


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
