"""The hierarchical paired bootstrap: seeds first, then clusters of items within strata, the same draw for every row.

Needs numpy alone where there is one seed, so that `lethe diff` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

BLOCK = 500
"""Bootstrap draws that are computed at once."""
CACHED = 250_000
"""Numbers (draws x rows x seeds x measures) that are worked on at once: 2 MB."""


@dataclass(frozen=True)
class Stratum:
    """Measures whose items share clusters, and so are resampled together; sums over a cluster's items, by row and seed."""

    measures: np.ndarray
    """(m,) indices into the table of measures."""
    sums: np.ndarray
    """(K, 3, R, S, m): changes, base scores, and how many pairs."""


def seed_stretch(n: int) -> float:
    """Return how far resampled seed weights stand off 1: √(n / (n − 1)) makes the seeds' part of the variance unbiased.

    The resampled items bring what noise items have within a seed a second time (Owen 2007): never too little.
    """
    return float(np.sqrt(n / (n - 1))) if n > 1 else 0.0


def seed_means(
    changes: np.ndarray, base: np.ndarray, counts: np.ndarray, available: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean change and mean base score of each seed, (B, R, S, m), from their sums and counts.

    Both are 0 where a row lacks the seed.
    """
    # An item of a row that is not there divides zero by zero, and is set to 0 below.
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.divide(changes, counts, dtype=float)
        start = np.divide(base, counts, dtype=float)
    moved = np.where(available, moved, 0.0)
    # base scores that all rows share have one seed only, and none of it is lacking
    if start.shape[2] > 1:
        start = np.where(available, start, 0.0)
    return moved, start


def over_seeds(moved: np.ndarray, start: np.ndarray, available: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean tuned and base score by row and measure, (B, R, m), from each seed's (B, R, S, m) and seed draws (B, S)."""

    # One shape of availability for all rows makes the weights once.
    if (available == available[:1, :, :1]).all():
        available = available[:1, :, :1]  # as nearly always: then the weights are made once
    n_seeds = available.sum(1)
    stretch = np.vectorize(seed_stretch, otypes=[float])(n_seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = draws[:, None, :, None] * available
        centre = weights.sum(2, keepdims=True) / n_seeds[:, None]
        weights = np.where(available, (1 + stretch[:, None] * (weights - centre)) / n_seeds[:, None], 0.0)
    moved = (weights * moved).sum(2)
    start = (weights * start).sum(2)
    return np.where(n_seeds > 0, start + moved, np.nan), np.where(n_seeds > 0, start, np.nan)


def resample(
    strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return bootstrap means (reps, R, M): seeds first, then clusters within each stratum, the same draw for every row."""
    tuned, start = np.full((2, reps, len(available), available.shape[-1]), np.nan)
    # Block by block: all draws at once would not fit into the cache, and be an order slower.
    for block, draws, rows, measures, (moved, before) in _drawn(strata, available, reps, rng):
        means = over_seeds(moved, before, available[rows, :, measures], draws)
        tuned[block, rows, measures], start[block, rows, measures] = means
    return tuned, start


def resample_items(
    strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of each seed alone, (reps, R, S, M): only clusters are resampled, alike for all seeds."""
    tuned, start = np.zeros((2, reps, *available.shape))
    for block, _, rows, measures, (moved, before) in _drawn(strata, available, reps, rng):
        start[block, rows, :, measures] = before
        tuned[block, rows, :, measures] = before + moved
    return tuned, start


Drawn = tuple[slice, np.ndarray, slice, np.ndarray, tuple[np.ndarray, np.ndarray]]
"""Which draws, (B, S) how often each seed is drawn, which rows, which measures, and their `seed_means`."""


def _drawn(strata: list[Stratum], available: np.ndarray, reps: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Yield draws of seeds and clusters, a block at a time and no more rows at once than the processor's cache holds."""
    # Sums of changes and of base scores are apart, since the base's are often the same for every
    # row.
    n_rows, n_seeds, _ = available.shape
    parts = [_flat(stratum.sums.astype(np.float32), available[..., stratum.measures]) for stratum in strata]
    for begin in range(0, reps, BLOCK):
        size = min(BLOCK, reps - begin)
        block = slice(begin, begin + size)
        draws = drawn_weights(rng, size, n_seeds)
        for stratum, (sums, base_sums) in zip(strata, parts, strict=True):
            measures = stratum.measures
            times = drawn_weights(rng, size, len(stratum.sums))
            changes = _summed(times, sums)
            base = _summed(times, base_sums)
            step = max(1, CACHED // (size * n_seeds * len(measures)))
            for first in range(0, n_rows, step):
                rows = slice(first, first + step)
                # (2, B, R, S, m): base scores and pairs, of these rows where rows differ in them
                shared = base.shape[2] == 1
                start, counts = np.moveaxis(base if shared else base[:, :, rows], 1, 0)
                means = seed_means(changes[:, rows], start, counts, available[rows, :, measures])
                yield block, draws, rows, measures, means


def _summed(times: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return (B, ...) sums over clusters, each taken as often as a draw (B, K) has it, from each cluster's (K, ...)."""
    flat = sums.reshape(len(sums), -1)
    return (times @ flat).reshape(len(times), *sums.shape[1:])


def _flat(sums: np.ndarray, available: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of changes, (K, R, S, m), and of base scores and pairs, (K, 2, R, S, m).

    The second is (K, 2, 1, 1, m) where all runs have the same items.
    """
    base = sums[:, 1:]
    full = available.all(-1)
    if full.any():
        # one run that has every measure stands for all, if no other has different items
        row, seed = np.argwhere(full)[0]
        shared = base[:, :, row : row + 1, seed : seed + 1]
        if (available <= (base == shared)).all():
            base = shared
    return np.ascontiguousarray(sums[:, 0]), np.ascontiguousarray(base)


def drawn_weights(rng: np.random.Generator, size: int, n: int) -> np.ndarray:
    """Return (size, n), how often each of n was drawn in n draws with replacement, as float32."""
    # each draw counts in a row of its own: draw b takes the numbers from b·n to b·n + n - 1
    offsets = n * np.arange(size, dtype=np.int64)[:, None]
    drawn = rng.integers(0, n, (size, n), dtype=np.int32) + offsets
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)


def counted_twice(items: np.ndarray) -> float:
    """Return the part of the draws' variance that is there twice: the noise that items have within a seed.

    `items` (S, B): each seed's own value as items are resampled, the same items for all seeds. Seeds differ by that noise, and
    resampled items bring it again (Owen 2007). With I the variance that items have alike in all seeds and E that noise, a
    seed's own value varies by I + E and the mean of k seeds by I + E/k; twice there is E/k.
    """
    # Where a seed has no draws at all (a row without it) its column is empty.
    items = items[np.isfinite(items).all(1)]
    k = len(items)
    if k <= 1:
        return 0.0

    # Within is I + E, of the mean I + E/k: their difference is E (k - 1) / k, so this is E/k.
    within = items.var(axis=1).mean()
    of_mean = items.mean(0).var()
    return max(0.0, float(within - of_mean) / (k - 1))


def tail_stretch(by_seed: np.ndarray, draws: np.ndarray, twice: float = 0.0) -> float:
    """Return the factor on the draws' distance from the estimate that makes the half width √(t² V_seeds + z² V_items).

    The variance between k seeds, read off `by_seed` (each seed's own value), has k - 1 degrees of freedom: it gets
    Student's t. What items add to the draws' variance, minus what is there `twice`, is known with many: z = 1.96. Exact where
    only one of the two is there, a little wide between (Graybill and Wang 1980). 1 where there is one seed, or where seeds do
    not differ.
    """
    by_seed = by_seed[np.isfinite(by_seed)]
    k = len(by_seed)
    if k <= 1:
        return 1.0

    # The quantile of t is wider than that of z by this factor.
    total = float(np.var(draws))
    between = float(np.var(by_seed, ddof=1)) / k
    if between <= 0 or total <= 0:
        return 1.0
    from_items = max(0.0, total - between - twice)
    return float(np.sqrt((_wider(k) * between + from_items) / total))


def seeds_half_width(by_seed: np.ndarray, twice: float = 0.0) -> float:
    """Return the half width of a 95 % interval over seeds alone, with as many items as one likes; 0 with one seed.

    Of the variance between seeds the noise that items have within a seed (`counted_twice`) would be gone.
    """
    by_seed = by_seed[np.isfinite(by_seed)]
    k = len(by_seed)
    if k <= 1:
        return 0.0
    between = float(np.var(by_seed, ddof=1)) / k
    return float(_quantile(k - 1) * np.sqrt(max(0.0, between - twice)))


@cache
def _wider(k: int) -> float:
    """Return (t / z)² of a 95 % interval over k seeds."""
    return float((_quantile(k - 1) / _quantile(np.inf)) ** 2)


def _quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t."""
    # imported here: it takes as long as all else that `lethe diff` does, which has one seed (scipy.stats takes a second)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
