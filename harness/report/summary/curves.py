"""Learning and forgetting over the spent budget, the way to the tuned model, and what is kept at matched gain."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from harness.report.summary.format import interval_columns
from harness.stats.analysis import Analysis, analyse
from harness.stats.tradeoffs import Curve, Matched, Terms, matched

READ = ("gain", "change", "retention")
COLUMNS = ["row", "at", *interval_columns(READ, "_low", "_high"), "n"]


@dataclass(frozen=True)
class Curves:
    """Points with intervals along two ways, and what they say at equal gain."""

    budget: pd.DataFrame
    """`COLUMNS`, `at` = fraction of the budget spent."""
    path: pd.DataFrame
    """`COLUMNS`, `at` = interpolation weight towards the tuned model."""
    matched: Matched
    """Along the curves over the budget."""
    matched_path: Matched
    """Along the lines from the base to the tuned models."""
    spent: Analysis | None = field(default=None, repr=False)
    """What `budget` was read from: a row `point_name(row, at)` for each of its points, and the base."""


def read_curves(
    final: pd.DataFrame,
    curve: pd.DataFrame,
    path: pd.DataFrame,
    analysis: Analysis | None,
    base: str,
    reps: int,
    terms: Terms,
) -> Curves:
    """Score every point of both ways as a row of its own, paired with the base on the same sub-sample."""
    empty = pd.DataFrame(columns=COLUMNS)
    # Without a base no point has anything to be paired with.
    if analysis is None:
        return Curves(empty, empty, Matched(), Matched())
    kept = set(analysis.measures.query("kept")[["task", "metric"]].itertuples(index=False, name=None))
    budget, draws = _way(curve, "fraction", final[final["row"] == base], base, kept, reps)
    way, along = _way(path, "alpha", path[path["row"] == base], base, None, reps)  # dev items: their own near-chance tasks
    return Curves(budget, way, _matched(budget, draws, terms), _matched(way, along, terms), draws)


def _way(
    scores: pd.DataFrame, along: str, base_scores: pd.DataFrame, base: str, kept: set[tuple[str, str]] | None, reps: int
) -> tuple[pd.DataFrame, Analysis | None]:
    scores = scores[(scores["row"] != base) & scores["primary"].fillna(False).astype(bool)]
    scores = scores.assign(**{along: scores[along].astype(float).round(2)})  # seeds stop at slightly different points
    if scores.empty:
        return pd.DataFrame(columns=COLUMNS), None

    # The path has the base at alpha 0; the curve takes it from the final scores, on the items of
    # the sub-sample.
    items = pd.MultiIndex.from_frame(scores[["task", "metric", "item"]])
    start = scores[scores[along] == 0]
    if start.empty:
        identity = pd.MultiIndex.from_frame(base_scores[["task", "metric", "item"]])
        start = base_scores[identity.isin(items)]
    start = start.drop_duplicates(["task", "metric", "item"])
    later = scores[scores[along] > 0]
    if start.empty or later.empty:
        return pd.DataFrame(columns=COLUMNS), None

    # Each point of each curve becomes a row of the analysis, so that all are drawn together.
    points = list(dict.fromkeys(zip(later["row"], later[along], strict=True)))
    named = later.assign(row=[point_name(*pair) for pair in zip(later["row"], later[along], strict=True)])
    analysis = analyse(pd.concat([start.assign(row=base), named]), base, reps=reps, kept=kept)
    rows = dict.fromkeys(row for row, _ in points)
    lines = []
    for row in rows:
        # Each curve begins at the base.
        for at in [0.0, *sorted(at for name, at in points if name == row)]:
            lines.append(_line(analysis, row, at))
    return pd.DataFrame(lines, columns=COLUMNS), analysis


def point_name(row: str, at: float) -> str:
    return f"{row} @ {at:.6f}"


def _line(analysis: Analysis, row: str, at: float) -> list:
    name = point_name(row, at) if at else analysis.rows[0]
    gain, change, retention = (analysis.estimate(quantity, name) for quantity in READ)
    numbers = []
    for estimate in (gain, change, retention):
        numbers += [estimate.value, estimate.low, estimate.high]
    return [row, at, *numbers, gain.n + change.n]


def _matched(points: pd.DataFrame, analysis: Analysis | None, terms: Terms) -> Matched:
    """Read every row's way at the same gain and at the same loss."""
    if analysis is None:
        return Matched()
    curves = []
    for row, part in points.groupby("row", sort=False):
        names = [point_name(str(row), at) for at in part["at"] if at]
        curves.append(Curve(str(row), (analysis.rows[0], *names)))
    return matched(analysis, curves, terms)
