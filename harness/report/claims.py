"""What may be claimed from the draws: tests, their correction, non-inferiority, retention at matched gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.stats import MARGIN, Estimate


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values of one family of tests; NaN stays NaN and does not count."""
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values) if np.isfinite(values[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = running
    return adjusted


def does_not_forget(change: Estimate, margin: float = MARGIN) -> bool:
    """Non-inferiority to the base: the interval's lower end stays above −margin points."""
    return change.known and change.low > -margin


def at_gain(gain: np.ndarray, retention: np.ndarray, target: float) -> np.ndarray:
    """(B,) retention where each trajectory (B, F) first reaches `target` gain, linear between its points; else NaN."""
    result = np.full(len(gain), np.nan)
    for f in range(1, gain.shape[1]):
        before, after = gain[:, f - 1], gain[:, f]
        here = np.isnan(result) & (before < target) & (after >= target)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (target - before) / (after - before)
            between = retention[:, f - 1] + share * (retention[:, f] - retention[:, f - 1])
        result = np.where(here, between, result)
    return result


def preferred(gain: Sequence[float], change: Sequence[float]) -> list[int]:
    """Places of trials in the order tuning's rule prefers them: best gain among those that keep, then the best kept.

    Points of domain and general change against the base. Those without a gain are left out; where no general score is known
    at all, the domain alone decides. Of equals the one that keeps more, then the first.
    """
    known = [i for i, value in enumerate(gain) if math.isfinite(value)]
    judged = [i for i in known if math.isfinite(change[i])]
    if not judged:
        return sorted(known, key=lambda i: -gain[i])
    keeping = [i for i in judged if change[i] >= -MARGIN]
    losing = [i for i in judged if i not in keeping]
    return sorted(keeping, key=lambda i: (-gain[i], -change[i])) + sorted(losing, key=lambda i: -change[i])


def expected_best(values: Sequence[float], drawn: int) -> float:
    """Mean value of the trial the rule selects from `drawn` of these K, over all choices of that many.

    `values` stand in the rule's order. Trial i of K is selected where it is drawn and none before it is, in
    C(K-1-i, n-1) of C(K, n) choices: random search with fewer trials (Dodge et al. 2019, without replacement).
    """
    count = len(values)
    return sum(value * math.comb(count - 1 - i, drawn - 1) for i, value in enumerate(values)) / math.comb(count, drawn)
