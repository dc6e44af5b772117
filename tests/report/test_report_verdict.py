"""The verdict says no more than the evidence does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from fake_store import FAILED, ROWS, build

from harness.report.summary.contrasts import contrasts
from harness.report.summary.rows import Row
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import reading_table
from harness.report.verdict.cautions import warnings
from harness.report.verdict.elsewhere import _forgets
from harness.report.verdict.terminal import shown
from harness.report.verdict.verdict import verdict_of
from harness.report.write import write_report
from harness.stats.estimate import Estimate
from harness.store.files import read_json, write_json

SEVERAL = (0, 1, 2, 3)
"""Seeds: one compares nothing, and two hardly."""


def some(*names: str, **changed: tuple) -> dict:
    return {name: ROWS[name] for name in ("base", *names)} | changed


def test_the_verdict_is_over_the_rows_of_both_tracks(summary_of):
    verdict = verdict_of(summary_of(rows=some("sft", "lora", "mix+lora"), seeds=SEVERAL[:3], items=1.0))
    assert verdict.row == "mix+lora"
    assert any("without general data" in line for line in verdict.details)


def test_one_seed_compares_no_recipes_and_says_what_more_would_cost(report):
    """`sft` under three seeds, taken as three recipes: 2 of 3 pairs "differed" at p < 0.001."""
    verdict = report.verdict
    assert verdict.sentence.startswith("One seed: recipes are not compared, and none is chosen. ") and not verdict.separated
    assert "SEEDS=3 would add 16 runs, about 11 min of training." in verdict.details[0]
    assert report.table.filter(regex="^(holm )?p vs|first probability|rank").isna().all(axis=None)
    assert all(change.known for change in report.summary.computed(contrasts)["change"]), "differences stand, over items only"


def test_the_sentence_leads_with_points(summary_of):
    verdict = verdict_of(summary_of(rows=some("sft", "mix+lora"), items=1.0, seeds=SEVERAL))
    assert verdict.separated and verdict.decision == "clear winner"
    assert verdict.sentence.startswith("Take mix+lora: it gains ") and " changes the general score by " in verdict.sentence
    assert verdict.sentence.index("points [") < verdict.sentence.index("(keeps ")
    assert any(line.startswith("Plain fine-tuning (sft) gains ") for line in verdict.details)


TWINS = {"base": ROWS["base"], "a": ("recipe", "free", 0.48, 0.01), "b": ("recipe", "free", 0.48, 0.01)}


def test_equal_recipes_on_few_items_are_too_little_data_and_it_says_how_many_are_needed(summary_of):
    verdict = verdict_of(summary_of(rows=TWINS, seeds=SEVERAL[:3], items=1.0))
    assert not verdict.separated and verdict.decision == "too little data"
    assert verdict.sentence.startswith("Too little data to tell ")
    needed = r"(About [\d,]+ (domain|general) items would be needed|More items would not do) to see 5 points[,:]"
    assert re.search(needed, verdict.sentence)


def test_equal_recipes_on_enough_items_differ_in_nothing_that_matters(summary_of, monkeypatch):
    monkeypatch.setattr("harness.report.verdict.decision.RELEVANT", 50.0)
    verdict = verdict_of(summary_of(rows=TWINS, seeds=SEVERAL[:3], items=1.0))
    assert verdict.decision == "no difference shown" and "any of them may be taken" in verdict.sentence
    assert "points or more would have been seen (80 % power)" in verdict.sentence


def test_a_limit_that_only_the_interval_breaks_is_too_little_data(summary_of):
    """At half a point of loss more or less than its number the interval of a few items decides nothing."""
    summary = summary_of(rows=some("sft", "mix"), seeds=SEVERAL[:2])
    change = summary.estimate("change", "mix")
    summary.record["plan"]["require"] = f"loss={-change.value + 0.5:.3f}"
    verdict = verdict_of(summary)
    assert verdict.row is None and verdict.decision == "too little data"
    assert "whether mix does is open: it gains " in verdict.sentence and "for its interval to decide" in verdict.sentence
    summary.made.clear()
    summary.record["plan"]["require"] = f"loss={-change.value - 0.5:.3f}"
    assert verdict_of(summary).decision == "no recipe keeps the limits"


def test_where_the_base_is_weak_points_lead_and_no_share_is_shown(summary_of):
    """ "75 % [-10, 127]" was read on a model of 8M parameters."""
    summary = summary_of(rows=some("sft", "mix+lora"), seeds=SEVERAL[:2])
    assert summary.in_per_cent and "(keeps " in verdict_of(summary).sentence
    weak = dataclasses.replace(summary, analysis=dataclasses.replace(summary.analysis, measures=weakened(summary)))
    assert weak.analysis.ability == pytest.approx(12) and not weak.in_per_cent
    told = verdict_of(weak).sentence
    assert "(points only: the base is 12.0 points above chance, of which a share says little)" in told and "keeps" not in told
    assert "points only" in shown(weak) and set(reading_table(weak)["retention (%)"]) == {"points only"}


def weakened(summary):
    """The measures of a base that is 12 points above chance in each family."""
    measures = summary.analysis.measures
    return measures.assign(base=measures["chance"] + 0.12 * (1 - measures["chance"]))


def test_a_method_that_keeps_all_but_learns_little_does_not_win(summary_of):
    rows = some("sft", "mix+lora", low_lr=("recipe", "free", 0.1, 0.001))
    assert verdict_of(summary_of(rows=rows, items=1.0, seeds=SEVERAL[:3])).row == "mix+lora"


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


@pytest.mark.parametrize(
    ("items", "said"),
    [(3, "3 items can decide nothing"), (50, "changes below 7.4 points could not"), (1000, "It does not forget")],
)
def test_where_no_item_changed_the_items_say_whether_forgetting_could_be_overlooked(items, said):
    unchanged = Estimate(0.0, 0.0, 0.0, se=0.0, n=items, step=100 / items)
    told = SimpleNamespace(estimate=lambda name, row: unchanged)
    assert said in _forgets(cast(Summary, told), cast(Row, SimpleNamespace(name="tuned")))
