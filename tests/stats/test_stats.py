"""The statistics against scipy and statsmodels on the same numbers, and against the truth by simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from harness.stats import analysis, claims
from harness.stats.bootstrap import Stratum, counted_twice, over_seeds, resample, resample_items, seeds_half_width, tail_stretch
from harness.stats.measures import numbered


def table(scores: dict, task: str = "t", **columns) -> pd.DataFrame:
    """Item scores of rows, (items,) or (seeds, items), as stored; `columns` override the defaults."""
    frames = []
    for row, values in scores.items():
        for seed, one in enumerate(np.atleast_2d(np.asarray(values, float))):
            known = {
                "row": row, "seed": seed, "task": task, "family": task, "group": "general", "seen": False,
                "channel": "choice", "metric": "acc", "primary": True, "higher_better": True,
                "item": [f"{task}{i}" for i in range(len(one))], "cluster": [f"{task}{i}" for i in range(len(one))],
                "score": one, "chance": 0.0,
            }  # fmt: skip
            frames.append(pd.DataFrame(known | columns))
    return pd.concat(frames, ignore_index=True)


def coin(n: int, p: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(float)


def test_base_against_itself_is_exactly_zero():
    found = analysis.analyse(table({"base": coin(90, 0.7), "same": coin(90, 0.7)}), "base", reps=50)
    for row in found.rows:
        change, retention = found.estimate("change", row), found.estimate("retention", row)
        assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)
        assert (retention.value, retention.low, retention.high) == (100.0, 100.0, 100.0)


def test_a_row_equal_to_the_base_is_exactly_zero_in_every_draw():
    """Continuous scores and rounding sums: a control that equals the base must not read 1e-6 off."""
    values, others = np.random.default_rng(0).normal(1.7, 0.4, 313), np.random.default_rng(1).normal(2, 1, (9, 313))
    rows = {"base": values, "x": values} | {f"other {i}": other for i, other in enumerate(others)}
    scores = table(rows, channel="likelihood", metric="bits_per_byte", higher_better=False)
    found = analysis.analyse(scores, "base", reps=500)
    for name, exact in (("change", 0.0), ("retention", 100.0)):
        estimate = found.estimate(name, "x")
        assert (estimate.value, estimate.low, estimate.high) == (exact, exact, exact)


def test_standard_error_is_that_of_the_paired_t_test():
    base, tuned = coin(2000, 0.8, 1), coin(2000, 0.6, 2)
    change = analysis.analyse(table({"base": base, "x": tuned}), "base").estimate("change", "x")
    assert change.value == pytest.approx(100 * (tuned - base).mean())
    assert change.se == pytest.approx(100 * reference.sem(tuned - base), rel=0.03)
    assert change.detectable == pytest.approx(280 * (tuned - base).std() / np.sqrt(2000), rel=0.03)
    assert change.n == 2000


def test_clustered_standard_error_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    groups = np.repeat(np.arange(200), 5)
    tuned = np.clip(np.repeat(coin(200, 0.5, 3), 5) * coin(1000, 0.9, 4), 0, 1)
    base = coin(1000, 0.9, 5)
    scores = table({"base": base, "x": tuned}, cluster=[str(g) for g in groups])
    change = analysis.analyse(scores, "base").estimate("change", "x")
    fit = api.OLS(tuned - base, np.ones(1000)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    assert change.se == pytest.approx(100 * fit.bse[0], rel=0.04)
    assert change.se > 1.5 * 100 * reference.sem(tuned - base)


def test_interval_agrees_with_scipy_bootstrap():
    base, tuned = coin(400, 0.8, 6), coin(400, 0.7, 7)
    change = analysis.analyse(table({"base": base, "x": tuned}), "base").estimate("change", "x")
    theirs = reference.bootstrap((tuned - base,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert (change.low, change.high) == pytest.approx(
        (100 * theirs.confidence_interval.low, 100 * theirs.confidence_interval.high), abs=0.6
    )


def test_retention_is_corrected_for_chance_family_by_family():
    one = table({"base": [1, 1, 1, 1] * 9, "x": [1, 1, 1, 0] * 9}, "one")
    two = table({"base": [1, 1, 1, 0] * 9, "x": [1, 1, 0, 0] * 9}, "two", chance=0.25, channel="generation")
    found = analysis.analyse(pd.concat([one, two]), "base", reps=20)
    assert found.estimate("retention:family:one", "x").value == pytest.approx(75)
    assert found.estimate("retention:family:two", "x").value == pytest.approx(100 * (0.5 - 0.25) / (0.75 - 0.25))
    assert found.estimate("retention", "x").value == pytest.approx(100 * (0.75 + 0.25 / 0.75) / (1 + 0.5 / 0.75))
    assert found.estimate("change:channel:generation", "x").value == pytest.approx(-100 * 0.25 / 0.75)


def test_tasks_of_one_family_count_once():
    tasks = [table({"base": [1] * 12, "x": [1, 1, 0, 0] * 3}, name, family="same") for name in "ab"]
    other = table({"base": [1] * 12, "x": [1] * 12}, "c")
    found = analysis.analyse(pd.concat([*tasks, other]), "base", reps=20)
    assert found.estimate("retention", "x").value == pytest.approx((50 + 100) / 2)


def test_a_family_the_base_answers_at_chance_is_left_out_and_named():
    near = table({"base": [1, 0, 0, 0] * 3, "x": [0, 0, 0, 0] * 3}, "near", chance=0.25)
    found = analysis.analyse(pd.concat([near, table({"base": [1] * 12, "x": [1] * 12}, "far")]), "base", reps=20)
    assert found.measures.query("near_chance")["task"].tolist() == ["near"]
    assert found.estimate("retention", "x").value == 100


def test_lower_is_better_loses_when_it_rises():
    scores = table({"base": [2.0] * 12, "x": [2.5] * 12}, higher_better=False, channel="likelihood")
    found = analysis.analyse(scores, "base", reps=20)
    assert found.estimate("retention", "x").value == pytest.approx(80)
    assert found.estimate("change", "x").value == pytest.approx(-50)


@pytest.mark.parametrize("channel", ["likelihood", "choice", "generation"])
def test_every_channel_is_read_above_its_chance(channel):
    """Ten points between chance and all there is: 0.8 to 0.6 of 0.5 to 1, and errors from 0.2 to 0.3 of at most 0.5."""
    scores = table({"base": [0.8] * 12, "x": [0.6] * 12}, "rises", chance=0.5, channel=channel)
    errors = table({"base": [0.2] * 12, "x": [0.3] * 12}, "falls", chance=0.5, channel=channel, higher_better=False)
    for part, change, kept in ((scores, -100 * 0.2 / 0.5, 100 * 0.1 / 0.3), (errors, -100 * 0.1 / 0.5, 100 * 0.2 / 0.3)):
        found = analysis.analyse(part, "base", reps=20)
        assert found.estimate("change", "x").value == pytest.approx(change)
        assert found.estimate("retention", "x").value == pytest.approx(kept)


def test_gain_is_the_macro_mean_over_domain_tasks():
    long = table({"base": [0] * 8, "x": [1] * 8}, "long", group="domain")
    short = table({"base": [0, 0], "x": [0, 0]}, "short", group="domain")
    assert analysis.analyse(pd.concat([long, short]), "base", reps=20).estimate("gain", "x").value == pytest.approx(50)


def test_missing_items_leave_in_pairs_and_are_counted():
    scores = table({"base": [1, 1, np.nan, 1], "x": [1, np.nan, 1, 0]})
    found = analysis.analyse(scores, "base", reps=20)
    change = found.estimate("change", "x")
    assert (change.n, found.missing["x"]) == (2, 2)
    assert change.value == pytest.approx(-50)


def test_a_row_never_scored_on_a_task_has_no_number_there():
    scores = pd.concat([table({"base": [1] * 12, "x": [1] * 12}, "a"), table({"base": [1] * 12}, "b")])
    found = analysis.analyse(scores, "base", reps=20)
    assert not found.estimate("retention", "x").known and found.estimate("retention:family:a", "x").known


def test_a_level_is_read_over_the_tasks_where_it_is_defined():
    """Answers too short to repeat anything leave one task without a number, not the whole measure."""
    told = {"metric": "rep3_word", "primary": False, "channel": "degeneration"}
    long = table({"base": [0.5, 0.5], "x": [0.2, 0.4]}, "a", **told)
    short = table({"base": [0.1, 0.1], "x": [np.nan, np.nan]}, "b", **told)
    found = analysis.analyse(pd.concat([long, short, table({"base": [1, 1], "x": [1, 1]}, "c")]), "base", reps=50)
    assert found.estimate("level:rep3_word:general", "x").value == pytest.approx(0.3)
    assert found.estimate("level:rep3_word:general", "base").value == pytest.approx(0.3)


def test_a_level_counts_answers_where_the_base_has_none():
    """A model that loops where the base said a word or two must not look as tidy as the base."""
    told = {"metric": "rep3_word", "primary": False, "channel": "degeneration"}
    scores = table({"base": [np.nan, np.nan, 0.0], "x": [0.9, 0.9, np.nan]}, "a", **told)
    found = analysis.analyse(pd.concat([scores, table({"base": [1, 1], "x": [1, 1]}, "c")]), "base", reps=50)
    level = found.estimate("level:rep3_word:general", "x")
    assert (level.value, level.n) == (pytest.approx(0.9), 2)
    assert found.estimate("level:rep3_word:general", "base").value == 0


def test_draws_are_shared_so_equal_rows_never_differ():
    rows = {row: [coin(300, 0.6, 2)] * 2 for row in "xy"}
    scores = table({"base": coin(300, 0.8, 1)} | rows)
    difference = analysis.analyse(scores, "base", reps=200).difference("change", "x", "y")
    assert (difference.low, difference.high, difference.p) == (0, 0, 1)


def test_p_of_a_difference_agrees_with_the_paired_t_test():
    x, y = coin(500, 0.60, 8), coin(500, 0.66, 9)
    scores = table({"base": np.ones(500), "x": [x, x], "y": [y, y]})
    difference = analysis.analyse(scores, "base").difference("change", "x", "y")
    assert difference.p == pytest.approx(reference.ttest_rel(x, y).pvalue, abs=0.015)

    # A minus B, in its number and in its draws, with an interval of 95 %.
    assert difference.value == pytest.approx(100 * (x - y).mean()) and difference.value < 0
    half = 1.96 * 100 * reference.sem(x - y)
    assert difference.low == pytest.approx(difference.value - half, abs=0.4)
    assert difference.high == pytest.approx(difference.value + half, abs=0.4)


def test_clusters_shared_between_tasks_are_drawn_together():
    values = {"base": np.ones(50), "x": coin(50, 0.5, 3)}
    same = [table(values, name, family="f", cluster=[f"c{i}" for i in range(50)]) for name in "ab"]
    apart = [table(values, name, family="f") for name in "ab"]
    together, separate = (analysis.analyse(pd.concat(parts), "base", reps=4000) for parts in (same, apart))
    ratio = together.estimate("change", "x").se / separate.estimate("change", "x").se
    assert ratio == pytest.approx(np.sqrt(2), rel=0.06)


def test_same_seed_same_numbers():
    scores = table({"base": coin(50, 0.8, 1), "x": coin(50, 0.6, 2)})
    one, two = (analysis.analyse(scores, "base", reps=100).estimate("change", "x") for _ in range(2))
    assert (one.low, one.high, one.se) == (two.low, two.high, two.se)


def test_record_says_what_the_interval_covers():
    base = coin(20, 0.8)
    assert "items only" in analysis.analyse(table({"base": base, "x": base}), "base", reps=20).covers()
    assert analysis.analyse(table({"base": base, "x": [base, base]}), "base", reps=20).covers().startswith("2 seeds")


def test_seeds_widen_the_interval():
    base, rng = np.ones(400), np.random.default_rng(0)
    runs = [(rng.random(400) < p).astype(float) for p in (0.5, 0.6, 0.7)]
    one = analysis.analyse(table({"base": base, "x": runs[1]}), "base", reps=2000).estimate("change", "x")
    three = analysis.analyse(table({"base": base, "x": runs}), "base", reps=2000).estimate("change", "x")
    assert three.value == pytest.approx(100 * (np.mean(runs) - 1))
    assert three.high - three.low > 2 * (one.high - one.low)


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert claims.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert np.isnan(claims.holm([0.01, np.nan, 0.04])[1]) and claims.holm([0.01, np.nan, 0.04])[0] == 0.02


def test_does_not_forget_needs_the_lower_end_not_a_large_p():
    assert claims.does_not_forget(analysis.Estimate(-0.2, -0.8, 0.4))
    assert not claims.does_not_forget(analysis.Estimate(0.5, -1.2, 2.2))
    assert not claims.does_not_forget(analysis.Estimate())


@pytest.mark.parametrize(("n", "drop"), [(400, 0.005), (4000, 0.002), (4000, 0.02)])
def test_does_not_forget_is_the_one_sided_test_at_the_margin(n: int, drop: float):
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    base = coin(n, 0.9, n)
    tuned = base * coin(n, 1 - drop, n + 1)
    change = analysis.analyse(table({"base": base, "x": tuned}), "base", reps=1000).estimate("change", "x")
    p = weightstats.DescrStatsW(100 * (tuned - base)).ttest_mean(-analysis.MARGIN, alternative="larger")[1]
    assert claims.does_not_forget(change) == (p < 0.025)


def test_retention_at_matched_gain_is_linear_between_points():
    gain, retention = np.array([[0.0, 10, 20]]), np.array([[100.0, 90, 70]])
    assert claims.at_gain(gain, retention, 15) == pytest.approx([80])
    assert np.isnan(claims.at_gain(gain, retention, 25)[0])


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_where_seeds_alone_differ_the_interval_is_as_wide_as_students(n_seeds: int):
    """Every item of a seed scores alike: nothing but seeds varies, so the right interval is the one-sample t interval."""
    levels = np.random.default_rng(3).normal(0.7, 0.05, n_seeds)
    scores = table({"base": np.full(40, 0.9), "x": np.repeat(levels[:, None], 40, axis=1)})
    found = analysis.analyse(scores, "base", reps=4000).estimate("change", "x")
    exact = reference.t.ppf(0.975, n_seeds - 1) * 100 * reference.sem(levels)
    if n_seeds >= 5:  # of fewer, resampling has too few distinct draws for its own quantiles to be normal
        assert (found.high - found.low) / 2 == pytest.approx(exact, rel=0.12)
    assert found.se == pytest.approx(exact / reference.norm.ppf(0.975), rel=0.04)


def test_where_seeds_do_not_differ_they_stretch_nothing():
    values = coin(300, 0.6, 5)
    scores = table({"base": coin(300, 0.8), "x": np.stack([values] * 4)})
    one = analysis.analyse(table({"base": coin(300, 0.8), "x": values}), "base", reps=2000).estimate("change", "x")
    assert analysis.analyse(scores, "base", reps=2000).estimate("change", "x").se == pytest.approx(one.se, rel=0.05)


AT_ONCE = 20
"""Simulated comparisons that are tasks of one table: an analysis costs about as much for one as for twenty."""


def held(worlds: Sequence[pd.DataFrame], names: Sequence[str], truth: float, reps: int) -> float:
    """Return the share of simulated comparisons whose interval of `x` holds the truth, each by a quantity of its own."""
    hits = []
    for begin in range(0, len(worlds), AT_ONCE):
        batch = slice(begin, begin + AT_ONCE)
        found = analysis.analyse(pd.concat(worlds[batch]), "base", reps=reps)
        estimates = [found.estimate(name, "x") for name in names[batch]]
        assert all(estimate.known for estimate in estimates)
        hits += [estimate.low <= truth <= estimate.high for estimate in estimates]
    return sum(hits) / len(worlds)


def seeds_coverage(n_worlds: int, n_seeds: int, reps: int) -> float:
    """Of worlds where what seeds differ by is most of the uncertainty; each is a family."""
    rng, worlds = np.random.default_rng(21), []
    for number in range(n_worlds):
        level = rng.normal(0.6, 0.06, n_seeds)
        tuned = (rng.random((n_seeds, 400)) < level[:, None]).astype(float)
        worlds.append(table({"base": np.ones(400), "x": tuned}, f"w{number}"))
    return held(worlds, [f"change:family:w{number}" for number in range(n_worlds)], -40, reps)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_coverage_where_seeds_differ_most(n_seeds: int):
    assert 0.91 <= seeds_coverage(200, n_seeds, 400) <= 0.985


def coverage(n_worlds: int, n_seeds: int, reps: int) -> float:
    """Share of simulated comparisons whose interval holds the true change: two families, clusters of 2, seeds."""
    rng, hits = np.random.default_rng(20), 0
    for _ in range(n_worlds):
        drop, parts = rng.normal(0.15, 0.03, n_seeds) if n_seeds > 1 else np.array([0.15]), []
        for name, n, accuracy in (("a", 200, 0.9), ("b", 120, 0.7)):
            ease = np.repeat(rng.random(n // 2), 2)
            base = (0.5 * ease + 0.5 * rng.random(n) < accuracy - 0.1).astype(float)
            tuned = base * (rng.random((n_seeds, n)) >= drop[:, None])
            parts.append(table({"base": base, "x": tuned}, name, cluster=[f"{name}{i // 2}" for i in range(n)]))
        found = analysis.analyse(pd.concat(parts), "base", reps=reps).estimate("retention", "x")
        hits += found.low <= 85 <= found.high
    return hits / n_worlds


def test_coverage_quick():
    assert 0.89 <= coverage(60, 1, 300) < 1


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 3, 5])
def test_coverage(n_seeds: int):
    assert 0.93 <= coverage(600, n_seeds, 800) <= (0.97 if n_seeds == 1 else 0.99)


def test_noise_of_items_within_seeds_is_counted_once():
    rng = np.random.default_rng(5)
    alike, own = 2 * rng.normal(size=40_000), 3 * rng.normal(size=(4, 40_000))
    assert counted_twice(alike + own) == pytest.approx(9 / 4, rel=0.02)
    assert counted_twice(np.stack([alike, alike])) == 0
    assert counted_twice(own[:1]) == 0 and counted_twice(np.vstack([own[:1], np.full((1, 40_000), np.nan)])) == 0


def test_the_seeds_part_gets_students_t_and_the_items_part_the_normal():
    by_seed, rng = np.array([1.0, 2.0, 4.0]), np.random.default_rng(6)
    seeds = by_seed.var(ddof=1) / 3
    draws = rng.normal(scale=np.sqrt(seeds + 0.5 + 0.2), size=200_000)  # the items' part is 0.5, and 0.2 is there twice
    half = 1.959964 * draws.std() * tail_stretch(by_seed, draws, 0.2)
    assert half == pytest.approx(np.sqrt(4.302653**2 * seeds + 1.959964**2 * 0.5), rel=0.005)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("cached", [1, 250_000])
def test_draws_are_means_over_what_was_drawn(monkeypatch, alike, cached):
    """Row by row or all at once, the same items in all runs or not: against weights written out run by run."""
    monkeypatch.setattr("harness.stats.bootstrap.CACHED", cached)
    rng, shape = np.random.default_rng(3), (6, 4, 3, 2)  # clusters, rows, seeds, measures
    counts = np.broadcast_to(rng.integers(1, 4, (6, 1, 1, 2)), shape) if alike else rng.integers(1, 4, shape)
    available = np.ones(shape[1:], bool)
    available[0, 1:] = False  # the base has one seed
    start = np.broadcast_to(rng.random((6, 1, 1, 2)), shape) * counts
    sums = np.stack([rng.random(shape) * counts, start, counts], 1) * available
    strata = [Stratum(np.array([0, 1]), sums)]
    found, items = (f(strata, available, 40, np.random.default_rng(0)) for f in (resample, resample_items))
    again = np.random.default_rng(0)
    seeds, clusters = (
        np.stack([np.bincount(row, minlength=n) for row in again.integers(0, n, (40, n), np.int32)]) for n in (3, 6)
    )
    drawn = np.einsum("bk,kirsm->birsm", clusters, sums)
    with np.errstate(invalid="ignore"):
        moved, base = drawn[:, 0] / drawn[:, 2], drawn[:, 1] / drawn[:, 2]
    assert items[0][:, available] == pytest.approx((base + moved)[:, available], rel=1e-5)
    assert found[0][:, 0] == pytest.approx((base + moved)[:, 0, 0], rel=1e-5)
    weights = (1 + np.sqrt(3 / 2) * (seeds - 1)) / 3
    for row in range(1, 4):
        assert found[0][:, row] == pytest.approx(np.einsum("bs,bsm->bm", weights, (base + moved)[:, row]), rel=1e-5)
        assert found[1][:, row] == pytest.approx(np.einsum("bs,bsm->bm", weights, base[:, row]), rel=1e-5)


def test_rows_of_other_items_are_drawn_alike_row_by_row_or_all_at_once_with_one_seed(monkeypatch):
    rng, shape = np.random.default_rng(3), (6, 4, 1, 2)
    counts = rng.integers(1, 4, shape)
    strata = [Stratum(np.array([0, 1]), np.stack([rng.random(shape) * counts, rng.random(shape) * counts, counts], 1))]
    whole, available = [], np.ones(shape[1:], bool)
    for cached in (250_000, 1):
        monkeypatch.setattr("harness.stats.bootstrap.CACHED", cached)
        whole.append(np.stack(resample(strata, available, 40, np.random.default_rng(0))))
    assert whole[0] == pytest.approx(whole[1])


def test_the_width_that_seeds_alone_leave_is_students():
    by_seed = np.array([1.0, 2.0, 4.0, np.nan])
    assert seeds_half_width(by_seed) == pytest.approx(4.302653 * reference.sem(by_seed[:3]))
    assert seeds_half_width(by_seed[:1]) == 0


def test_a_row_that_lacks_every_seed_has_no_mean():
    available = np.array([[[True], [True]], [[False], [False]]])  # rows, seeds, measures
    scores = np.where(available, 0.5, 0.0)[None].repeat(3, 0)
    for means in over_seeds(scores, scores, available, np.ones((3, 2))):
        assert np.isfinite(means[:, 0]).all() and np.isnan(means[:, 1]).all()


def test_what_is_kept_is_read_off_headline_measures_of_general_tasks_alone():
    kept, lost = {"base": coin(400, 0.9), "x": coin(400, 0.9)}, {"base": np.ones(400), "x": np.zeros(400)}
    parts = [table(kept, "g"), table(lost, "d", group="domain", seen=None), table(lost, "g", metric="beside", primary=False)]
    found = analysis.analyse(pd.concat(parts), "base", reps=20)
    assert found.estimate("change", "x").value == 0 and found.estimate("gain", "x").value == -100


def test_a_chance_level_that_is_not_known_is_zero_and_a_task_that_the_base_lacks_has_no_items():
    known = {"base": np.arange(40) < 32, "x": np.arange(40) < 24}
    found = analysis.analyse(pd.concat([table(known, chance=np.nan), table({"x": np.ones(9)}, "late")]), "base", reps=20)
    assert found.estimate("retention", "x").value == pytest.approx(75)
    assert found.measures.set_index("task")["items"].to_dict() == {"t": 40, "late": 0}


def test_names_that_are_missing_are_one_name_of_their_own():
    names = pd.DataFrame({"family": ["p", "p", "q", "q"], "cluster": ["x", None, "x", None]})
    assert numbered(names, "family", "cluster").tolist() == [0, 1, 2, 3]
