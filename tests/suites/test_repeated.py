"""The test of the statistics is itself tested, on populations whose truth is made."""

import numpy as np
import pandas as pd
import pytest

from suites.phantom import repeated
from suites.phantom.gates import statistics_gates


def population(seeds=40, spread=0.04, shift=0.0):
    """Two general families and a domain, 0/1 scores; seeds differ by `spread`; the second half of them by `shift` more."""
    rng = np.random.default_rng(11)
    known = {"metric": "acc", "channel": "generation", "primary": True, "higher_better": True, "chance": 0.0}
    tables = [
        pd.DataFrame(
            known | {"task": name, "family": name, "group": group, "seen": False, "item": [f"{name}{i}" for i in range(n)]}
        )
        for name, group, n in (("a", "general", 120), ("b", "general", 80), ("c", "domain", 100))
    ]
    items = pd.concat(tables, ignore_index=True)
    items["cluster"] = items["task"] + (items.groupby("task").cumcount() // 2).astype(str)
    base = (rng.random(len(items)) < np.where(items["group"] == "general", 0.9, 0.1)).astype(float)
    level = 0.6 + rng.normal(0, spread, seeds) + np.where(np.arange(seeds) >= seeds // 2, shift, 0.0)
    ease = rng.normal(0, 0.15, len(items))[:, None]
    return repeated.Population(items, base, (rng.random((len(items), seeds)) < level + ease).astype(float))


def shares(made, seeds, n):
    return np.array([repeated.once(made, seeds, number) for number in range(n)]).mean(0)


def test_items_are_drawn_in_whole_clusters_within_their_family():
    made = population(seeds=4)
    chosen, clusters = made.drawn_anew(np.random.default_rng(0))
    assert len(chosen) == len(made.items) and len(set(clusters)) == len(chosen) / 2
    for cluster in range(5):
        assert made.items.iloc[chosen[clusters == cluster]]["cluster"].nunique() == 1
    assert made.items.iloc[chosen].groupby("task").size().to_dict() == made.items.groupby("task").size().to_dict()


def test_the_truth_is_that_of_all_seeds():
    made = population(seeds=6)
    change = 100 * (made.tuned.mean(1) - made.base)
    by_family = pd.Series(change).groupby(made.items["family"]).mean()
    assert made.truth["change"] == pytest.approx(by_family[["a", "b"]].mean())
    assert made.truth["gain"] == pytest.approx(by_family["c"])


def test_values_by_seed_average_to_the_truth_and_skewed_seeds_are_shown():
    made = population(seeds=6)
    for name, values in made.values_by_seed().items():
        assert values.mean() == pytest.approx(made.truth[name])
    rng = np.random.default_rng(0)
    assert repeated.t_coverage(rng.normal(size=2000), 5) == pytest.approx(0.95, abs=0.01)
    assert repeated.t_coverage(rng.lognormal(sigma=1.5, size=2000), 5) < 0.85


@pytest.mark.slow
def test_alarms_and_coverage_where_nothing_differs():
    found = shares(population(), seeds=5, n=150)
    assert found[::3].max() <= 0.10 and found[1::3].min() >= 0.90


def test_of_one_seed_a_side_nothing_is_claimed_though_intervals_over_items_exclude_0():
    found = shares(population(spread=0.15), seeds=1, n=12)
    assert found[::3].max() == 0 and found[2::3].mean() > 0.3
    several = shares(population(spread=0.15), seeds=3, n=6)
    assert (several[::3] == several[2::3]).all(), "of several seeds such an interval is an alarm"


@pytest.mark.parametrize(("alarm", "met"), [(0.0, True), (0.001, False)])
def test_the_gate_of_one_seed_is_met_where_nothing_at_all_is_claimed(alarm, met):
    alarms, apart = {"change": alarm, "gain": 0.0}, {"change": 0.66, "gain": 0.4}
    gates = statistics_gates(repeated.Repeated(1, 1000, alarms, {"change": 0.5, "gain": 0.5}, apart, alarms))
    assert [gate.passed for gate in gates] == [met, True] and "exclude 0 in 66.0 %" in gates[0].measured


def test_a_true_difference_raises_the_alarm():
    made = population(shift=0.25)
    table = made.rows(*made.drawn_anew(np.random.default_rng(0)), A=range(5), B=range(20, 25))
    found = repeated.analyse(table, "base", reps=200, kept=made.kept).difference("change", "A", "B")
    assert found.high < 0
