"""Dev scores of the settings that were scored on test items too, beside their test scores: the winner's curse.

Gain is measured alike on both sides: kinds and metrics of dev records are decided on the test records. General change is not:
dev items are records of the general pool, so the families of the test that methods may have seen are the nearest to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.estimate import Estimate
from harness.stats.quantity_name import CHANGE, GAIN, Measured, Scope, name_of


@dataclass(frozen=True)
class Promise:
    """One setting on both sides."""

    row: str
    recipe: str
    selected: bool
    dev_gain: Estimate
    dev_change: Estimate
    gain: Estimate
    change_seen: Estimate
    change: Estimate

    @property
    def fell(self) -> float:
        """Points of gain that dev promised and test did not show."""
        return self.dev_gain.value - self.gain.value


def promised(summary: Summary) -> list[Promise]:
    """Return a line for each setting of a tuned recipe that has test scores, the selected one of a recipe first."""
    lines = []
    for row, of_row in summary.trials.groupby("row", sort=False):
        points = summary.points[summary.points["row"] == row].set_index("recipe")["name"].to_dict()
        for trial in of_row.sort_values("selected", ascending=False, kind="stable").to_dict("records"):
            # The selected setting stands under its row, others under their point.
            name = str(row) if trial["selected"] else points.get(trial["recipe"])
            if name is not None:
                lines.append(_promise(summary, pd.Series(trial), name))
    return lines


def _promise(summary: Summary, trial: pd.Series, name: str) -> Promise:
    dev = [Estimate(trial[part], trial[f"{part} low"], trial[f"{part} high"]) for part in ("gain", "change")]
    test = [summary.estimate(part, name) for part in (GAIN, name_of(Measured.CHANGE, Scope.SEEN), CHANGE)]
    return Promise(str(trial["row"]), str(trial["recipe"]), bool(trial["selected"]), *dev, *test)
