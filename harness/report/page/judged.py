"""What the page shows of rules and of classifications: values of the sections `rules` and `classes`."""

from __future__ import annotations

from typing import Any

from harness.report.summary.summary import Summary
from harness.report.tables.classes import class_table
from harness.report.tables.compliance import ALL, broken_table, compliance_table

MOST_SHOWN = 10
"""Offending outputs shown of each row; all of them are in broken.csv."""


def rules(summary: Summary) -> dict[str, Any] | None:
    table = summary.computed(compliance_table)
    broken = summary.computed(broken_table)
    # No rule was given, so there is no such section.
    if table.empty:
        return None
    cells = {row: part.set_index("rule").to_dict("index") for row, part in table.groupby("row")}
    shown = {
        row.name: {"total": len(outputs), "shown": outputs.head(MOST_SHOWN).to_dict("records")}
        for row in summary.rows
        if len(outputs := broken[broken["row"] == row.name])
    }
    return {"rules": list(table["rule"].unique()), "cells": cells, "broken": shown, "all": ALL}


def classes(summary: Summary) -> dict[str, Any] | None:
    table = summary.computed(class_table)
    if table.empty:
        return None
    tasks = table.drop_duplicates("task").rename(columns={"task": "name"})[["name", "labels", "n"]].to_dict("records")
    return {"tasks": tasks, "cells": {row: part.set_index("task").to_dict("index") for row, part in table.groupby("row")}}
