"""Trade-offs of methods, from joint bootstrap draws: each is a curve of gain against general change, not one point.

A curve leads from the base (gain 0, change 0) through scored points: settings of a method, or models along its budget. Between
neighbours it is linear. Curves are compared by what is kept at the same gain, by what is gained for the same loss, and by the
area between them, which is the mean difference of the general change over all gains up to the matched one (after Bjontegaard
2001, "Calculation of average PSNR differences between RD-curves"). All of a curve's points stand in one analysis, so that
differences between curves have intervals from the same draws of seeds and items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from harness.stats.analysis import Analysis
from harness.stats.bootstrap import counted_twice
from harness.stats.claims import at_gain
from harness.stats.estimate import Estimate, estimate_of

MATCHED = 0.9
"""Curves are read at this share of the gain that all compared ones reach."""
LEARNED = 0.5
"""Compared are curves that reach at least this share of the best one's gain. A guess."""
MEASURES = ("change", "kept", "gain", "area")


@dataclass(frozen=True)
class Curve:
    """One row's curve."""

    row: str
    points: tuple[str, ...]
    """Rows of the analysis on its way, the base's first."""


@dataclass(frozen=True)
class Terms:
    """How curves are compared."""

    loss: float
    """Points of general score for which gains are compared."""
    references: tuple[str, ...] = ()
    """Curves that all others are compared with."""


@dataclass(frozen=True)
class Tradeoff:
    """What one curve shows, at the gain and the loss at which all are read."""

    most: float
    """The highest gain of its points."""
    change: Estimate = field(default_factory=Estimate)
    """General change, in points, where the curve first reaches the matched gain."""
    kept: Estimate = field(default_factory=Estimate)
    """The same in per cent of the base's ability."""
    gain: Estimate = field(default_factory=Estimate)
    """Gain where the curve has first lost the matched loss; its highest gain, if it never loses so much."""
    area: Estimate = field(default_factory=Estimate)
    """Mean general change over all gains from 0 to the matched one, in points."""


@dataclass(frozen=True)
class Matched:
    """Curves read at one gain and at one loss."""

    target: float = np.nan
    """The matched gain; NaN where fewer than two curves can be compared."""
    loss: float = np.nan
    """The matched loss of general score, in points."""
    rows: dict[str, Tradeoff] = field(default_factory=dict)
    """Row -> what its curve shows. Numbers are not known where a curve never gains so much."""
    apart: dict[tuple[str, str], Tradeoff] = field(default_factory=dict)
    """(row, other) -> the first minus the second, for rows that both reach the matched gain."""

    @property
    def reached(self) -> list[str]:
        """Rows whose curve reaches the matched gain."""
        return [row for row, tradeoff in self.rows.items() if tradeoff.change.known]

    def change(self, row: str) -> Estimate:
        return self.rows[row].change if row in self.rows else Estimate()

    def kept(self, row: str) -> Estimate:
        return self.rows[row].kept if row in self.rows else Estimate()


def matched(analysis: Analysis, curves: Sequence[Curve], terms: Terms) -> Matched:
    """Read curves at the same gain and at the same loss; compare each with the references and with the one that keeps most.

    The gain is 90 % of what every curve reaches that reaches at least half of the best one's.
    """
    # Curves need both axes; a comparison of one point each has none.
    if not {"gain", "change"} <= set(analysis.point):
        return Matched()
    most = {curve.row: _most(analysis, curve) for curve in curves}
    best = max((gain for gain in most.values() if np.isfinite(gain)), default=0.0)
    able = [curve for curve in curves if best > 0 and most[curve.row] >= LEARNED * best]
    if len(able) < 2:
        return Matched()
    target = MATCHED * min(most[curve.row] for curve in able)
    rows = {curve.row: Tradeoff(most[curve.row], **_read(analysis, [curve], target, terms.loss)) for curve in curves}
    reached = {curve.row: curve for curve in curves if rows[curve.row].change.known}

    # Of those with several seeds, if any: a curve of one run may lead by chance.
    comparable = [row for row, curve in reached.items() if analysis.compares(*curve.points)]
    others = list(terms.references)
    if reached:
        others.append(max(comparable or list(reached), key=lambda row: rows[row].change.value))
    apart = {}
    for row, curve in reached.items():
        for other in dict.fromkeys(others):
            if other in reached and other != row:
                pair = [curve, reached[other]]
                apart[row, other] = Tradeoff(np.nan, **_read(analysis, pair, target, terms.loss))
    return Matched(target, terms.loss, rows, apart)


def gain_at(gain: np.ndarray, change: np.ndarray, loss: float) -> np.ndarray:
    """Return (B,) gain where each trajectory (B, F) has first lost `loss` points; where it never has, its highest gain."""
    first = at_gain(-change, gain, loss)
    highest = np.fmax.reduce(gain, axis=1)
    return np.where(np.isnan(first), highest, first)


def mean_change(gain: np.ndarray, change: np.ndarray, upto: float) -> np.ndarray:
    """Return (B,) mean of `change` over gains from 0 to `upto` along trajectories (B, F), each gain where it is first reached.

    The area under a trajectory per point of gain; NaN where it gains less than `upto`.
    """
    area = np.zeros(len(gain))
    highest = np.maximum(gain[:, 0], 0.0)
    for f in range(1, gain.shape[1]):
        before, after = gain[:, f - 1], gain[:, f]
        end = np.minimum(after, upto)
        width = np.maximum(0.0, end - highest)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = ((highest + end) / 2 - before) / (after - before)
            part = width * (change[:, f - 1] + share * (change[:, f] - change[:, f - 1]))
        area = area + np.where(width > 0, part, 0.0)
        highest = np.fmax(highest, after)
    return np.where(highest >= upto, area / upto, np.nan)


def _most(analysis: Analysis, curve: Curve) -> float:
    # The highest point anywhere on the way: a method may lose gain again.
    columns = [analysis.rows.index(name) for name in curve.points]
    gains = analysis.point["gain"][columns]
    return float(np.nanmax(gains)) if np.isfinite(gains).any() else np.nan


def _read(analysis: Analysis, curves: Sequence[Curve], target: float, loss: float) -> dict[str, Estimate]:
    """Return `MEASURES` of one curve, or of the first of two minus the second."""
    test = len(curves) > 1 and analysis.compares(*chain.from_iterable(curve.points for curve in curves))
    n = min(_items(analysis, curve) for curve in curves)
    functions: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
        "change": lambda gain, change, kept: at_gain(gain, change, target),
        "kept": lambda gain, change, kept: at_gain(gain, kept, target),
        "gain": lambda gain, change, kept: gain_at(gain, change, loss),
        "area": lambda gain, change, kept: mean_change(gain, change, target),
    }
    estimates = {}
    for name, function in functions.items():
        point, by_seed, draws, items = (_of(source, analysis, curves, function) for source in _sources(analysis))
        # A gain that half of the draws never reach is no gain of the row.
        if not np.isfinite(point[0]) or np.isfinite(draws).mean() <= 1 / 2:
            estimates[name] = Estimate()
            continue
        seeds = by_seed.shape[0]
        twice = counted_twice(items.reshape(seeds, -1))
        estimates[name] = estimate_of(float(point[0]), by_seed, draws, n, twice, test)
    return estimates


def _sources(analysis: Analysis) -> list[dict[str, np.ndarray]]:
    return [analysis.point, analysis.by_seed, analysis.replicates, analysis.item_draws]


def _of(
    source: dict[str, np.ndarray], analysis: Analysis, curves: Sequence[Curve], function: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return (B,) a measure of one curve, or of the first minus the second, from quantities of the shape (..., R)."""
    values = []
    for curve in curves:
        columns = [analysis.rows.index(name) for name in curve.points]
        parts = []
        for quantity in ("gain", "change", "retention"):
            table = source.get(quantity, np.full_like(source["gain"], np.nan))
            parts.append(table[..., columns].reshape(-1, len(columns)))
        values.append(function(*parts))
    return values[0] if len(values) == 1 else values[0] - values[1]


def _items(analysis: Analysis, curve: Curve) -> int:
    """Return how many items are behind a curve: those of the point with the fewest, the base left out."""
    columns = [analysis.rows.index(name) for name in curve.points[1:]]
    counts = analysis.counts["gain"][columns] + analysis.counts["change"][columns]
    return int(counts.min()) if len(columns) else 0
