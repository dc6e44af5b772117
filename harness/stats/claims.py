"""What may be claimed from the draws: tests, their correction, non-inferiority, retention at matched gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.analysis import MARGIN
from harness.stats.estimate import Estimate


def holm(p: Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p-values of one family of tests; NaN stays NaN and does not count."""
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    # Untested pairs (NaN) are no part of the family, and must not weaken the others.
    order = [i for i in np.argsort(values) if np.isfinite(values[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = running
    return adjusted


def does_not_forget(change: Estimate, margin: float = MARGIN) -> bool:
    """Return whether a change is not inferior to the base: its lower end stays above −margin points.

    Items that did not change have an interval of no width: then what so many can exclude decides (`Estimate.unseen`).
    """
    # `sure_low`, not `low`: an interval of items that did not change has no width, and would prove
    # nothing.
    return change.known and change.sure_low > -margin


def at_gain(gain: np.ndarray, retention: np.ndarray, target: float) -> np.ndarray:
    """Return (B,) retention where each trajectory (B, F) first reaches `target` gain, linear between its points; else NaN."""
    result = np.full(len(gain), np.nan)
    for f in range(1, gain.shape[1]):
        before, after = gain[:, f - 1], gain[:, f]
        # The first crossing: what is gained later at another price is not asked here.
        crosses = np.isnan(result) & (before < target) & (after >= target)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (target - before) / (after - before)
            between = retention[:, f - 1] + share * (retention[:, f] - retention[:, f - 1])
        result = np.where(crosses, between, result)
    return result
