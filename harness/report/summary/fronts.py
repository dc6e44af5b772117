"""Each method as a curve over its settings, and the one reading of curves that a report leads with.

A method is what its recipe says less the settings: the rows `sft(lr=1e-4)` and `sft(lr=1e-3)` are two settings of one method,
and so are the points of a tuning. Its front joins, from the base on, the settings that no other of it beats both in gain and in
general change, and where the general score rises at first, its upper hull.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from harness.errors import PlanError
from harness.recipes.recipe_text import read_terms
from harness.report.summary.curves import Curves
from harness.report.summary.rows import Row
from harness.stats.analysis import Analysis
from harness.stats.estimate import Estimate
from harness.stats.tradeoffs import Curve, Matched, Terms, Tradeoff, matched
from harness.vocabulary import Role


@dataclass(frozen=True)
class Way:
    """One way of reading curves at the same gain."""

    name: str
    """One of `DESCRIPTIONS`."""
    description: str
    """Along what the curves lead, and on which items."""
    matched: Matched = field(default_factory=Matched)
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    """Curve -> gain and change of its points, from the base on."""
    curve_of: Mapping[str, str] = field(default_factory=dict)
    """Row -> name of its curve, where that is not its own."""

    def of(self, row: str) -> Tradeoff | None:
        """Return what a row's curve shows; None where it has none."""
        return self.matched.rows.get(self.curve_of.get(row, row))

    def apart(self, row: str, reference: str | None) -> Tradeoff | None:
        """Return a row's curve minus that of another row; None where one does not reach the matched gain."""
        names = [self.curve_of.get(name, name) for name in (row, reference) if name]
        return self.matched.apart.get((names[0], names[1])) if len(names) == 2 else None

    def labels(self, rows: Sequence[str]) -> dict[str, str]:
        """Return row -> label of its curve, of those rows that have one: the curve's name where several rows share it."""
        sharing = Counter(self.curve_of.get(row, row) for row in rows)
        labels = {}
        for row in rows:
            curve = self.curve_of.get(row, row)
            if self.of(row) is not None:
                labels[row] = curve if sharing[curve] > 1 else row
        return labels

    def entries(self, rows: Sequence[str]) -> dict[str, str]:
        """Return label -> the first row of each curve: settings of one method are one entry."""
        entries: dict[str, str] = {}
        for row, label in self.labels(rows).items():
            entries.setdefault(label, row)
        return entries

    def change(self, row: str) -> Estimate:
        tradeoff = self.of(row)
        return tradeoff.change if tradeoff else Estimate()

    def kept(self, row: str) -> Estimate:
        tradeoff = self.of(row)
        return tradeoff.kept if tradeoff else Estimate()


DESCRIPTIONS = {
    "settings": "over its settings, test items",
    "budget": "along its curve over the budget, a sub-sample of the test items",
    "trials": "over all its trials, dev items and one seed: the best of many looks better than it is",
    "line": "on the line from the base to the tuned model, dev items",
    "chord": "on a straight line from the base to the final scores: no curve was scored, so loss is taken to grow as gain does",
}
"""Ways of reading curves, the first that two curves have is the one that a report leads with."""
MOST_CHORDS = 100
"""Rows that are read on straight lines at most: of more this would take long, and no page shows them."""


def method_of(recipe: str) -> str:
    """Return a recipe without settings; the text itself where it cannot be read any more."""
    try:
        return "+".join(name for name, _ in read_terms(recipe))
    except PlanError:
        return recipe


def read_ways(
    rows: Sequence[Row],
    analysis: Analysis | None,
    points: pd.DataFrame,
    trials: tuple[pd.DataFrame, Analysis | None],
    curves: Curves,
    terms: Terms,
) -> tuple[Way, ...]:
    """Return every way of reading methods at the same gain, in the order of `DESCRIPTIONS`.

    `points`: settings that were scored beside the selected ones (row, name); `terms`: its references are rows.
    """
    recipes = [row for row in rows if row.role == Role.RECIPE and row.done]
    method = {row.name: method_of(row.recipe) for row in recipes}

    # a method's settings on test items: its rows, and the points of their tuning
    settings: dict[str, list[str]] = {}
    for row in recipes:
        names = [row.name, *points.loc[points["row"] == row.name, "name"]]
        settings.setdefault(method[row.name], []).extend(names)
    references = tuple(dict.fromkeys(method[name] for name in terms.references))
    over_settings = _fronts(analysis, settings, replace(terms, references=references))

    # its trials on dev items
    table, tried = trials
    cloud = {str(row): part["trial"].to_list() for row, part in table.groupby("row", sort=False)}
    over_trials = _fronts(tried, cloud, terms)
    ways = {
        "settings": Way("settings", DESCRIPTIONS["settings"], *over_settings, method),
        "trials": Way("trials", DESCRIPTIONS["trials"], *over_trials),
        "budget": Way("budget", DESCRIPTIONS["budget"], curves.matched, _by_row(curves.budget)),
        "line": Way("line", DESCRIPTIONS["line"], curves.matched_path, _by_row(curves.path)),
    }

    # Straight lines only where nothing better compares two curves.
    if not leading(list(ways.values())).name:
        ways["chord"] = Way("chord", DESCRIPTIONS["chord"], *_chords(analysis, recipes, terms))
    return tuple(ways[name] for name in DESCRIPTIONS if name in ways)


def _chords(analysis: Analysis | None, recipes: Sequence[Row], terms: Terms) -> tuple[Matched, dict[str, pd.DataFrame]]:
    """Return rows read on straight lines from the base to their final scores, and these lines."""
    if analysis is None or len(recipes) > MOST_CHORDS:
        return Matched(), {}
    scored = [row.name for row in recipes if row.name in analysis.rows]
    return _read_curves(analysis, [Curve(name, (analysis.rows[0], name)) for name in scored], terms)


def _fronts(
    analysis: Analysis | None, settings: Mapping[str, Sequence[str]], terms: Terms
) -> tuple[Matched, dict[str, pd.DataFrame]]:
    """Return methods read at the same gain over their fronts, and the fronts; a method of one setting has none."""
    if analysis is None or not {"gain", "change"} <= set(analysis.point):
        return Matched(), {}
    curves = []
    for method, rows in settings.items():
        front = front_of(analysis, rows)
        # A curve needs two settings; each begins at the base, which gained and lost nothing.
        if len(rows) > 1 and front:
            curves.append(Curve(method, (analysis.rows[0], *front)))
    return _read_curves(analysis, curves, terms)


def _read_curves(analysis: Analysis, curves: Sequence[Curve], terms: Terms) -> tuple[Matched, dict[str, pd.DataFrame]]:
    """Return curves read at the same gain, and gain and change of their points."""
    if not {"gain", "change"} <= set(analysis.point):
        return Matched(), {}
    shown = {}
    for curve in curves:
        places = [analysis.rows.index(name) for name in curve.points]
        shown[curve.row] = pd.DataFrame({name: analysis.point[name][places] for name in ("gain", "change")})
    return matched(analysis, curves, terms), shown


def _by_row(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(row): part[["gain", "change"]] for row, part in table.groupby("row", sort=False)}


def front_of(analysis: Analysis, rows: Sequence[str]) -> list[str]:
    """Return the rows that a method's front joins, by rising gain: those that gain, and that no other beats in gain and change.

    Where the general score rises, a setting that another beats can still lie above the line from the base to that other one.
    It was reached at its own, smaller gain, so the front goes through it.
    """
    places = {row: analysis.rows.index(row) for row in rows if row in analysis.rows}
    gain = {row: float(analysis.point["gain"][index]) for row, index in places.items()}
    change = {row: float(analysis.point["change"][index]) for row, index in places.items()}
    candidates = [row for row in places if np.isfinite(gain[row]) and np.isfinite(change[row]) and gain[row] > 0]
    front: list[str] = []
    best = -np.inf
    for row in sorted(candidates, key=lambda row: (-gain[row], -change[row])):
        # By falling gain, so a row is beaten unless it keeps more than all before it.
        if change[row] > best:
            front.append(row)
            best = change[row]
    front.reverse()
    return [*_rising(gain, change, candidates, front[0]), *front] if front else []


def _rising(gain: Mapping[str, float], change: Mapping[str, float], rows: Sequence[str], first: str) -> list[str]:
    """Return the rows above the line from the base to the row `first`, as far as they are on the upper hull, by rising gain."""
    hull: list[str] = []
    reached = (0.0, 0.0)

    def slope(row: str) -> float:
        return (change[row] - reached[1]) / (gain[row] - reached[0])

    # From the base on, the next point is the one to which the way rises most steeply.
    while between := [row for row in rows if reached[0] < gain[row] < gain[first] and slope(row) > slope(first)]:
        steepest = max(between, key=slope)
        hull.append(steepest)
        reached = (gain[steepest], change[steepest])
    return hull


def leading(ways: Sequence[Way]) -> Way:
    """Return the way that a report leads with: the first that two curves can be compared by."""
    return next((way for way in ways if len(way.matched.reached) > 1), Way("", ""))
