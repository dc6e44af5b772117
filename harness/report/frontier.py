"""Which rows are on the front, how sure ranks are, and how much of the plane a track dominates: from joint bootstrap draws.

Every function takes draws (B, R) of all rows, resampled together, so that ties and dependence between rows are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from harness.stats import Analysis, Estimate, estimate_of


@dataclass(frozen=True)
class Rank:
    """A place among the rows of a track, 1 is best: the median draw, the middle 95 % of draws, the probability of 1."""

    middle: float = np.nan
    low: float = np.nan
    high: float = np.nan
    first: float = np.nan


@dataclass(frozen=True)
class Standing:
    """Where a row stands in its track."""

    pareto: Rank
    """Front it is on: 1 is not dominated, 2 is dominated by rows of front 1 only, and so on; the base counts as a row."""
    gain: Rank
    change: Rank
    """By the chance-corrected general change."""
    added: Estimate
    """Hypervolume that would be lost without it."""


def dominates(gain: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(B, R, R): does row j dominate row i, at least as good on both axes and better on one?"""
    (g, h), (k, m) = ((values[:, None, :], values[:, :, None]) for values in (gain, kept))
    return (g >= h) & (k >= m) & ((g > h) | (k > m))


def pareto_ranks(gain: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(B, R) front each row is on, by peeling non-dominated rows off (Deb et al. 2002, NSGA-II); NaN where a number lacks."""
    known = np.isfinite(gain) & np.isfinite(kept)
    ranks, left = np.full(gain.shape, np.nan), known.copy()
    by = dominates(gain, kept)
    front = 1
    while left.any():
        free = left & ~(by & left[:, None, :]).any(2)
        ranks[free] = front
        left &= ~free
        front += 1
    return ranks


def ranks_of(values: np.ndarray) -> np.ndarray:
    """(B, R) ranks within each draw, 1 the highest, equal values the better rank; NaN where a number lacks."""
    found = rankdata(-np.where(np.isfinite(values), values, -np.inf), method="min", axis=1).astype(float)
    return np.where(np.isfinite(values), found, np.nan)


def rank_in(ranks: np.ndarray) -> Rank:
    """What draws (B,) of a rank say."""
    known = ranks[np.isfinite(ranks)]
    if not len(known):
        return Rank()
    low, middle, high = np.quantile(known, [0.025, 0.5, 0.975], method="inverted_cdf")
    return Rank(float(middle), float(low), float(high), float((known == 1).mean()))


def hypervolume(gain: np.ndarray, score: np.ndarray, floor: float) -> np.ndarray:
    """(B,) area that rows dominate, in units of one point of gain at 100 points of general score above `floor`.

    Reference point: gain 0, which is D(base), and R = `floor`, the lowest chance level of a family. These and the unit are the
    same whatever rows are compared. Rows without a number dominate nothing.
    """
    known = np.isfinite(gain) & np.isfinite(score)
    width = np.where(known, np.maximum(gain, 0), 0)
    height = np.where(known, np.maximum(score - floor, 0), 0)
    order = np.argsort(-width, axis=1, kind="stable")
    width, height = np.take_along_axis(width, order, 1), np.take_along_axis(height, order, 1)
    above = np.diff(np.maximum.accumulate(height, axis=1), axis=1, prepend=0)
    return (width * above).sum(1) / 100


class Plane:
    """Gain and general score of some rows of an analysis, to be asked for hypervolumes with intervals."""

    def __init__(self, analysis: Analysis, rows: list[str]):
        self.analysis, self.rows = analysis, rows
        kept = analysis.measures[analysis.measures["kept"] & analysis.measures["higher_better"]]
        self.floor = 100 * float(kept["chance"].min()) if len(kept) else 0.0
        self.known = {"gain", "general"} <= set(analysis.point)

    def volume(self, rows: list[str]) -> list[np.ndarray]:
        """Hypervolume of `rows`: the estimate (1,), each seed's own (S,), and the draws (B,)."""
        columns = [self.analysis.rows.index(row) for row in rows]
        parts = []
        for source in (self.analysis.point, self.analysis.by_seed, self.analysis.replicates):
            gain, score = (np.atleast_2d(source[name])[:, columns] for name in ("gain", "general"))
            whole = np.isfinite(gain).all(1) & np.isfinite(score).all(1)
            parts.append(np.where(whole, hypervolume(gain, 100 * score, self.floor), np.nan))
        return parts

    def total(self) -> Estimate:
        """What the rows dominate together."""
        if not self.known or not self.rows:
            return Estimate()
        point, own, draws = self.volume(self.rows)
        return estimate_of(float(point[0]), own, draws, self._n(self.rows))

    def added(self, row: str) -> Estimate:
        """What only `row` dominates."""
        if not self.known:
            return Estimate()
        whole, rest = self.volume(self.rows), self.volume([name for name in self.rows if name != row])
        point, own, draws = (a - b for a, b in zip(whole, rest, strict=True))
        return estimate_of(float(point[0]), own, draws, self._n([row]))

    def _n(self, rows: list[str]) -> int:
        places = [self.analysis.rows.index(row) for row in rows]
        return int(min(self.analysis.counts["gain"][p] + self.analysis.counts["general"][p] for p in places))


def standings(analysis: Analysis, base: str, rows: list[str]) -> dict[str, Standing]:
    """Row -> where it stands among `rows`, one track's finished recipes; empty where gain or retention is not known."""
    if not {"gain", "retention", "change"} <= set(analysis.point) or not rows:
        return {}
    draws = {name: analysis.draws(name, [base, *rows]) for name in ("gain", "retention", "change")}
    fronts = pareto_ranks(draws["gain"], draws["retention"])[:, 1:]
    by_gain, by_change = (ranks_of(draws[name][:, 1:]) for name in ("gain", "change"))
    plane = Plane(analysis, rows)
    return {
        row: Standing(rank_in(fronts[:, r]), rank_in(by_gain[:, r]), rank_in(by_change[:, r]), plane.added(row))
        for r, row in enumerate(rows)
    }
