"""The same verdict and a short table at the end of a comparison, in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.cautions import warnings
from harness.report.format import p_value, points, rough, visible
from harness.report.rows import Row
from harness.report.summary import Summary
from harness.report.verdict import verdict_of
from harness.stats import Estimate

NARROW = 76
"""Columns below which the terminal shows the row, its gain and what it kept only."""


def show(summary: Summary, console: Console | None = None) -> None:
    """Print verdict, table and warnings; no colours, bold and dim only repeat what words say."""
    console = console or Console()
    verdict = verdict_of(summary)
    console.print(Text(visible(verdict.sentence), style="bold"))
    for line in (verdict.sureness, verdict.rule):
        console.print(Text(visible(line), style="dim")) if line else None
    console.print(_table(summary, console.width < NARROW))
    for warning in warnings(summary):
        console.print(Text(f"! {visible(warning)}", style="dim"))


def _table(summary: Summary, narrow: bool) -> Table:
    reference = next(iter(summary.references), None)
    names = ["row", "track", "gain", "kept %", "worst family", f"p vs {reference}" if reference else "p", "status"]
    shown = [i for i, name in enumerate(names) if not narrow or name in ("row", "gain", "kept %", "status")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i in shown:
        number = i in (2, 3, 5)
        table.add_column(names[i], justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in summary.rows:
        cells = _cells(summary, row, reference)
        table.add_row(*(cells[i] for i in shown))
    return table


def _cells(summary: Summary, row: Row, reference: str | None) -> list[Text]:
    worst = summary.worst_family(row.name) if row.done and row.role == "recipe" else None
    lost = summary.estimate(f"change:family:{worst}", row.name)
    contrast = summary.contrast(row.name, reference) if reference else None
    texts = [
        visible(row.name),
        row.track if row.role == "recipe" else "",
        _cell(summary.estimate("gain", row.name)),
        _cell(summary.estimate("retention", row.name)),
        f"{visible(worst)} {points(lost.value)}" if worst else "",
        p_value(contrast["holm"]) if contrast is not None else "",
    ]
    return [*map(Text, texts), Text(row.status, style="" if row.status == "done" else "bold")]


def _cell(estimate: Estimate) -> str:
    return rough(estimate, "").replace("  ", " ")
