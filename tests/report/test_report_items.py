"""Items forgotten and learned, corrected for guessing: by hand, in a simulation whose truth is known, and in the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.report.summary.item_tables import right_or_wrong
from harness.report.tables.item_flips import flip_table, item_flips, item_table, most_forgotten
from harness.report.write import Report
from harness.stats.analysis import analyse


def test_the_formula_by_hand():
    """k = 4 of 100 items: n10 20, n01 5, n00 30. f = 4/3 (20 - 30/3) / 100, g = 4/3 (5 - 10) / 100 (below 0)."""
    base = np.r_[np.ones(20), np.zeros(5), np.zeros(30), np.ones(45)]
    tuned = np.r_[np.zeros(20), np.ones(5), np.zeros(30), np.ones(45)]
    found = {name: values.mean() for name, values in item_flips(base, tuned, np.full(100, 0.25)).items()}
    assert found["forgotten"] == 0.20 and found["learned"] == 0.05
    assert found["net"] == pytest.approx(-0.15) and found["churn"] == pytest.approx(0.25)
    assert found["forgotten corrected"] == pytest.approx(4 / 3 * (20 - 10) / 100)
    assert found["learned corrected"] == pytest.approx(4 / 3 * (5 - 10) / 100)


def test_without_choices_nothing_is_corrected():
    base, tuned = np.array([1.0, 1, 0, np.nan]), np.array([0.0, 1, 1, 1])
    found = item_flips(base, tuned, np.zeros(4))
    for raw in ("forgotten", "learned"):
        np.testing.assert_array_equal(found[raw], found[f"{raw} corrected"])
    assert np.isnan(found["net"][3])


@pytest.mark.parametrize("k", [2, 4])
def test_the_truth_of_a_know_or_guess_world_is_found(k):
    """Of 200,000 items 60 % are known; 15 % are forgotten, 5 % learned; what is not known is guessed, independently."""
    rng, n = np.random.default_rng(0), 200_000
    draw = rng.random(n)
    before = draw < 0.60
    after = (draw < 0.45) | ((draw > 0.60) & (draw < 0.65))
    base, tuned = (np.where(known, 1.0, rng.random(n) < 1 / k) for known in (before, after))
    found = item_flips(base, tuned, np.full(n, 1 / k))
    assert found["forgotten corrected"].mean() == pytest.approx(0.15, abs=0.006)
    assert found["learned corrected"].mean() == pytest.approx(0.05, abs=0.006)
    assert abs(found["learned"].mean() - 0.05) > 0.03  # the raw share is not the truth


def test_items_all_recipes_lose(report: Report):
    items = report.summary.computed(item_table)
    recipes = [row.name for row in report.summary.recipes if row.done]
    most = most_forgotten(report.summary)
    assert len(most) and (most["base"] == 1).all() and (most[recipes] == 0).all(axis=None)
    others = items[~items.index.isin(most.index)]
    assert not ((others["base"] == 1) & (others[recipes] == 0).all(axis=1)).any()


def test_a_task_where_lower_is_better_has_no_right_answers(summary_of):
    summary = summary_of()
    scores = summary.scores.assign(higher_better=summary.scores["higher_better"] & (summary.scores["task"] != "chat"))
    turned = replace(summary, scores=scores, analysis=analyse(scores, "base", reps=2))
    assert turned.analysis.measures.query("task == 'chat' and primary")["kept"].all()
    assert "chat" in summary.computed(right_or_wrong).index.unique("task") and "chat" not in turned.computed(
        right_or_wrong
    ).index.unique("task")


def test_counts_add_up_over_families(report: Report):
    table = report.summary.computed(flip_table)
    whole = table[table["scope"] == "all"].set_index("row")
    parts = table[table["scope"].str.startswith("family:")].groupby("row")[["n", "n11", "n10", "n01", "n00"]].sum()
    pd.testing.assert_frame_equal(whole[parts.columns], parts.loc[whole.index])
    assert (whole[["n11", "n10", "n01", "n00"]].sum(axis=1) == whole["n"]).all()
    assert (whole["forgotten low"] <= whole["forgotten"]).all() and (whole["forgotten"] <= whole["forgotten high"]).all()
    assert (
        whole.loc["sft", "n10"]
        == (report.summary.computed(right_or_wrong)["base"] > report.summary.computed(right_or_wrong)["sft"]).sum()
    )


def test_the_files_and_the_page_have_them(report: Report, html: str):
    names = {path.name for path in report.files}
    assert {"items.csv", "flips.csv"} <= names
    assert 'id="items"' in html and "Lost by every recipe" in html
    assert len(pd.read_csv(report.folder / "items.csv")) == len(report.summary.computed(right_or_wrong))
