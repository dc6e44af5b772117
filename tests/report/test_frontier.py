"""Fronts, ranks, hypervolume and retention at matched gain: against other computations of the same, and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from harness.report.summary.curves import read_curves
from harness.stats import analysis, claims
from harness.stats.frontier import Plane, exclusive, hypervolume, pareto_ranks, rank_in, ranks_of, standings
from harness.stats.tradeoffs import Terms

SOME = np.random.default_rng(5).integers(0, 6, (2, 200, 7)).astype(float)


def table(scores: dict, group: str, task: str = "t", **columns) -> pd.DataFrame:
    """Item scores of rows, (items,) or (seeds, items), as stored."""
    frames = []
    for row, values in scores.items():
        for seed, one in enumerate(np.atleast_2d(np.asarray(values, float))):
            known = {
                "row": row, "seed": seed, "task": task, "family": task, "group": group, "seen": False, "channel": "choice",
                "metric": "acc", "primary": True, "higher_better": True, "item": [f"{task}{i}" for i in range(len(one))],
                "cluster": [f"{task}{i}" for i in range(len(one))], "score": one, "chance": 0.0,
            }  # fmt: skip
            frames.append(pd.DataFrame(known | columns))
    return pd.concat(frames, ignore_index=True)


def coins(rng: np.random.Generator, n: int, **rates: float) -> dict:
    return {name: (rng.random(n) < rate).astype(float) for name, rate in rates.items()}


def world(rng: np.random.Generator, n: int = 300, **rows: tuple[float, float]) -> pd.DataFrame:
    """Rows with true domain and general scores; the base is right on no domain item and on all general ones."""
    base = {"base": (0.0, 1.0)}
    parts = [
        table(coins(rng, n, **{name: pair[k] for name, pair in (base | rows).items()}), group, group)
        for k, group in enumerate(("domain", "general"))
    ]
    return pd.concat(parts, ignore_index=True)


def test_pareto_ranks_by_hand():
    gain, kept = np.array([[3.0, 2, 1, 1]]), np.array([[1.0, 2, 1.5, 1]])
    assert pareto_ranks(gain, kept).tolist() == [[1, 1, 2, 3]]
    assert pareto_ranks(np.array([[1.0, np.nan]]), np.array([[1.0, 2.0]]))[0, 0] == 1
    assert pareto_ranks(np.ones((1, 3)), np.ones((1, 3))).tolist() == [[1, 1, 1]]  # equal rows do not dominate each other


def test_pareto_ranks_are_the_longest_chain_of_dominators():
    for gain, kept in zip(*SOME, strict=True):
        found: dict[int, int] = {}
        for i in sorted(range(7), key=lambda i: (-gain[i], -kept[i])):
            above = [
                found[j]
                for j in found
                if gain[j] >= gain[i] and kept[j] >= kept[i] and (gain[j] > gain[i] or kept[j] > kept[i])
            ]
            found[i] = 1 + max(above, default=0)
        assert pareto_ranks(gain[None], kept[None])[0].tolist() == [found[i] for i in range(7)]


def test_ranks_are_those_of_pandas():
    theirs = pd.DataFrame(SOME[0]).rank(axis=1, method="min", ascending=False)
    assert (ranks_of(SOME[0]) == theirs.to_numpy()).all()
    assert np.isnan(ranks_of(np.array([[1.0, np.nan, 2.0]]))[0, 1])


def test_rank_in_tells_the_middle_and_the_probability_of_being_first():
    rank = rank_in(np.array([1.0] * 60 + [2.0] * 30 + [3.0] * 10))
    assert (rank.middle, rank.low, rank.high, rank.first) == (1, 1, 3, 0.6)


def test_hypervolume_is_the_share_of_points_that_are_dominated():
    places = np.random.default_rng(1).random((40_000, 2)) * 6
    for gain, kept in zip(SOME[0][:10], SOME[1][:10], strict=True):
        inside = ((places[:, :1] < gain) & (places[:, 1:] < kept)).any(1).mean()
        assert 100 * hypervolume(gain[None], kept[None], 0.0)[0] / 36 == pytest.approx(inside, abs=0.01)


def test_hypervolume_in_fixed_units():
    one = hypervolume(np.array([[80.0]]), np.array([[75.0]]), 0.0)
    assert one[0] == pytest.approx(60)
    assert hypervolume(np.array([[80.0]]), np.array([[75.0]]), 25.0)[0] == pytest.approx(40)
    more = hypervolume(np.array([[80.0, 40.0, -5.0]]), np.array([[75.0, 95.0, 99.0]]), 0.0)
    assert more[0] == pytest.approx(60 + 40 * 20 / 100)  # below the base's domain score nothing is dominated
    assert hypervolume(np.array([[80.0, np.nan]]), np.array([[75.0, 90.0]]), 0.0)[0] == pytest.approx(60)


def test_what_only_a_row_dominates_is_what_is_lost_without_it():
    gain, kept = SOME[0], SOME[1] + np.where(SOME[0] == 5, np.nan, 0)
    found = exclusive(gain, kept, 1.0)
    assert (found > 0).any() and (found == 0).any()
    for row in range(gain.shape[1]):
        without = hypervolume(np.delete(gain, row, 1), np.delete(kept, row, 1), 1.0)
        assert found[:, row] == pytest.approx(hypervolume(gain, kept, 1.0) - without)


def test_the_probability_of_a_rank_is_that_of_the_difference():
    scores = world(np.random.default_rng(2), x=(0.60, 0.70), y=(0.57, 0.73))
    found = analysis.analyse(scores, "base", reps=4000)
    known = standings(found, "base", ["x", "y"])
    for name, field in (("gain", "gain"), ("change", "change")):
        difference = found.difference(name, "x", "y")
        wins = reference.norm.cdf(difference.value / difference.se)
        assert getattr(known["x"], field).first == pytest.approx(wins, abs=0.03)
    assert known["x"].pareto.first + known["y"].pareto.first >= 1


def test_a_row_that_another_beats_is_not_on_the_front():
    scores = world(np.random.default_rng(3), good=(0.7, 0.9), bad=(0.4, 0.5))
    known = standings(analysis.analyse(scores, "base", reps=500), "base", ["good", "bad"])
    assert (known["good"].pareto.first, known["bad"].pareto.first, known["bad"].pareto.middle) == (1, 0, 2)
    assert known["bad"].added.value == 0 and known["good"].added.low > 20


def test_joint_draws_have_the_intervals_of_the_table():
    seeds = np.random.default_rng(4).normal(0.7, 0.1, (3, 1)).repeat(80, 1)
    scores = table({"base": np.ones(80), "x": seeds}, "general")
    found = analysis.analyse(scores, "base", reps=1000)
    estimate = found.estimate("change", "x")
    assert np.quantile(found.draws("change", ["x"]), [0.025, 0.975]) == pytest.approx([estimate.low, estimate.high])


def test_matched_gain_is_numpys_interpolation():
    gain, retention = np.array([[0.0, 7.0, 12.0, 30.0]]), np.array([[100.0, 96.0, 91.0, 60.0]])
    for target in (3.0, 7.0, 20.5):
        assert claims.at_gain(gain, retention, target)[0] == pytest.approx(np.interp(target, gain[0], retention[0]))


TRUE = {0.25: (0.30, 0.95), 0.5: (0.5, 0.85), 1.0: (0.6, 0.70)}
"""Fraction -> true domain and general score of the row whose retention is asked."""


def curves(rng: np.random.Generator, reps: int) -> tuple[analysis.Analysis, analysis.Estimate, float]:
    """One simulated comparison: its analysis, the retention at matched gain of `x`, and the gain that was matched."""
    luck = {"domain": rng.random(400), "general": rng.random(400)}

    def scored(row: str, at: float, domain: float, general: float) -> pd.DataFrame:
        rates = {"domain": domain, "general": general}
        parts = [table({row: luck[name] < rate}, name, name) for name, rate in rates.items()]
        return pd.concat(parts).assign(fraction=at, alpha=at)

    base = scored("base", 1.0, 0.0, 1.0)
    way = pd.concat([scored(row, at, *pair) for row in ("x", "y") for at, pair in TRUE.items()])
    final = pd.concat([base, scored("x", 1.0, *TRUE[1.0]), scored("y", 1.0, *TRUE[1.0])])
    found = analysis.analyse(final, "base", reps=reps)
    read = read_curves(final, way, pd.DataFrame(columns=way.columns), found, "base", reps, Terms(5.0))
    return found, read.matched.kept("x"), read.matched.target


def coverage(worlds: int, reps: int) -> tuple[float, float]:
    """Share of intervals that hold the truth: hypervolume, retention at matched gain."""
    hits = []
    gains, kept = [0.0, *(100 * d for d, _ in TRUE.values())], [100.0, *(100 * g for _, g in TRUE.values())]
    for number in range(worlds):
        found, matched, target = curves(np.random.default_rng(number), reps)
        volume = Plane(found, ["x"]).total()
        truth = np.interp(target, gains, kept)
        hits.append((volume.low <= 60 * 0.7 <= volume.high, matched.low <= truth <= matched.high))
    return tuple(np.mean(hits, axis=0))


def test_coverage_quick():
    volume, matched = coverage(15, 150)
    assert volume >= 0.7 and matched >= 0.7


@pytest.mark.slow
def test_coverage():
    volume, matched = coverage(200, 300)
    assert 0.91 <= volume <= 0.985 and 0.91 <= matched <= 0.985
