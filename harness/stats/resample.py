"""Intervals of what is measured on one set of prompts or items: clusters drawn with replacement, the same draws for all rows.

What several texts have in common cannot be bootstrapped: a text that is drawn twice repeats itself. Such measures get the
jackknife, which leaves each prompt out once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.analysis import Estimate, estimate_of

REPS = 1000
BLOCK = 100
"""Draws made at once: their indices are wide."""


def draws(clusters: Sequence[object], reps: int = REPS, seed: int = 0) -> np.ndarray:
    """Return (B, n) how often each item counts in each draw: whole clusters are drawn."""
    # Whole clusters are drawn: items of one passage rise and fall together.
    names, cluster = np.unique(np.asarray(clusters, str), return_inverse=True)
    rng, size = np.random.default_rng(seed), len(names)
    counts = np.empty((reps, len(cluster)), np.float32)
    for begin in range(0, reps, BLOCK):
        rows = min(BLOCK, reps - begin)
        picked = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        times = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
        counts[begin : begin + rows] = times[:, cluster]
    return counts


def ratio(over: np.ndarray, under: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (B, ...) sum of `over` per sum of `under`, both (n, ...), in each draw; NaN where `under` has nothing."""
    over, under = (np.nan_to_num(part).astype(counts.dtype) for part in (over, under))  # or all of `counts` would be converted
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((counts @ over) / (counts @ under)).astype(float)


def estimated(over: np.ndarray, under: np.ndarray, counts: np.ndarray) -> tuple[Estimate, np.ndarray]:
    """Return a ratio of sums over items with its percentile interval, and its draws.

    Items with NaN or 0 under the line stay out.
    """
    value = float(ratio(over, under, np.ones((1, len(over))))[0])
    replicates = ratio(over, under, counts)
    return estimate_of(value, np.array([]), replicates, int((np.nan_to_num(under) > 0).sum())), replicates


def spread(value: float, replicates: np.ndarray, n: int, ends: tuple[float, float]) -> Estimate:
    """Return a number and +- 1.96 standard deviations of its draws, inside `ends`: where these are biased (ECE grows
    with noise).
    """
    # The percentiles would carry the bias along: the spread does not.
    se = float(np.nanstd(replicates, ddof=1)) if np.isfinite(replicates).sum() > 1 else np.nan
    if not np.isfinite(value):
        return Estimate()
    return _around(value, se, n, ends)


def jackknifed(value: float, left_out: np.ndarray, ends: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Return a number with its jackknife interval; `left_out` (n,): the same without each prompt in turn.

    se^2 = (n - 1) / n * sum (theta_i - mean theta)^2 (Quenouille 1949, Tukey 1958); value +- 1.96 se, inside `ends`.
    """
    finite = left_out[np.isfinite(left_out)]
    n = len(finite)
    if not np.isfinite(value) or n < 2:
        return Estimate()
    se = float(np.sqrt((n - 1) / n * ((finite - finite.mean()) ** 2).sum()))
    return _around(value, se, n, ends)


def _around(value: float, se: float, n: int, ends: tuple[float, float]) -> Estimate:
    low, high = np.clip([value - 1.96 * se, value + 1.96 * se], *ends)
    return Estimate(float(value), float(low), float(high), se, n)
