"""Which rows are on the front, how sure ranks are, and how much of the plane a track dominates: from joint bootstrap draws.

Every function takes draws (B, R) of all rows, resampled together, so that ties and dependence between rows are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats.analysis import Analysis, Estimate, estimate_of


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


def pareto_ranks(gain: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the (B, R) front of each row; NaN where a number is missing.

    By peeling non-dominated rows off (Deb et al. 2002, NSGA-II). Rows are taken by falling gain, then by falling `kept`, so
    each comes after all rows that dominate it. It joins the first front on which no row so far keeps as much; two equal rows
    share a front.
    """
    # A row that lacks a number in a draw dominates nothing there.
    finite = np.isfinite(gain) & np.isfinite(kept)
    gain, kept = (np.where(finite, values, -np.inf) for values in (gain, kept))
    order, draws = np.lexsort((-kept, -gain), axis=1), np.arange(len(gain))
    gain, kept = (np.take_along_axis(values, order, 1).T for values in (gain, kept))
    most, fronts = np.full(gain.shape, -np.inf), np.zeros(gain.shape, int)  # what is kept at most, by front so far and draw
    for row in range(len(gain)):
        front = (most[: fronts[:row].max(initial=-1) + 1] >= kept[row]).sum(0)
        if row:
            front = np.where((gain[row] == gain[row - 1]) & (kept[row] == kept[row - 1]), fronts[row - 1], front)
        most[front, draws], fronts[row] = kept[row], front
    ranks = np.empty(finite.shape)
    np.put_along_axis(ranks, order, fronts.T + 1.0, 1)
    return np.where(finite, ranks, np.nan)


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Return (B, R) ranks within each draw, 1 the highest, equal values the better rank; NaN where a number lacks."""
    comparable = np.where(np.isfinite(values), values, -np.inf)
    ranks = pd.DataFrame(comparable).rank(axis=1, method="min", ascending=False).to_numpy()
    return np.where(np.isfinite(values), ranks, np.nan)


def rank_in(ranks: np.ndarray) -> Rank:
    """Return the summary of draws (B,) of a rank."""
    # A row without scores in some draws has a rank in the others.
    finite = ranks[np.isfinite(ranks)]
    if not len(finite):
        return Rank()

    # Inverted, since a rank is a place and a quantile of ranks must be one too.
    low, middle, high = np.quantile(finite, [0.025, 0.5, 0.975], method="inverted_cdf")
    return Rank(float(middle), float(low), float(high), float((finite == 1).mean()))


def hypervolume(gain: np.ndarray, score: np.ndarray, floor: float) -> np.ndarray:
    """Return (B,) area that rows dominate, in units of one point of gain at 100 points of general score above `floor`.

    Reference point: gain 0, which is D(base), and R = `floor`, the lowest chance level of a family. These and the unit are the
    same whatever rows are compared. Rows without a number dominate nothing.
    """
    return _area(*_sides(gain, score, floor)[:2])


def exclusive(gain: np.ndarray, score: np.ndarray, floor: float) -> np.ndarray:
    """Return the (B, R) area that only this row dominates: `hypervolume` with it minus `hypervolume` without it."""
    # A row that raises the skyline nowhere is not missed; each of the others is left out in turn.
    width, height, order = _sides(gain, score, floor)
    # A row that adds nothing to the skyline leaves no hole; only the others are worth leaving out.
    raises = np.diff(np.maximum.accumulate(height, axis=1), axis=1, prepend=0) > 0  # no other row is ever missed
    whole, areas = _area(width, height), np.zeros(gain.shape)
    for row in range(gain.shape[1]):
        draws, position = np.nonzero((order == row) & raises)
        without = height[draws]
        without[np.arange(len(draws)), position] = 0
        areas[draws, row] = whole[draws] - _area(width[draws], without)
    return areas


def _sides(gain: np.ndarray, score: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the width and height (B, R) of what each row dominates, the widest first, and which rows these are."""
    finite = np.isfinite(gain) & np.isfinite(score)
    width = np.where(finite, np.maximum(gain, 0), 0)
    height = np.where(finite, np.maximum(score - floor, 0), 0)
    order = np.argsort(-width, axis=1, kind="stable")
    return np.take_along_axis(width, order, 1), np.take_along_axis(height, order, 1), order


def _area(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    above = np.diff(np.maximum.accumulate(height, axis=1), axis=1, prepend=0)
    return (width * above).sum(1) / 100


class Plane:
    """Gain and general score of some rows of an analysis, to be asked for hypervolumes with intervals."""

    def __init__(self, analysis: Analysis, rows: list[str]):
        self.analysis, self.rows = analysis, rows

        # Below the lowest chance level nothing is ability, so areas begin there.
        kept = analysis.measures[analysis.measures["kept"] & analysis.measures["higher_better"]]
        self.floor = 100 * float(kept["chance"].min()) if len(kept) else 0.0
        self.has_both = {"gain", "general"} <= set(analysis.point)

    def _of(self, function: Callable[..., np.ndarray]) -> list[np.ndarray]:
        """Return `hypervolume` or `exclusive` of the rows: the estimate (1, ...), each seed's (S, ...), the draws (B, ...)."""
        # The same function on the estimate, on each seed and on all draws.
        columns = [self.analysis.rows.index(row) for row in self.rows]
        parts = []
        for source in (self.analysis.point, self.analysis.by_seed, self.analysis.replicates):
            gain, score = (np.atleast_2d(source[name])[:, columns] for name in ("gain", "general"))
            areas = function(gain, 100 * score, self.floor)
            areas[~(np.isfinite(gain).all(1) & np.isfinite(score).all(1))] = np.nan
            parts.append(areas)
        return parts

    def total(self) -> Estimate:
        """Return what the rows dominate together."""
        if not self.has_both or not self.rows:
            return Estimate()
        point, seeds, draws = self._of(hypervolume)
        return estimate_of(float(point[0]), seeds, draws, self._n(self.rows))

    def added(self) -> dict[str, Estimate]:
        """Return what only one row dominates."""
        if not self.has_both:
            return dict.fromkeys(self.rows, Estimate())
        point, seeds, draws = self._of(exclusive)
        return {
            row: estimate_of(float(point[0, r]), seeds[:, r], draws[:, r], self._n([row])) for r, row in enumerate(self.rows)
        }

    def _n(self, rows: list[str]) -> int:
        places = [self.analysis.rows.index(row) for row in rows]
        return int(min(self.analysis.counts["gain"][p] + self.analysis.counts["general"][p] for p in places))


def standings(analysis: Analysis, base: str, rows: list[str]) -> dict[str, Standing]:
    """Return row -> where it stands among `rows`, one track's finished recipes; empty where gain or retention is not known."""
    if not {"gain", "retention", "change"} <= set(analysis.point) or not rows:
        return {}
    draws = {name: analysis.draws(name, [base, *rows]) for name in ("gain", "retention", "change")}
    fronts = pareto_ranks(draws["gain"], draws["retention"])[:, 1:]
    by_gain, by_change = (ranks_of(draws[name][:, 1:]) for name in ("gain", "change"))
    added = Plane(analysis, rows).added()
    return {
        row: Standing(rank_in(fronts[:, r]), rank_in(by_gain[:, r]), rank_in(by_change[:, r]), added[row])
        for r, row in enumerate(rows)
    }
