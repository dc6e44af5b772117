"""report.html: one self-contained page that opens offline; whatever a model wrote is shown, never run."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

from harness.report import format as shown
from harness.report.flips import read_flips
from harness.report.ink import Plot, marks
from harness.report.plots import heat_grid
from harness.report.stages import STAGES, stage_table
from harness.report.summary import TRACKS, Row, Summary
from harness.report.tables import costs, memory, quality, tuning
from harness.report.verdict import NEAR_BEST, verdicts, warnings
from harness.stats import MARGIN

HERE = Path(__file__).parent
GLYPHS = dict(zip("os^DvPXh", "●■▲◆▼✚✖⬢", strict=True))


def page(summary: Summary, plots: list[Plot]) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("number", "points", "signed", "si", "interval", "with_interval", "p_value", "visible")
    environment.filters |= {name: getattr(shown, name) for name in names} | {"pretty": _pretty}
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        summary=summary,
        record=summary.record,
        **{name: summary.record.get(name) or {} for name in ("model", "plan", "data")},
        rows=summary.rows,
        recipes=summary.recipes,
        tracks=TRACKS,
        verdicts=verdicts(summary),
        warnings=warnings(summary),
        plots={plot.name: Markup(plot.inline()) for plot in plots},
        looks=marks([row.name for row in summary.recipes]),
        glyphs=GLYPHS,
        heat=_heat(summary),
        flips=read_flips(summary),
        qualities=list(dict.fromkeys(name for row in summary.rows for name in quality(summary, row.name))),
        quality={row.name: quality(summary, row.name) for row in summary.rows},
        costs={row.name: costs(row) for row in summary.rows},
        memory={row.name: memory(row) for row in summary.rows},
        classes=sorted({name for row in summary.rows for name in row.shares("ledger", "tokens")}),
        failed=[row for row in summary.rows if row.reasons],
        notes=_notes(summary),
        tuning={row.name: tuning(summary, row) for row in summary.rows},
        trials=summary.trials.to_dict("records"),
        stages=stage_table(summary.stages) if summary.stages else None,
        staged=STAGES,
        near_best=NEAR_BEST,
        margin=MARGIN,
        where=_where(summary.rows),
        missing=shown.MISSING,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def _heat(summary: Summary) -> dict[str, Any]:
    """Rows and coloured cells of the heat map as a table: shade in percent, sign by colour and in the number."""
    grid = heat_grid(summary)
    if grid.empty:
        return {"columns": [], "lines": []}
    top = max(5.0, float(grid.abs().max().max()))
    lines = []
    for (kind, name), line in grid.T.items():  # type: ignore[misc]
        shades = (70 * line.abs() / top).fillna(0).round().astype(int)
        cells = [{"estimate": summary.estimate(f"change:{kind}:{name}", row), "shade": shades[row]} for row in line.index]
        lines.append({"kind": kind, "name": name, "cells": cells})
    return {"columns": list(grid.columns), "lines": lines}


def _notes(summary: Summary) -> list[str]:
    """Notes of the comparison, of its data and of its runs, each once."""
    data = summary.record.get("data") or {}
    found = [*(summary.record.get("notes") or []), *(data.get("notes") or [])]
    for row in summary.rows:
        for run in row.finished:
            happened = (run.get("run") or {}).get("happened") or {}
            found += [f"{row.name}: {note}" for note in happened.get("notes") or []]
    return list(dict.fromkeys(str(note) for note in found))


def _where(rows: list[Row]) -> list[dict[str, Any]]:
    """Distinct machines and versions the runs were made with."""
    found: list[dict[str, Any]] = []
    for row in rows:
        for run in row.finished:
            where = (run.get("run") or {}).get("where")
            if where and where not in found:
                found.append(where)
    return found
