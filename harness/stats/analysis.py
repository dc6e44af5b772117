"""Statistics of a comparison: paired with the base, item by item. Only numpy, pandas and scipy.

Every headline number is a weighted mean over tasks. One hierarchical bootstrap (seeds, then
clusters of items within strata, the same draw for all rows) gives them all their intervals, and
differences between rows theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.stats.above_chance import corrected
from harness.stats.bootstrap import (
    Stratum,
    counted_twice,
    over_seeds,
    resample,
    resample_items,
    seed_means,
)
from harness.stats.estimate import DETECTABLE, Estimate, estimate_of, stretched
from harness.stats.item_counts import answered_shares, counts_of, missing_of
from harness.stats.measures import (
    Quantity,
    aligned,
    evaluated,
    measures_of,
    quantities_of,
    steps_of,
)
from harness.stats.quantity_name import QuantityName
from harness.stats.strata import strata_of

MARGIN = 1.0
"""Points of the chance-corrected general mean that non-inferiority and tuning tolerate."""
ITEM_DRAWS = 200
"""Bootstrap draws behind how much items vary within a seed."""
DISCORDANT = 0.2
"""Share of items that a change of model flips: a guess, between METRICS' 0.1 and 0.3."""


def detectable(families: Sequence[int]) -> float:
    """Return the points that a mean over families must move to be seen (80 % power, 5 %).

    `families`: the items of each. The formula is 2.80 · √(Σ ψ/n) / J, with ψ = `DISCORDANT`, n the
    items of a family and J the number of families.
    """
    variance = sum(DISCORDANT / items for items in families)
    return 100 * DETECTABLE * math.sqrt(variance) / len(families)


@dataclass(frozen=True)
class Analysis:
    """Every quantity for every row: estimates, and replicates that belong together draw by draw."""

    rows: list[str]
    measures: pd.DataFrame
    """One line per (task, metric): the base's mean, whether it enters retention (`kept`), ..."""
    seeds: dict[str, int]
    missing: dict[str, int]
    """row -> headline items without a score in this row or in the base: dropped, in pairs."""
    point: dict[str, np.ndarray]
    by_seed: dict[str, np.ndarray] = field(repr=False)
    """quantity -> (S, R): each seed's own value; NaN where a row lacks the seed."""
    replicates: dict[str, np.ndarray] = field(repr=False)
    item_draws: dict[str, np.ndarray] = field(repr=False)
    """quantity -> (S, B, R): each seed's own value as items are resampled, alike for all seeds."""
    counts: dict[str, np.ndarray] = field(repr=False)
    answered: dict[str, np.ndarray] = field(repr=False)
    """`level:` quantity -> (R,) share of a row's answers that have it.

    An answer that is too short to repeat anything has no repetition.
    """
    steps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """quantity in points -> (R,) what the cluster of items that weighs most is worth.

    Other quantities have none (`Estimate.step`).
    """

    def compares(self, *rows: str) -> bool:
        """Return whether these rows can be compared: each has several seeds, or is the base.

        One seed says nothing about another training. The base is not trained, so it has none to
        repeat.
        """
        # The base is not trained, so a second seed of it would be the same.
        trained = [row for row in rows if row != self.rows[0]]
        return all(self.seeds.get(row, 0) > 1 for row in trained)

    def estimate(self, name: str, row: str) -> Estimate:
        """Return one quantity of one row; an undefined estimate where either is unknown."""
        if row not in self.rows or name not in self.point:
            return Estimate()
        column = self.rows.index(row)
        by_seed = self.by_seed[name][:, column]
        draws = self.replicates[name][:, column]
        twice = counted_twice(self.item_draws[name][..., column])
        value = self.point[name][column]
        items = self.counts[name][column]
        step = self.steps[name][column] if name in self.steps else 0.0
        return estimate_of(value, by_seed, draws, items, twice, step=step)

    def share(self, name: str, row: str) -> float:
        """Return the share of a row's answers that a level is over; NaN where it is not known."""
        if row not in self.rows or name not in self.answered:
            return np.nan
        return float(self.answered[name][self.rows.index(row)])

    def difference(self, name: str, row: str, reference: str) -> Estimate:
        """Return `row` minus `reference`, from the same draws; a p only for several seeds."""
        if row not in self.rows or reference not in self.rows or name not in self.point:
            return Estimate()
        a = self.rows.index(row)
        b = self.rows.index(reference)
        value = self.point[name][a] - self.point[name][b]
        by_seed = self.by_seed[name][:, a] - self.by_seed[name][:, b]
        draws = self.replicates[name][:, a] - self.replicates[name][:, b]
        items = min(self.counts[name][a], self.counts[name][b])
        twice = counted_twice(self.item_draws[name][..., a] - self.item_draws[name][..., b])
        step = max(self.steps[name][a], self.steps[name][b]) if name in self.steps else 0.0
        test = self.compares(row, reference)
        return estimate_of(value, by_seed, draws, items, twice, test=test, step=step)

    def draws(self, name: str, rows: list[str]) -> np.ndarray:
        """Return (B, R) joint draws of `rows`.

        Each is as far from its estimate as its interval is wide (seeds may be few).
        """
        columns = []
        for row in rows:
            column = self.rows.index(row)
            # What seeds and items leave open is drawn together, so that differences of rows are
            # paired.
            by_seed = self.by_seed[name][:, column]
            draws = self.replicates[name][:, column]
            twice = counted_twice(self.item_draws[name][..., column])
            columns.append(stretched(self.point[name][column], by_seed, draws, twice))
        return np.stack(columns, axis=1)

    @property
    def names(self) -> list[QuantityName]:
        """Return the names of all quantities, with their parts."""
        return [name for name in self.point if isinstance(name, QuantityName)]

    @property
    def ability(self) -> float:
        """What retention is a share of: points of the base above chance; NaN without families.

        The mean is over the families that enter. Measures that have no chance level (bits per byte)
        are whole, 100 points.
        """
        name = "retention"
        if name not in self.point:
            return math.nan
        part = self.measures[self.measures["kept"]]

        # Tasks without a chance level have no such scale; 1 stands for them.
        scores = part["base"].to_numpy().astype(float)
        chance = part["chance"].to_numpy().astype(float)
        higher = part["higher_better"].to_numpy().astype(bool)
        above = corrected(scores, chance, higher)
        whole = part.assign(above=np.where(np.isnan(above), 1.0, above))
        families = whole.groupby("family")["above"].mean()
        return 100 * float(families.mean())

    @property
    def reps(self) -> int:
        """Bootstrap draws."""
        return len(next(iter(self.replicates.values()), ()))

    def covers(self) -> str:
        """Return a sentence on what the intervals are about."""
        # Five seeds: fewer give an interval of seeds that is hardly one.
        most = max(self.seeds.values(), default=1)
        if most <= 1:
            items_only = "the intervals cover the choice of items only"
            return f"one seed: {items_only}, not a repetition of the training"
        caution = "; so few seeds show little of how much seeds matter" if most < 5 else ""
        return f"{most} seeds: the intervals cover the choice of items and the seed{caution}"


def analyse(
    scores: pd.DataFrame,
    base: str,
    reps: int = 10_000,
    seed: int = 0,
    kept: set[tuple[str, str]] | None = None,
    constant: str | None = None,
    areas: Mapping[str, str] | None = None,
) -> Analysis:
    """Return all quantities of a table of item scores with `row` and `seed`.

    `base`: the untouched model's row. `kept`: the (task, metric) pairs that enter retention; None:
    decided from this table. `constant`: the row that always gives the same answer, by which gain is
    split into form and knowledge. `areas`: family -> column group.
    """
    # A row without a seed (the base) counts as seed -1.
    scores = scores.assign(seed=pd.to_numeric(scores["seed"]).fillna(-1).astype(int))
    measures = measures_of(scores, base, kept)
    table = aligned(scores, base, measures)
    rows = [base, *(row for row in scores["row"].unique() if row != base)]
    strata = strata_of(table, rows)
    # Sums over all items, (3, R, S, M): changes, base scores, pairs.
    total = np.full((3, len(rows), table["seed"].nunique(), len(measures)), 0.0)
    for stratum in strata:
        total[..., stratum.measures] = stratum.sums.sum(0)
    pairs = total[2]
    available = pairs > 0
    floor = rows.index(constant) if constant in rows else None
    quantities = quantities_of(measures, floor is not None, areas)
    return Analysis(
        rows=rows,
        measures=measures,
        seeds={row: int(available[r].any(-1).sum()) for r, row in enumerate(rows)},
        missing=missing_of(measures, pairs, available, rows),
        **_estimated(quantities, measures, total, available, floor),
        **_drawn(quantities, measures, strata, available, floor, reps, seed),
        counts=counts_of(quantities, pairs, available),
        answered=answered_shares(scores, quantities, measures, rows),
        steps=steps_of(quantities, measures, strata, total[2].shape),
    )


def _estimated(
    quantities: dict[QuantityName, Quantity],
    measures: pd.DataFrame,
    total: np.ndarray,
    available: np.ndarray,
    floor: int | None,
) -> dict[str, dict[str, np.ndarray]]:
    """Return the estimates, `point` (R,) and `by_seed` (S, R), from sums over all items."""
    moved, start = seed_means(total[:1], total[1:2], total[2:], available)

    # the estimate gives each seed the same weight
    means = over_seeds(moved, start, available, np.ones((1, available.shape[1])))
    point = evaluated(quantities, measures, *means, floor)
    by_seed = _by_seed(quantities, measures, start + moved, start, available, floor)
    return {
        "point": {name: values[0] for name, values in point.items()},
        "by_seed": {name: values[:, 0] for name, values in by_seed.items()},
    }


def _drawn(
    quantities: dict[QuantityName, Quantity],
    measures: pd.DataFrame,
    strata: list[Stratum],
    available: np.ndarray,
    floor: int | None,
    reps: int,
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Return the draws, `replicates` (B, R) and `item_draws` (S, B, R)."""
    # both bootstraps begin with the same seed, so a table has one answer
    means = resample(strata, available, reps, np.random.default_rng(seed))
    replicates = evaluated(quantities, measures, *means, floor)
    means = resample_items(strata, available, ITEM_DRAWS, np.random.default_rng(seed))
    item_draws = _by_seed(quantities, measures, *means, available, floor)
    return {"replicates": replicates, "item_draws": item_draws}


def _by_seed(
    quantities: dict[QuantityName, Quantity],
    measures: pd.DataFrame,
    tuned: np.ndarray,
    start: np.ndarray,
    available: np.ndarray,
    floor: int | None = None,
) -> dict[str, np.ndarray]:
    """Return each quantity of each seed alone, (S, B, R), from mean scores (B, R, S, M).

    A row with one seed (the base) has its value at every seed.
    """
    n_rows, n_seeds, _ = available.shape
    values_by_seed: dict[str, np.ndarray] = {}
    for name in quantities:
        # a row's draws lie together in memory, as `evaluated` fills them
        values_by_seed[name] = np.moveaxis(np.empty((n_rows, n_seeds, tuned.shape[0])), 0, -1)

    # A row that has one seed of a measure (the base) stands beside every seed of the others.
    single = available.sum(1) == 1
    only_seed = available.argmax(1)
    for seed in range(n_seeds):
        index = np.where(single, only_seed, seed)[None, :, None]
        present = np.take_along_axis(available[None], index, 2)
        after = np.where(present, np.take_along_axis(tuned, index, 2), np.nan)[:, :, 0]
        before = np.where(present, np.take_along_axis(start, index, 2), np.nan)[:, :, 0]
        for name, values in evaluated(quantities, measures, after, before, floor).items():
            values_by_seed[name][seed] = values
    return values_by_seed
