"""Recipes against references and against each other: differences with p-values, ranks, and what a track dominates."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.report.summary.item_tables import flips
from harness.report.summary.summary import Summary
from harness.stats import claims
from harness.stats.analysis import Estimate
from harness.stats.frontier import Plane, Standing, standings
from harness.vocabulary import Track


def contrasts(summary: Summary) -> pd.DataFrame:
    """Return each finished recipe minus each reference, in points.

    With Holm's p (of recipes with several seeds), and the items that only one of the two models answered right.
    """
    lines = []
    # Recipes that failed have no difference, and none differs from itself.
    for row in summary.recipes:
        for reference in summary.references:
            if row.done and row.name != reference:
                lines.append(_contrast(summary, row.name, reference))
    table = pd.DataFrame(lines, columns=["row", "reference", "change", "gain", "p", "lost", "won"])
    return table.assign(holm=claims.holm(table["p"].to_list()), pairs=int(table["p"].notna().sum()))


def _contrast(summary: Summary, row: str, reference: str) -> dict[str, Any]:
    change = summary.difference("change", row, reference)
    gain = summary.difference("gain", row, reference)
    line = {"row": row, "reference": reference, "change": change, "gain": gain, "p": change.p}
    return line | flips(summary, row, reference)


def contrast(summary: Summary, row: str, reference: str) -> pd.Series | None:
    """Return the line of `contrasts` for a recipe and a reference, or None where there is none."""
    lines = summary.computed(contrasts)
    lines = lines[(lines["row"] == row) & (lines["reference"] == reference)]
    return lines.iloc[0] if len(lines) else None


def standings_of(summary: Summary) -> dict[str, Standing]:
    """Return row -> the probabilities of its ranks among the compared rows of its track."""
    if summary.analysis is None:
        return {}
    # One seed says nothing about another training, so it has no rank.
    compared = {row.name for row in summary.compared}.intersection(summary.analysis.rows)
    places: dict[str, Standing] = {}
    for track in (track for track in Track if track.is_ranked):
        names = [row.name for row in summary.track(track) if row.name in compared]
        places |= standings(summary.analysis, summary.base, names)
    return places


def hypervolume(summary: Summary, track: Track) -> Estimate:
    """Return what a track's recipes dominate together, against the base's domain score and chance."""
    if summary.analysis is None:
        return Estimate()
    names = [row.name for row in summary.track(track) if row.done and row.name in summary.analysis.rows]
    return Plane(summary.analysis, names).total()
