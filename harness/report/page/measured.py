"""What the page shows of free answers, calibration, items and kinds of forgetting: values of the sections of those names."""

from __future__ import annotations

from itertools import chain, product
from typing import Any

from harness.report.summary.item_tables import right_or_wrong
from harness.report.summary.summary import Summary
from harness.report.tables.answer_quality import MEASURES, SETS, phrases_of, quality_of
from harness.report.tables.calibration import TITLES, calibration_of
from harness.report.tables.forgetting_kinds import kind_table
from harness.report.tables.item_flips import flip_table, most_forgotten

KINDS = ("format", "recoverable", "true", "lost", "unclear", "none")
MOST_SHOWN = 5
"""Items that every recipe lost shown of each family; all of them are in items.csv."""
PHRASES = 5
"""Set phrases of the domain shown."""
Values = dict[str, Any]


def answers(summary: Summary) -> Values | None:
    table = summary.computed(quality_of)
    sets = []
    for name, title in SETS.items():
        part = table[table["set"] == name]
        if len(part):
            measures = [measure for measure in MEASURES if measure.name in set(part["measure"])]
            cells = {row: lines.set_index("measure").to_dict("index") for row, lines in part.groupby("row")}
            sets.append({"id": name, "title": title, "measures": measures, "cells": cells, "prompts": part["prompts"].max()})
    # set phrases in the order of the record's template, the commonest first
    order = [tuple(gram) for gram in summary.record.get("template") or []]
    phrases = summary.computed(phrases_of) if sets else set()
    shown = sorted(phrases, key=order.index)[:PHRASES]
    return {"sets": sets, "phrases": [" ".join(phrase) for phrase in shown]} if sets else None


def calibration(summary: Summary) -> Values | None:
    table = summary.computed(calibration_of)
    keys = list(product(sorted(set(table["group"]), reverse=True), TITLES))
    cells = {row: lines.set_index(["group", "measure"]).to_dict("index") for row, lines in table.groupby("row")}
    titles = [f"{TITLES[name]}, {group}" for group, name in keys]
    return {"calibration": cells, "keys": keys, "titles": titles} if cells else None


def items(summary: Summary) -> Values | None:
    lines = summary.computed(flip_table).query("scope == 'all'").to_dict("records")
    if not lines:
        return None

    # The items that every recipe lost, a few of each family; the files hold all.
    most = most_forgotten(summary)
    shown = most[most.groupby("family").cumcount() < MOST_SHOWN] if len(most) else most
    return {
        "lines": lines,
        "most": shown.to_dict("records"),
        "most_n": len(most),
        "right": int(summary.computed(right_or_wrong)[summary.base].sum()),
        "families": most["family"].value_counts().to_dict() if len(most) else {},
    }


def kinds(summary: Summary) -> Values | None:
    table = summary.computed(kind_table)
    if table.empty:
        return None
    cells = {row: part.set_index("family").to_dict("index") for row, part in table.groupby("row")}
    counts = {row: part["kind"].value_counts().to_dict() for row, part in table.groupby("row")}
    seen = table.drop_duplicates("family").set_index("family")["seen"].to_dict()
    costs = {row.name: row.cost("probe", "ledger", "flops") for row in summary.recipes}
    probes = [run.get("probe") or {} for run in chain.from_iterable(row.finished for row in summary.rows)]
    about = next((probe for probe in probes if probe.get("examples")), None)
    return {"cells": cells, "families": seen, "counts": counts, "costs": costs, "probe": about, "kinds": KINDS}
