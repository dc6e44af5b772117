"""Statistics of a comparison: paired with the base, item by item. Needs numpy, pandas and scipy only.

Every headline number is a weighted mean over tasks. One hierarchical bootstrap (seeds, then clusters of items within
strata, the same draw for all rows) gives them all their intervals, and differences between rows theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.stats.bootstrap import counted_twice, over_seeds, resample, resample_items, seed_means, strata_of, tail_stretch
from harness.stats.measures import Quantity, aligned, evaluated, measures_of, quantities_of

MARGIN = 1.0
"""Points of the chance-corrected general mean that "does not forget" tolerates (non-inferiority), and tuning too."""
ITEM_DRAWS = 200
"""Bootstrap draws behind how much items vary within a seed."""
DETECTABLE = 2.80
"""Standard errors a true difference must have to be seen with 80 % power at 5 %: 1.96 + 0.84."""
DISCORDANT = 0.2
"""Share of items that a change of model flips, where nothing is measured yet: a guess, between METRICS' 0.1 and 0.3."""


def detectable(families: Sequence[int]) -> float:
    """Points that a mean over families of so many items must move to be seen (80 % power, 5 %): 2.80 · √(Σ ψ/n) / J."""
    return 100 * DETECTABLE * math.sqrt(sum(DISCORDANT / n for n in families)) / len(families)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    se: float = np.nan
    """Standard deviation of the bootstrap replicates: clustered, stratified, paired."""
    n: int = 0
    """Paired items behind it."""
    p: float = np.nan
    """Two-sided bootstrap p of no difference, where this is one between recipes of several seeds each."""
    least_p: float = np.nan
    """The smallest p that so many draws can give: a p that is equal to it is a bound, not a value."""

    @property
    def p_is_bound(self) -> bool:
        return bool(self.p <= self.least_p)

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: 2.80 · sd of the paired differences / √n, clustered."""
        return DETECTABLE * self.se


@dataclass(frozen=True)
class Analysis:
    """Every quantity for every row: estimates, and replicates that belong together draw by draw."""

    rows: list[str]
    measures: pd.DataFrame
    """One line a (task, metric): what is known of it, the base's mean, whether it enters retention (`kept`)."""
    seeds: dict[str, int]
    missing: dict[str, int]
    """row -> headline items without a score in this row or in the base: dropped, in pairs."""
    point: dict[str, np.ndarray]
    by_seed: dict[str, np.ndarray] = field(repr=False)
    """quantity -> (S, R): each seed's own value; NaN where a row lacks the seed."""
    replicates: dict[str, np.ndarray] = field(repr=False)
    item_draws: dict[str, np.ndarray] = field(repr=False)
    """quantity -> (S, B, R): each seed's own value as items are drawn anew, alike for all seeds."""
    counts: dict[str, np.ndarray] = field(repr=False)
    answered: dict[str, np.ndarray] = field(repr=False)
    """`level:` quantity -> (R,) share of a row's answers that have it: one too short to repeat anything has no repetition."""

    def compares(self, *rows: str) -> bool:
        """Whether these rows may be told apart: each has several seeds. One seed says nothing about another training.

        The base is not trained, so it has none to repeat.
        """
        return all(self.seeds.get(row, 0) > 1 for row in rows if row != self.rows[0])

    def estimate(self, name: str, row: str) -> Estimate:
        if row not in self.rows or name not in self.point:
            return Estimate()
        r = self.rows.index(row)
        own, draws, twice = self.by_seed[name][:, r], self.replicates[name][:, r], counted_twice(self.item_draws[name][..., r])
        return estimate_of(self.point[name][r], own, draws, self.counts[name][r], twice)

    def share(self, name: str, row: str) -> float:
        """Share of a row's answers that a level is over; NaN where it is not known."""
        return float(self.answered[name][self.rows.index(row)]) if row in self.rows and name in self.answered else np.nan

    def difference(self, name: str, row: str, reference: str) -> Estimate:
        """`row` minus `reference`, from the same draws; with a p only where both have several seeds."""
        if row not in self.rows or reference not in self.rows or name not in self.point:
            return Estimate()
        a, b = self.rows.index(row), self.rows.index(reference)
        point, own, draws, n = self.point[name], self.by_seed[name], self.replicates[name], self.counts[name]
        twice = counted_twice(self.item_draws[name][..., a] - self.item_draws[name][..., b])
        own, draws = (part[:, a] - part[:, b] for part in (own, draws))
        return estimate_of(point[a] - point[b], own, draws, min(n[a], n[b]), twice, test=self.compares(row, reference))

    def draws(self, name: str, rows: list[str]) -> np.ndarray:
        """(B, R) joint draws of `rows`, each as far from its estimate as its interval is wide (seeds may be few)."""
        columns = [self.rows.index(row) for row in rows]
        point, own, draws = self.point[name], self.by_seed[name], self.replicates[name]
        twice = [counted_twice(self.item_draws[name][..., c]) for c in columns]
        return np.stack([stretched(point[c], own[:, c], draws[:, c], t) for c, t in zip(columns, twice, strict=True)], axis=1)

    @property
    def reps(self) -> int:
        """Bootstrap draws."""
        return len(next(iter(self.replicates.values()), ()))

    def covers(self) -> str:
        """What the intervals are about, in words."""
        if (most := max(self.seeds.values(), default=1)) <= 1:
            return "one seed: the intervals cover the choice of items only, not a repetition of the training"
        few = "; so few seeds show little of how much seeds matter" if most < 5 else ""
        return f"{most} seeds: the intervals cover the choice of items and the seed{few}"


def analyse(
    scores: pd.DataFrame,
    base: str,
    reps: int = 10_000,
    seed: int = 0,
    kept: set[tuple[str, str]] | None = None,
    constant: str | None = None,
) -> Analysis:
    """All quantities of a table of item scores with `row` and `seed`; `base` names the untouched model's row.

    `kept`: the (task, metric) pairs that enter retention, where another table has decided that. `constant`: the row that always
    gives the same answer, by which gain is split into form and knowledge.
    """
    scores = scores.assign(seed=pd.to_numeric(scores["seed"]).fillna(-1).astype(int))
    measures = measures_of(scores, base, kept)
    table, rows = aligned(scores, base, measures), [base, *(r for r in scores["row"].unique() if r != base)]
    strata, n_seeds = strata_of(table, rows), table["seed"].nunique()
    total = np.full((3, len(rows), n_seeds, len(measures)), 0.0)
    for stratum in strata:
        total[..., stratum.measures] = stratum.sums.sum(0)
    available = total[2] > 0
    floor = rows.index(constant) if constant in rows else None
    quantities = quantities_of(measures, floor is not None)
    moved, start = seed_means(total[:1], total[1:2], total[2:], available)
    point = evaluated(quantities, measures, *over_seeds(moved, start, available, np.ones((1, n_seeds))), floor)
    draws = evaluated(quantities, measures, *resample(strata, available, reps, np.random.default_rng(seed)), floor)
    by_seed = _by_seed(quantities, measures, start + moved, start, available, floor)
    again = resample_items(strata, available, ITEM_DRAWS, np.random.default_rng(seed))
    item_draws = _by_seed(quantities, measures, *again, available, floor)
    items = total[2].sum(1) / np.maximum(available.sum(1), 1)
    counts = {name: items[:, q.weights > 0].sum(-1).round().astype(int) for name, q in quantities.items()}
    seeds = {row: int(available[r].any(-1).sum()) for r, row in enumerate(rows)}
    missing, first = _missing(measures, total[2], available, rows), {name: value[0] for name, value in point.items()}
    by_seed = {name: values[:, 0] for name, values in by_seed.items()}
    answered = _answered(scores, quantities, measures, rows)
    return Analysis(rows, measures, seeds, missing, first, by_seed, draws, item_draws, counts, answered)


def _by_seed(
    quantities: dict[str, Quantity],
    measures: pd.DataFrame,
    tuned: np.ndarray,
    start: np.ndarray,
    available: np.ndarray,
    floor: int | None = None,
) -> dict[str, np.ndarray]:
    """Each quantity of each seed alone, (S, B, R), from mean scores (B, R, S, M); a row with one seed (the base) has that."""
    n_seeds = available.shape[1]
    found = {name: np.moveaxis(np.empty((len(available), n_seeds, tuned.shape[0])), 0, -1) for name in quantities}
    alone, only = available.sum(1) == 1, available.argmax(1)
    for s in range(n_seeds):
        place = np.where(alone, only, s)[None, :, None]
        known = np.take_along_axis(available[None], place, 2)
        after, before = (np.where(known, np.take_along_axis(mean, place, 2), np.nan)[:, :, 0] for mean in (tuned, start))
        for name, values in evaluated(quantities, measures, after, before, floor).items():
            found[name][s] = values
    return found


def _answered(
    scores: pd.DataFrame, quantities: dict[str, Quantity], measures: pd.DataFrame, rows: list[str]
) -> dict[str, np.ndarray]:
    """(R,) share of the answers behind each level that have a score."""
    told = scores.assign(known=scores["score"].notna()).groupby(["task", "metric", "row"], observed=True)["known"]
    known, every = (part.unstack("row").reindex(columns=rows) for part in (told.sum(), told.size()))
    places = pd.MultiIndex.from_frame(measures[["task", "metric"]])
    known, every = (part.reindex(places).to_numpy(float) for part in (known, every))
    levels = {name: q.weights > 0 for name, q in quantities.items() if name.startswith("level:")}
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: np.nansum(known[use], 0) / np.nansum(every[use], 0) for name, use in levels.items()}


def _missing(measures: pd.DataFrame, count: np.ndarray, available: np.ndarray, rows: list[str]) -> dict[str, int]:
    headline = measures["headline"].to_numpy(bool)
    expected = measures["items"].to_numpy(int)[headline].sum()
    seeds = np.maximum(available.any(-1).sum(-1), 1)
    return {row: int(expected * seeds[r] - count[r][:, headline].sum()) for r, row in enumerate(rows)}


def stretched(value: float, by_seed: np.ndarray, draws: np.ndarray, twice: float = 0.0) -> np.ndarray:
    """Draws (B,) at the distance from the estimate that few seeds demand; `twice`: see `bootstrap.counted_twice`."""
    return value + tail_stretch(by_seed, draws[np.isfinite(draws)], twice) * (draws - value)


def estimate_of(
    value: float, by_seed: np.ndarray, draws: np.ndarray, n: int, twice: float = 0.0, test: bool = False
) -> Estimate:
    """The estimate of one number; `twice`: see `bootstrap.counted_twice`."""
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Estimate()
    draws = stretched(value, by_seed, draws, twice)
    low, high = np.quantile(draws, [0.025, 0.975])
    se = float(draws.std(ddof=1)) if len(draws) > 1 else np.nan
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    least = 2 / (len(draws) + 1)
    p, least = (min(1.0, (tail + 1) * least), least) if test else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high), se, int(n), float(p), float(least))
