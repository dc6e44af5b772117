"""Methods are compared as curves of gain against loss, not as single points."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from test_stats import table

from harness.stats import analysis
from harness.stats.tradeoffs import Curve, Terms, gain_at, matched, mean_change

ITEMS = 400


def scored(shares: dict[str, tuple[float, float]], seeds: int = 3, items: int = ITEMS) -> pd.DataFrame:
    """Rows with exactly these shares of right domain and general answers; each seed has others right."""
    rng = np.random.default_rng(0)
    parts = []
    for place, (task, group) in enumerate((("d", "domain"), ("g", "general"))):
        rows = {}
        for row, share in shares.items():
            right = np.arange(items) < round(share[place] * items)
            repeats = 1 if row == "base" else seeds
            rows[row] = [right if row == "base" else rng.permuted(right) for _ in range(repeats)]
        parts.append(table(rows, task, group=group, seen=None if group == "domain" else False))
    return pd.concat(parts, ignore_index=True)


TRUE = {
    "base": (0.10, 0.95),
    "sft slow": (0.10, 0.95),
    "sft": (0.31, 0.59),
    "mix slow": (0.10, 0.95),
    "mix": (0.26, 0.87),
}
"""At a quarter of their rate `sft` and `mix` gain nothing; at higher ones 21 points for 36 and 16 points for 8."""


@pytest.fixture(scope="module")
def found() -> analysis.Analysis:
    return analysis.analyse(scored(TRUE), "base", reps=300)


def curves(*rows: str) -> list[Curve]:
    return [Curve(row, ("base", f"{row} slow", row)) for row in rows]


def test_methods_that_look_equal_where_neither_learns_are_told_apart_as_curves(found):
    """Tuning picked the rate that learns nothing for both, and they looked equal."""
    slow = found.difference("change", "mix slow", "sft slow")
    assert slow.low <= 0 <= slow.high, "by the points that were picked nothing differs"
    read = matched(found, curves("sft", "mix"), Terms(5.0, ("sft",)))
    assert read.target == pytest.approx(0.9 * 16)
    assert read.change("mix").value == pytest.approx(-8 * 14.4 / 16)
    assert read.change("sft").value == pytest.approx(-36 * 14.4 / 21)
    assert read.rows["mix"].gain.value == pytest.approx(16 * 5 / 8) and read.rows["sft"].gain.value == pytest.approx(
        21 * 5 / 36
    )
    assert read.rows["mix"].area.value == pytest.approx(-8 * 7.2 / 16)
    apart = read.apart["mix", "sft"]
    assert min(apart.change.low, apart.gain.low, apart.area.low) > 0
    assert apart.change.p < 0.05 and apart.area.value == pytest.approx(
        read.rows["mix"].area.value - read.rows["sft"].area.value
    )


def test_intervals_of_curves_know_the_seeds(found):
    one = analysis.analyse(scored(TRUE, seeds=1), "base", reps=300)
    read = matched(one, curves("sft", "mix"), Terms(5.0, ("sft",)))
    assert read.apart["mix", "sft"].change.known and np.isnan(read.apart["mix", "sft"].change.p), "one seed compares nothing"
    rng = np.random.default_rng(1)
    spread = scored(TRUE)
    # of a fifth of the general items a whole seed of `mix` answers none
    hit = (spread["row"] == "mix") & (spread["seed"] == 0) & (spread["group"] == "general")
    spread.loc[hit & (rng.random(len(spread)) < 0.2), "score"] = 0.0
    wide = matched(analysis.analyse(spread, "base", reps=300), curves("sft", "mix"), Terms(5.0)).change("mix")
    narrow = matched(found, curves("sft", "mix"), Terms(5.0)).change("mix")
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_curve_that_never_gains_so_much_has_no_number_there():
    few = analysis.analyse(scored(TRUE | {"idle slow": (0.1, 0.95), "idle": (0.12, 0.95)}, items=200), "base", reps=50)
    read = matched(few, curves("sft", "mix", "idle"), Terms(5.0))
    assert read.reached == ["sft", "mix"] and not read.change("idle").known and read.rows["idle"].most == pytest.approx(2)
    assert read.rows["idle"].gain.value == pytest.approx(2), "it never loses five points: its highest gain"
    assert matched(few, curves("idle"), Terms(5.0)).rows == {}


def test_the_mean_under_a_curve_is_numpys_integral():
    gain, change = np.array([[0.0, 7.0, 5.0, 12.0, 30.0]]), np.array([[0.0, -4.0, -9.0, -9.0, -40.0]])
    rising = [0, 1, 3, 4]  # the point at 5 is passed when 7 has been reached already
    for upto in (6.0, 7.0, 20.5, 30.0):
        places = np.linspace(0, upto, 40_001)
        read = [np.interp(places, gain[0, [0, 1]], change[0, [0, 1]]), np.interp(places, gain[0, [2, 3]], change[0, [2, 3]])]
        high = np.interp(places, gain[0, rising], change[0, rising])
        by_hand = np.where(places <= 7, read[0], np.where(places <= 12, read[1], high))
        assert mean_change(gain, change, upto)[0] == pytest.approx(by_hand.mean(), abs=2e-3)
    assert np.isnan(mean_change(gain, change, 31.0)[0])


def test_gain_for_a_loss_is_read_where_so_much_is_first_lost():
    gain, change = np.array([[0.0, 10.0, 20.0], [0.0, 10.0, 20.0]]), np.array([[0.0, -4.0, -12.0], [0.0, 1.0, -3.0]])
    assert gain_at(gain, change, 8.0).tolist() == [15.0, 20.0]


def test_curves_are_compared_with_the_one_that_keeps_most_though_no_reference_is_there(found):
    assert matched(found, curves("sft", "mix"), Terms(5.0)).apart.keys() == {("sft", "mix")}


def test_a_gain_that_half_of_the_draws_never_reach_is_no_gain(found):
    column, reached = found.rows.index("mix"), {}
    for lost in (149, 150):
        draws = found.replicates["gain"].copy()
        draws[:, column] = np.where(np.arange(len(draws)) < lost, 0.0, 16.0)
        one = dataclasses.replace(found, replicates=found.replicates | {"gain": draws})
        reached[lost] = matched(one, curves("sft", "mix"), Terms(5.0)).change("mix").known
    assert len(draws) == 300 and reached == {149: True, 150: False}
