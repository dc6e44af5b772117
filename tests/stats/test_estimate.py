"""What few items and few seeds leave open."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from test_headline import exactly
from test_stats import coin, table

from harness.stats import analysis, claims
from harness.stats.estimate import UNSEEN, Estimate


def unchanged(items: int, tasks: int = 1, **columns) -> Estimate:
    """The change of a model that answers every item as the base does."""
    base = exactly(0.9, items // tasks)
    tables = [table({"base": base, "x": base}, f"t{i}", **columns) for i in range(tasks)]
    return analysis.analyse(pd.concat(tables), "base", reps=20).estimate("change", "x")


@pytest.mark.parametrize("items, excluded", [(50, 7.38), (368, 1.002), (370, 0.997)])
def test_items_that_did_not_change_exclude_what_so_many_can(items, excluded):
    """50 unchanged items read as [0, 0], and "does not forget" was claimed of them."""
    change = unchanged(items)
    assert (change.low, change.high) == (0, 0) and change.unseen == pytest.approx(excluded, rel=0.01)
    assert claims.does_not_forget(change) == (excluded < 1)
    assert 368 <= change.items_for(1.0) <= 370


def test_what_is_excluded_is_what_would_have_been_seen():
    """A model that loses this share of the items leaves all of 50 unchanged in 2.5 % of samples."""
    assert (1 - unchanged(50).unseen / 100) ** 50 == pytest.approx(0.025, abs=0.004)


def test_clusters_and_chance_count_in_what_is_excluded():
    alone = unchanged(100).unseen
    assert unchanged(100, cluster=[f"c{i // 4}" for i in range(100)]).unseen == pytest.approx(4 * alone)
    assert unchanged(100, chance=0.5).unseen == pytest.approx(2 * alone)
    assert unchanged(100, tasks=4).unseen == pytest.approx(alone), "families of the same size"


def test_bits_per_byte_have_no_such_bound():
    told = {"channel": "likelihood", "metric": "bits_per_byte", "higher_better": False}
    scores = table({"base": np.full(40, 1.5), "x": np.full(40, 1.5)}, **told)
    assert analysis.analyse(scores, "base", reps=5).estimate("change", "x").unseen == 0


def test_items_for_a_width_are_those_with_which_it_is_reached():
    rows = {"base": np.ones(4000), "x": coin(4000, 0.8, 1)}
    whole = analysis.analyse(table(rows), "base", reps=2000).estimate("change", "x")
    part = analysis.analyse(table({row: values[:500] for row, values in rows.items()}), "base", reps=2000).estimate(
        "change", "x"
    )
    assert part.items_for((whole.high - whole.low) / 2) == pytest.approx(4000, rel=0.15)


def test_seeds_that_differ_are_not_outweighed_by_items():
    rng = np.random.default_rng(0)
    seeds = [rng.random(2000) < level for level in (0.9, 0.7, 0.8)]
    change = analysis.analyse(table({"base": np.ones(2000), "x": seeds}), "base", reps=500).estimate("change", "x")
    half = (change.high - change.low) / 2
    assert change.seeds_half > 0.8 * half and change.items_for(0.8 * half) == np.inf
    same = [rng.random(2000) < 0.8 for _ in range(3)]
    alike = analysis.analyse(table({"base": np.ones(2000), "x": same}), "base", reps=500).estimate("change", "x")
    assert alike.items_for(0.5) < np.inf and Estimate().items_for(1.0) == np.inf


def test_the_constant_is_the_poisson_bound():
    assert np.exp(-UNSEEN) == pytest.approx(0.025)


def test_items_for_a_width_leave_what_seeds_bring_as_it_is():
    """By hand: the squares of half widths, less what seeds bring of both."""
    wide, narrow = Estimate(0.0, -3.0, 3.0, n=100, seeds_half=1.0), Estimate(0.0, -0.5, 0.5, n=100)
    assert wide.items_for(2.0) == math.ceil(100 * (9 - 1) / (4 - 1)) and narrow.items_for(0.25) == 400
    assert wide.items_for(1.0) == wide.items_for(0.5) == math.inf


def test_where_no_item_changed_the_number_of_items_says_what_may_be_overlooked():
    assert Estimate(0.0, 0.0, 0.0, se=0.0, n=50, step=2.0).overlooked == pytest.approx(2.0 * 3.689, abs=1e-3)
    assert Estimate(0.0, -1.0, 1.0, se=0.5, n=50, step=2.0).overlooked == pytest.approx(1.4)
