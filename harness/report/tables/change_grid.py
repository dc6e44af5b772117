"""Where recipes changed the general score: every family and channel against every recipe."""

from __future__ import annotations

import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.quantity_name import Measured, Scope, name_of


def change_grid(summary: Summary) -> pd.DataFrame:
    """Return (family or channel) x row: change in points of the chance-corrected score; families that lost most first."""
    rows = [row.name for row in summary.tuned if row.done]
    cells = {}
    for kind in (Scope.FAMILY, Scope.CHANNEL):
        for part in summary.parts(kind):
            name = name_of(Measured.CHANGE, kind, part)
            cells[kind.value, part] = [summary.estimate(name, row).value for row in rows]
    grid = pd.DataFrame.from_dict(cells, orient="index", columns=rows)
    if grid.empty:
        return grid
    grid.index = pd.MultiIndex.from_tuples(grid.index, names=["kind", "name"])
    order = grid.assign(_kind=[k != "family" for k, _ in grid.index], _mean=grid.mean(axis=1))
    return grid.loc[order.sort_values(["_kind", "_mean"], kind="stable").index]
