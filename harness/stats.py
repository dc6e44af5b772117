"""Statistics of a comparison: paired with the base, item by item. Needs numpy, pandas and scipy only.

Every headline number is a weighted mean over tasks. One hierarchical bootstrap (seeds, then clusters of items within
strata, the same draw for all rows) gives them all their intervals, and differences between rows theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

HEADLINE_CHANNELS = ("likelihood", "choice", "generation")
NEAR_CHANCE = 0.1
"""A task the base answers by less than this above chance can neither be forgotten nor retained."""
MARGIN = 1.0
"""Points of the chance-corrected general mean that "does not forget" tolerates (non-inferiority), and tuning too."""
DETECTABLE = 2.80
"""Standard errors a true difference must have to be seen with 80 % power at 5 %: 1.96 + 0.84."""
BLOCK = 500


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
    """Two-sided bootstrap p of no difference, where this is one."""

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: 2.80 · sd of the paired differences / √n, clustered."""
        return DETECTABLE * self.se


@dataclass(frozen=True)
class Quantity:
    """A headline number: weights over measures, and what of each measure is averaged."""

    kind: str
    """`points` (tuned − base, × 100), `change` (the same, chance-corrected), `retention` (%), `level` (the mean itself)."""
    weights: np.ndarray
    """(M,), zero where the measure does not enter."""


@dataclass(frozen=True)
class Stratum:
    """Measures whose items share clusters, and so are resampled together."""

    measures: np.ndarray
    """(m,) indices into the table of measures."""
    sums: np.ndarray
    """(K, 3, R, S, m): a cluster's sum of tuned scores, of base scores, and count of pairs, by row and seed."""


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
    replicates: dict[str, np.ndarray] = field(repr=False)
    counts: dict[str, np.ndarray] = field(repr=False)

    def estimate(self, name: str, row: str) -> Estimate:
        if row not in self.rows or name not in self.point:
            return Estimate()
        r = self.rows.index(row)
        return estimate_of(self.point[name][r], self.replicates[name][:, r], self.counts[name][r])

    def difference(self, name: str, row: str, reference: str) -> Estimate:
        """`row` minus `reference`, from the same draws."""
        if row not in self.rows or reference not in self.rows or name not in self.point:
            return Estimate()
        a, b = self.rows.index(row), self.rows.index(reference)
        point, draws, n = self.point[name], self.replicates[name], self.counts[name]
        return estimate_of(point[a] - point[b], draws[:, a] - draws[:, b], min(n[a], n[b]), test=True)

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
    scores: pd.DataFrame, base: str, reps: int = 10_000, seed: int = 0, kept: set[tuple[str, str]] | None = None
) -> Analysis:
    """All quantities of a table of item scores with `row` and `seed`; `base` names the untouched model's row.

    `kept`: the (task, metric) pairs that enter retention, where another table has decided that.
    """
    scores = scores.assign(seed=pd.to_numeric(scores["seed"]).fillna(-1).astype(int))
    measures = _measures(scores, base, kept)
    table, rows = _align(scores, base, measures), [base, *(r for r in scores["row"].unique() if r != base)]
    strata, n_seeds = _strata(table, rows), table["seed"].nunique()
    total = np.full((3, len(rows), n_seeds, len(measures)), 0.0)
    for stratum in strata:
        total[..., stratum.measures] = stratum.sums.sum(0)
    available = total[2] > 0
    quantities = _quantities(measures)
    tuned, start = _means(total[None], available, np.ones((1, n_seeds)))
    point = _evaluate(quantities, measures, tuned, start)
    draws = _evaluate(quantities, measures, *_resample(strata, available, reps, np.random.default_rng(seed)))
    items = total[2].sum(1) / np.maximum(available.sum(1), 1)
    counts = {name: items[:, q.weights > 0].sum(-1).round().astype(int) for name, q in quantities.items()}
    seeds = {row: int(available[r].any(-1).sum()) for r, row in enumerate(rows)}
    missing, first = _missing(measures, total[2], available, rows), {name: value[0] for name, value in point.items()}
    return Analysis(rows, measures, seeds, missing, first, draws, counts)


def _measures(scores: pd.DataFrame, base: str, kept: set[tuple[str, str]] | None) -> pd.DataFrame:
    """One line a (task, metric); `base` is NaN where the base was not scored on it."""
    first = ["family", "group", "seen", "channel", "primary", "higher_better"]
    groups = scores.assign(chance=scores["chance"].fillna(0.0)).groupby(["task", "metric"], sort=True)
    table = groups.agg(**{name: (name, "first") for name in first}, chance=("chance", "mean"))
    own = scores[scores["row"] == base].drop_duplicates(["task", "metric", "item"]).groupby(["task", "metric"])["score"]
    table = table.assign(base=own.mean(), items=own.size()).reset_index()
    table["items"] = table["items"].fillna(0).astype(int)
    table["headline"] = table["primary"].astype(bool) & table["channel"].isin(HEADLINE_CHANNELS) & table["base"].notna()
    table["higher_better"] = table["higher_better"].astype("boolean").fillna(True).astype(bool)  # null: neither, so as read
    away = (table["base"] - table["chance"]) * np.where(table["higher_better"] | (table["chance"] == 0), 1, -1)
    general = table["headline"] & (table["group"] == "general")
    table["near_chance"] = general & (away < NEAR_CHANCE)
    pairs = pd.Series(list(zip(table["task"], table["metric"], strict=True)), index=table.index)
    table["kept"] = general & (~table["near_chance"] & table["base"].notna() if kept is None else pairs.isin(kept))
    return table


def _align(scores: pd.DataFrame, base: str, measures: pd.DataFrame) -> pd.DataFrame:
    """Scores beside the base's score of the same item; pairs that lack either are dropped.

    Measures the base was never scored on stand alone (their level is known, a change is not).
    """
    keys = ["task", "metric", "item"]
    reference = scores[scores["row"] == base].drop_duplicates(keys).set_index(keys)["score"].rename("start")
    number = measures.reset_index().rename(columns={"index": "measure"})[["task", "metric", "measure", "base"]]
    table = scores.join(reference, on=keys).merge(number, on=["task", "metric"])
    table.loc[table["base"].isna(), "start"] = 0.0
    table = table[table["score"].notna() & table["start"].notna()]
    cluster = table["group"].astype(str) + "\0" + table["family"].astype(str) + "\0"
    cluster = cluster + table["cluster"].fillna(table["item"]).astype(str)
    return table.assign(cluster=pd.factorize(cluster)[0])


def _strata(table: pd.DataFrame, rows: Sequence[str]) -> list[Stratum]:
    """Connected measures with their sums by cluster, row and seed."""
    cluster, measure = table["cluster"].to_numpy(), table["measure"].to_numpy(int)
    row = pd.Categorical(table["row"], categories=list(rows)).codes.astype(int)
    seed, seeds = pd.factorize(table["seed"], sort=True)
    size = measure.max() + 1
    links = sparse.coo_array((np.ones(len(table)), (measure, size + cluster)), shape=(size + cluster.max() + 1,) * 2)
    component = sparse.csgraph.connected_components(links, directed=False)[1]
    strata: list[Stratum] = []
    for c in np.unique(component[measure]):
        part = component[measure] == c
        inside, m = np.unique(measure[part], return_inverse=True)
        known, k = np.unique(cluster[part], return_inverse=True)
        shape = (len(known), len(rows), len(seeds), len(inside))
        place = np.ravel_multi_index((k, row[part], seed[part], m), shape)
        start = table["start"].to_numpy(float)[part]
        values = [table["score"].to_numpy(float)[part] - start, start, np.ones(part.sum())]  # changes: equal rows give 0
        sums = [np.bincount(place, weights=v, minlength=int(np.prod(shape))).reshape(shape) for v in values]
        strata.append(Stratum(inside, np.stack(sums, axis=1)))
    return strata


def seed_stretch(n: int) -> float:
    """How far resampled seed weights stand off 1: √(n / (n − 1)) makes the seeds' part of the variance unbiased.

    The resampled items bring item noise a second time (Owen 2007), in place of Student's t: 92 to 98 % simulated coverage.
    """
    return float(np.sqrt(n / (n - 1))) if n > 1 else 0.0


def _means(sums: np.ndarray, available: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean tuned and base score by row and measure, (B, R, m), from sums (B, 3, R, S, m) of changes, base scores
    and items, and seed draws (B, S)."""
    n_seeds = available.sum(1)
    stretch = np.vectorize(seed_stretch, otypes=[float])(n_seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = draws[:, None, :, None] * available
        centre = weights.sum(2, keepdims=True) / n_seeds[:, None]
        weights = (1 + stretch[:, None] * (weights - centre)) / n_seeds[:, None]
        means = [np.where(available, sums[:, i] / sums[:, 2], 0.0) for i in (0, 1)]
        moved, start = ((np.where(available, weights, 0.0) * mean).sum(2) for mean in means)
        tuned = start + moved
    return np.where(n_seeds > 0, tuned, np.nan), np.where(n_seeds > 0, start, np.nan)


def _resample(
    strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap means (reps, R, M): seeds first, then clusters within each stratum, the same draw for every row."""
    rows, n_seeds, n_measures = available.shape
    tuned, start = np.full((2, reps, rows, n_measures), np.nan)
    for begin in range(0, reps, BLOCK):
        size = min(BLOCK, reps - begin)
        draws = _weights(rng, size, n_seeds)
        for stratum in strata:
            flat = stratum.sums.reshape(len(stratum.sums), -1).astype(np.float32)
            sums = (_weights(rng, size, len(flat)) @ flat).astype(float).reshape(size, *stratum.sums.shape[1:])
            part = _means(sums, available[..., stratum.measures], draws)
            tuned[begin : begin + size, :, stratum.measures] = part[0]
            start[begin : begin + size, :, stratum.measures] = part[1]
    return tuned, start


def _weights(rng: np.random.Generator, size: int, n: int) -> np.ndarray:
    """(size, n): how often each of n was drawn, n draws with replacement, as float32."""
    drawn = rng.integers(0, n, (size, n), dtype=np.int32) + n * np.arange(size, dtype=np.int64)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)


def _macro(measures: pd.DataFrame, mask: pd.Series, by: str = "family") -> np.ndarray:
    """Weights of a mean over `by`, each the mean of its tasks; all zero where nothing is in the mask."""
    inside = measures[mask]
    weights = np.zeros(len(measures))
    if len(inside):
        weights[mask.to_numpy(bool)] = 1 / (inside.groupby(by)[by].transform("size") * inside[by].nunique())
    return weights


def _quantities(measures: pd.DataFrame) -> dict[str, Quantity]:
    """Name -> quantity: gain, retention and change (all, seen, held out, each family and channel), levels."""
    kept, seen = measures["kept"], measures["seen"].astype("boolean").fillna(False).astype(bool)
    domain = measures["headline"] & (measures["group"] == "domain")
    found = {"gain": Quantity("points", _macro(measures, domain, by="task"))}
    scopes = {"": kept, ":seen": kept & seen, ":held_out": kept & ~seen}
    scopes |= {f":family:{name}": kept & (measures["family"] == name) for name in measures.loc[kept, "family"].unique()}
    scopes |= {f":channel:{name}": kept & (measures["channel"] == name) for name in measures.loc[kept, "channel"].unique()}
    for scope, mask in scopes.items():
        weights = _macro(measures, mask)
        found |= {f"retention{scope}": Quantity("retention", weights), f"change{scope}": Quantity("change", weights)}
    for task in measures.loc[domain, "task"]:
        found[f"gain:task:{task}"] = Quantity("points", _macro(measures, domain & (measures["task"] == task), by="task"))
    for (metric, group), _ in measures.groupby(["metric", "group"]):
        mask = (measures["metric"] == metric) & (measures["group"] == group)
        found[f"level:{metric}:{group}"] = Quantity("level", _macro(measures, mask, by="task"))
    return {name: quantity for name, quantity in found.items() if quantity.weights.any()}


def _evaluate(
    quantities: dict[str, Quantity], measures: pd.DataFrame, tuned: np.ndarray, start: np.ndarray
) -> dict[str, np.ndarray]:
    """Each quantity, (B, R), from mean scores (B, R, M)."""
    higher, chance = measures["higher_better"].to_numpy(bool), measures["chance"].to_numpy(float)
    sign, inverted = np.where(higher, 1.0, -1.0), ~higher & (chance == 0)
    span = np.where(higher, 1 - chance, np.where(chance > 0, chance, 1.0))
    values = {}
    for name, q in quantities.items():
        use = q.weights > 0
        after, before, c = tuned[..., use], start[..., use], chance[use]
        if q.kind == "level":  # over the tasks where it is defined for this row: repetition needs an answer of some length
            known = np.isfinite(after)
            with np.errstate(invalid="ignore", divide="ignore"):
                values[name] = np.where(known, after, 0.0) @ q.weights[use] / (known @ q.weights[use])
            continue
        if q.kind == "retention":
            with np.errstate(invalid="ignore", divide="ignore"):
                value = 100 * (np.where(inverted[use], before / after, (after - c) / (before - c)) - 1)
        else:
            value = 100 * sign[use] * (after - before) / (span[use] if q.kind == "change" else 1.0)
        values[name] = value @ q.weights[use] + (100.0 if q.kind == "retention" else 0.0)
    return values


def _missing(measures: pd.DataFrame, count: np.ndarray, available: np.ndarray, rows: list[str]) -> dict[str, int]:
    headline = measures["headline"].to_numpy(bool)
    expected = measures["items"].to_numpy(int)[headline].sum()
    seeds = np.maximum(available.any(-1).sum(-1), 1)
    return {row: int(expected * seeds[r] - count[r][:, headline].sum()) for r, row in enumerate(rows)}


def estimate_of(value: float, draws: np.ndarray, n: int, test: bool = False) -> Estimate:
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Estimate()
    low, high = np.quantile(draws, [0.025, 0.975])
    se = float(draws.std(ddof=1)) if len(draws) > 1 else np.nan
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(draws) + 1)) if test else np.nan
    return Estimate(float(value), float(low), float(high), se, int(n), float(p))
