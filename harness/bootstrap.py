"""The hierarchical paired bootstrap: seeds first, then clusters of items within strata, the same draw for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import t as student

BLOCK = 500


@dataclass(frozen=True)
class Stratum:
    """Measures whose items share clusters, and so are resampled together."""

    measures: np.ndarray
    """(m,) indices into the table of measures."""
    sums: np.ndarray
    """(K, 3, R, S, m): a cluster's sum of tuned scores, of base scores, and count of pairs, by row and seed."""


def strata_of(table: pd.DataFrame, rows: Sequence[str]) -> list[Stratum]:
    """Connected measures with their sums by cluster, row and seed."""
    cluster, measure = table["cluster"].to_numpy(), table["measure"].to_numpy(int)
    row = pd.Categorical(table["row"], categories=list(rows)).codes.astype(int)
    seed, seeds = pd.factorize(table["seed"], sort=True)
    size = measure.max() + 1
    links = sparse.coo_array((np.ones(len(table)), (measure, size + cluster)), shape=(size + cluster.max() + 1,) * 2)
    component = sparse.csgraph.connected_components(links, directed=False)[1]
    found: list[Stratum] = []
    for c in np.unique(component[measure]):
        part = component[measure] == c
        inside, m = np.unique(measure[part], return_inverse=True)
        known, k = np.unique(cluster[part], return_inverse=True)
        shape = (len(known), len(rows), len(seeds), len(inside))
        place = np.ravel_multi_index((k, row[part], seed[part], m), shape)
        start = table["start"].to_numpy(float)[part]
        values = [table["score"].to_numpy(float)[part] - start, start, np.ones(part.sum())]  # changes: equal rows give 0
        sums = [np.bincount(place, weights=v, minlength=int(np.prod(shape))).reshape(shape) for v in values]
        found.append(Stratum(inside, np.stack(sums, axis=1)))
    return found


def seed_stretch(n: int) -> float:
    """How far resampled seed weights stand off 1: √(n / (n − 1)) makes the seeds' part of the variance unbiased.

    The resampled items bring what noise items have within a seed a second time (Owen 2007): never too little.
    """
    return float(np.sqrt(n / (n - 1))) if n > 1 else 0.0


def means(sums: np.ndarray, available: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def resample(
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
            part = means(sums, available[..., stratum.measures], draws)
            tuned[begin : begin + size, :, stratum.measures] = part[0]
            start[begin : begin + size, :, stratum.measures] = part[1]
    return tuned, start


def _weights(rng: np.random.Generator, size: int, n: int) -> np.ndarray:
    """(size, n): how often each of n was drawn, n draws with replacement, as float32."""
    drawn = rng.integers(0, n, (size, n), dtype=np.int32) + n * np.arange(size, dtype=np.int64)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)


def counted_twice(items: np.ndarray) -> float:
    """The part of the draws' variance that is there twice: the noise that items have within a seed.

    `items` (S, B): each seed's own value as items are drawn anew, the same items for all seeds. Seeds differ by that noise, and
    items drawn anew bring it again (Owen 2007). With I the variance that items have alike in all seeds and E that noise, a
    seed's own value varies by I + E and the mean of k seeds by I + E/k; twice there is E/k.
    """
    items = items[np.isfinite(items).all(1)]
    k = len(items)
    return max(0.0, float(items.var(axis=1).mean() - items.mean(0).var()) / (k - 1)) if k > 1 else 0.0


def tail_stretch(by_seed: np.ndarray, draws: np.ndarray, twice: float = 0.0) -> float:
    """Factor on the draws' distance from the estimate, so that the interval's half width is √(t² V_seeds + z² V_items).

    The variance between k seeds, read off `by_seed` (each seed's own value), has k - 1 degrees of freedom: it gets
    Student's t. What items add to the draws' variance, less what is there `twice`, is known with many: z = 1.96. Exact where
    only one of the two is there, a little wide between (Graybill and Wang 1980). 1 where there is one seed, or where seeds do
    not differ.
    """
    by_seed = by_seed[np.isfinite(by_seed)]
    k, total = len(by_seed), float(np.var(draws))
    between = float(np.var(by_seed, ddof=1)) / k if k > 1 else 0.0
    if between <= 0 or total <= 0:
        return 1.0
    wider = float((student.ppf(0.975, k - 1) / student.ppf(0.975, np.inf)) ** 2)
    return float(np.sqrt((wider * between + max(0.0, total - between - twice)) / total))
