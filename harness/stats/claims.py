"""What may be claimed from the draws: tests, their correction, non-inferiority, retention at matched gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.analysis import MARGIN, Estimate


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


LEARNS = 0.5
"""A trial counts as learning where it gains this share of what the best trial of plain fine-tuning gains. A guess."""


@dataclass(frozen=True)
class Reference:
    """What trials are held against, in points on dev items."""

    gain: float
    """A trial that gains less has not learned."""
    price: float
    """The least loss of general score a point gained, of the trials of plain fine-tuning that learned; NaN without such."""


def reference_of(gain: Sequence[float], change: Sequence[float], plain: Sequence[bool]) -> Reference:
    """The reference of all trials of a tuning. Where plain fine-tuning is not among them the best of any recipe says what
    learning is, and there is no price to hold others to."""
    gains, own = np.asarray(gain, float), np.asarray(plain, bool)
    known = np.isfinite(gains) & (own if own.any() else True)
    best = float(gains[known].max()) if known.any() else 0.0
    least = max(LEARNS * best, np.finfo(float).tiny)
    prices = [price_of(g, c) for g, c, is_plain in zip(gain, change, plain, strict=True) if is_plain and g >= least]
    return Reference(least, min((price for price in prices if math.isfinite(price)), default=math.nan))


def price_of(gain: float, change: float) -> float:
    """Points of general score lost a point gained; 0 where none is lost, NaN where one is not known or nothing is gained."""
    return max(0.0, -change) / gain if gain > 0 and math.isfinite(change) else math.nan


def preferred(gain: Sequence[float], change: Sequence[float], reference: Reference) -> list[int]:
    """Places of a recipe's trials in the order in which tuning's rule prefers them.

    First those that learned and lose no more a point gained than plain fine-tuning at its best: the highest gain. Then others
    that learned: the least loss a point gained. Then the rest: the highest gain. Those without a gain are left out. Where no
    general score is known the domain alone decides. Of equals the one that keeps more, then the first.
    """
    known = [i for i, value in enumerate(gain) if math.isfinite(value)]
    prices = {i: price_of(gain[i], change[i]) for i in known}
    learned = [i for i in known if gain[i] >= reference.gain and math.isfinite(prices[i])]
    fair = [i for i in learned if prices[i] <= reference.price]
    dear = [i for i in learned if i not in fair]
    rest = [i for i in known if i not in learned]

    def by_gain(i: int) -> tuple[float, float]:
        return -gain[i], -change[i] if math.isfinite(change[i]) else math.inf

    return sorted(fair, key=by_gain) + sorted(dear, key=lambda i: (prices[i], *by_gain(i))) + sorted(rest, key=by_gain)


def expected_best(values: Sequence[float], drawn: int) -> float:
    """Mean value of the trial the rule selects from `drawn` of these K, over all choices of that many.

    `values` stand in the rule's order. Trial i of K is selected where it is drawn and none before it is, in
    C(K-1-i, n-1) of C(K, n) choices: random search with fewer trials (Dodge et al. 2019, without replacement).
    """
    count = len(values)
    return sum(value * math.comb(count - 1 - i, drawn - 1) for i, value in enumerate(values)) / math.comb(count, drawn)
