"""The same verdict and a short table at the end of a comparison, in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.format import p_value, points, rough, visible
from harness.report.summary import TRACKS, Summary
from harness.report.verdict import verdicts, warnings
from harness.stats import Estimate


def show(summary: Summary, console: Console | None = None) -> None:
    """Print verdicts, table and warnings; colours only repeat what words say."""
    console = console or Console()
    for verdict in verdicts(summary):
        console.print(Text.assemble((f"{TRACKS[verdict.track].capitalize()}: ", "bold"), visible(verdict.sentence)))
    console.print(_table(summary))
    for warning in warnings(summary):
        console.print(Text(f"! {visible(warning)}", style="dim"))


def _table(summary: Summary) -> Table:
    reference = next(iter(summary.references), None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (("row", "left"), ("track", "left"), ("gain", "right"), ("kept %", "right"), ("worst family", "left")):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column(f"p vs {reference}" if reference else "p", justify="right")
    table.add_column("status")
    for row in summary.rows:
        worst = summary.worst_family(row.name) if row.done and row.role == "recipe" else None
        lost = summary.estimate(f"change:family:{worst}", row.name)
        contrast = summary.contrast(row.name, reference) if reference else None
        table.add_row(
            Text(row.name),
            row.track if row.role == "recipe" else "",
            _cell(summary.estimate("gain", row.name)),
            _cell(summary.estimate("retention", row.name)),
            f"{worst} {points(lost.value)}" if worst else "",
            p_value(contrast["holm"]) if contrast is not None else "",
            Text(row.status, style="" if row.status == "done" else "bold"),
        )
    return table


def _cell(estimate: Estimate) -> Text:
    return Text(rough(estimate, "").replace("  ", " "))
