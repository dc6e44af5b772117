"""The hierarchical paired bootstrap: seeds first, then clusters of items within strata, the same draw for every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit  # scipy.stats has the same number, and takes a second to import

BLOCK = 500
CACHED = 250_000
"""Numbers (draws x rows x seeds x measures) that are worked on at once: 2 MB."""


@dataclass(frozen=True)
class Stratum:
    """Measures whose items share clusters, and so are resampled together; sums over a cluster's items, by row and seed."""

    measures: np.ndarray
    """(m,) indices into the table of measures."""
    sums: np.ndarray
    """(K, 3, R, S, m): changes, base scores, and how many pairs."""


def strata_of(table: pd.DataFrame, rows: Sequence[str]) -> list[Stratum]:
    """Connected measures with their sums by cluster, row and seed."""
    cluster, measure = table["cluster"].to_numpy(), table["measure"].to_numpy(int)
    row = pd.Categorical(table["row"], categories=list(rows)).codes.astype(int)
    seed, seeds = pd.factorize(table["seed"], sort=True)
    size, many = measure.max() + 1, cluster.max() + 1
    pairs = np.unique(measure * many + cluster)
    links = sparse.coo_array((np.ones(len(pairs)), (pairs // many, size + pairs % many)), shape=(size + many,) * 2)
    component = connected_components(links, directed=False)[1][measure]
    found: list[Stratum] = []
    for c in np.unique(component):
        part = np.flatnonzero(component == c)
        inside, m = np.unique(measure[part], return_inverse=True)
        known, k = np.unique(cluster[part], return_inverse=True)
        shape = (len(known), len(rows), len(seeds), len(inside))
        place = np.ravel_multi_index((k, row[part], seed[part], m), shape)
        start = table["start"].to_numpy(float)[part]
        values = [table["score"].to_numpy(float)[part] - start, start, None]  # changes: equal rows give 0
        sums = [np.bincount(place, weights=v, minlength=int(np.prod(shape))).reshape(shape) for v in values]
        found.append(Stratum(inside, np.stack(sums, axis=1, dtype=float)))
    return found


def seed_stretch(n: int) -> float:
    """How far resampled seed weights stand off 1: √(n / (n − 1)) makes the seeds' part of the variance unbiased.

    The resampled items bring what noise items have within a seed a second time (Owen 2007): never too little.
    """
    return float(np.sqrt(n / (n - 1))) if n > 1 else 0.0


def seed_means(
    changes: np.ndarray, base: np.ndarray, counts: np.ndarray, available: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean change and mean base score of each seed, (B, R, S, m), from their sums and counts; 0 where a row lacks the seed."""
    with np.errstate(invalid="ignore", divide="ignore"):
        moved, start = (np.divide(sums, counts, dtype=float) for sums in (changes, base))
    return np.where(available, moved, 0.0), start if start.shape[2] == 1 else np.where(available, start, 0.0)


def over_seeds(moved: np.ndarray, start: np.ndarray, available: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean tuned and base score by row and measure, (B, R, m), from each seed's (B, R, S, m) and seed draws (B, S)."""
    if (available == available[:1, :, :1]).all():
        available = available[:1, :, :1]  # as nearly always: then the weights are made once
    n_seeds = available.sum(1)
    stretch = np.vectorize(seed_stretch, otypes=[float])(n_seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = draws[:, None, :, None] * available
        centre = weights.sum(2, keepdims=True) / n_seeds[:, None]
        weights = np.where(available, (1 + stretch[:, None] * (weights - centre)) / n_seeds[:, None], 0.0)
    moved, start = ((weights * mean).sum(2) for mean in (moved, start))
    return np.where(n_seeds > 0, start + moved, np.nan), np.where(n_seeds > 0, start, np.nan)


def resample(
    strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap means (reps, R, M): seeds first, then clusters within each stratum, the same draw for every row."""
    tuned, start = np.full((2, reps, len(available), available.shape[-1]), np.nan)
    for block, draws, place, own, part in _drawn(strata, available, reps, rng):
        tuned[block, place, own], start[block, place, own] = over_seeds(*part, available[place, :, own], draws)
    return tuned, start


def resample_items(
    strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same of each seed alone, (reps, R, S, M): only clusters are drawn, alike for all seeds."""
    tuned, start = np.zeros((2, reps, *available.shape))
    for block, _, place, own, (moved, before) in _drawn(strata, available, reps, rng):
        start[block, place, :, own], tuned[block, place, :, own] = before, before + moved
    return tuned, start


Drawn = tuple[slice, np.ndarray, slice, np.ndarray, tuple[np.ndarray, np.ndarray]]
"""Which draws, (B, S) how often each seed is drawn, which rows, which measures, and their `seed_means`."""


def _drawn(strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Draws of seeds and clusters, a block at a time and no more rows at once than the processor's cache holds."""
    rows, n_seeds, _ = available.shape
    parts = [_flat(stratum.sums.astype(np.float32), available[..., stratum.measures]) for stratum in strata]
    for begin in range(0, reps, BLOCK):
        size = min(BLOCK, reps - begin)
        draws = _weights(rng, size, n_seeds)
        for stratum, sums in zip(strata, parts, strict=True):
            times, own = _weights(rng, size, len(stratum.sums)), stratum.measures
            changes, base = ((times @ part.reshape(len(part), -1)).reshape(size, *part.shape[1:]) for part in sums)
            step = max(1, CACHED // (size * n_seeds * len(own)))
            for place in (slice(row, row + step) for row in range(0, rows, step)):
                start, counts = np.moveaxis(base if base.shape[2] == 1 else base[:, :, place], 1, 0)
                found = seed_means(changes[:, place], start, counts, available[place, :, own])
                yield slice(begin, begin + size), draws, place, own, found


def _flat(sums: np.ndarray, available: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of changes, (K, R, S, m), and of base scores and pairs, (K, 2, R, S, m) or, where all runs have the same items,
    (K, 2, 1, 1, m)."""
    base, full = sums[:, 1:], available.all(-1)
    if full.any():
        row, seed = np.argwhere(full)[0]
        one = base[:, :, row : row + 1, seed : seed + 1]
        base = one if (available <= (base == one)).all() else base
    return np.ascontiguousarray(sums[:, 0]), np.ascontiguousarray(base)


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
    return float(np.sqrt((_wider(k) * between + max(0.0, total - between - twice)) / total))


@cache
def _wider(k: int) -> float:
    """(t / z)² of a 95 % interval over k seeds."""
    return float((stdtrit(k - 1, 0.975) / stdtrit(np.inf, 0.975)) ** 2)
