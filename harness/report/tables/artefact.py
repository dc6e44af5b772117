"""The in-sample artefact: what a recipe with general data seems to keep only because it trained on texts like the test's.

Seen families are less or more difficult than held-out ones, so a recipe's own difference between the two tells nothing: plain
fine-tuning, which uses no general data, has one too. What tells is the difference of differences against such a recipe:

    (change seen - change held out) of the row, minus (change seen - change held out) of the reference

in points, from the same draws. Where the reference loses more on seen families to begin with, there is more to save there too,
so this is an upper reading of the artefact, and the protection of held-out families stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.report.summary.rows import Row
from harness.report.summary.summary import Summary
from harness.stats.analysis import Analysis, Estimate, estimate_of
from harness.stats.bootstrap import counted_twice
from harness.stats.quantity_name import Measured, Scope, name_of
from harness.vocabulary import Track

SEEN = name_of(Measured.CHANGE, Scope.SEEN)
HELD_OUT = name_of(Measured.CHANGE, Scope.HELD_OUT)


@dataclass(frozen=True)
class Artefact:
    """One recipe with general data, against one without; points of general score."""

    row: Row
    seen: Estimate
    """What it keeps more of seen families than the reference."""
    held_out: Estimate
    """The same of held-out families: what no artefact explains."""
    difference: Estimate
    """`seen` minus `held_out`."""


def reference_of(summary: Summary) -> str | None:
    """Return plain fine-tuning, else the first finished recipe without general data."""
    # The reference must not have had general data either, or the artefact would be on both sides.
    free = [row.name for row in summary.recipes if row.done and row.track == Track.FREE]
    plain = [name for name in summary.references if name in free]
    return next(iter(plain + free), None)


def artefacts(summary: Summary) -> list[Artefact]:
    """Return a line for each finished recipe with general data.

    None where all families are seen or none is, or no reference ended.
    """
    analysis = summary.analysis
    reference = reference_of(summary)
    if analysis is None or reference is None or not {SEEN, HELD_OUT} <= set(analysis.point):
        return []

    # Held-out families show what general data keeps by itself; what seen ones show more is the
    # artefact.
    rows = [row for row in summary.recipes if row.done and row.track == Track.GENERAL and row.name in analysis.rows]
    return [
        Artefact(
            row,
            analysis.difference(SEEN, row.name, reference),
            analysis.difference(HELD_OUT, row.name, reference),
            _difference_of_differences(analysis, row.name, reference),
        )
        for row in rows
    ]


def _difference_of_differences(analysis: Analysis, row: str, reference: str) -> Estimate:
    a = analysis.rows.index(row)
    b = analysis.rows.index(reference)

    # The same arithmetic on the estimate, on each seed and on every draw.
    def of(source: dict[str, np.ndarray]) -> np.ndarray:
        apart = source[SEEN] - source[HELD_OUT]
        return apart[..., a] - apart[..., b]

    # As few as there are in either family: the difference rests on both.
    n = sum(int(min(analysis.counts[name][a], analysis.counts[name][b])) for name in (SEEN, HELD_OUT))
    return estimate_of(
        float(of(analysis.point)),
        of(analysis.by_seed),
        of(analysis.replicates),
        n,
        counted_twice(of(analysis.item_draws)),
    )
