"""The same verdict and a short table at the end of a comparison, in the terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.summary.format import capital, number, points, rough, si
from harness.report.summary.rows import Row
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import GAINS_LESS, POINTS_ONLY, costs, matched_head
from harness.report.verdict.cautions import warnings
from harness.report.verdict.meters import budget_line, other_meter
from harness.report.verdict.verdict import verdict_of
from harness.stats.analysis import Estimate
from harness.stats.quantity_name import change_of_family
from harness.visible import visible
from harness.vocabulary import Role, Status

KEPT = 120
"""Columns of the text that is kept."""
WIDTHS = {
    "row": 0,
    "gain": 0,
    "ΔR, points": 0,
    "kept %": 76,
    "matched": 92,
    "epochs": 108,
    "seconds": 108,
    "FLOPs": 116,
    "worst family": 150,
    "track": 150,
    "status": 0,
}
"""Column -> from how many columns of the terminal it is shown."""
TEXTS = ("row", "track", "worst family", "status")


def show(summary: Summary, console: Console | None = None) -> None:
    """Print verdict, table and warnings; no colours, bold and dim only repeat what words say."""
    console = console or Console()
    verdict = verdict_of(summary)
    console.print(Text(visible(verdict.sentence), style="bold"))
    for line in (verdict.sureness, verdict.rule, other_meter(summary).sentence):
        if line:
            console.print(Text(visible(line), style="dim"))
    if budget := budget_line(summary):
        console.print(Text(f"{capital(budget)}."))
    if head := matched_head(summary):
        console.print(Text(f"{head}: where each has gained so much, {summary.matched.description}.", style="dim"))
    console.print(_table(summary, console.width))
    for warning in warnings(summary):
        console.print(Text(f"! {visible(warning)}", style="dim"))


def shown(summary: Summary) -> str:
    """Return what `show` prints, as plain text."""
    stream = StringIO()
    show(summary, Console(file=stream, width=KEPT))
    return stream.getvalue()


def _table(summary: Summary, width: int) -> Table:
    shown = [name for name, least in WIDTHS.items() if width >= least]
    table = Table(box=None, pad_edge=False, header_style="bold")
    head = matched_head(summary)

    # The matched column is there only where curves reach one gain.
    shown = [name for name in shown if name != "matched" or head]
    for name in shown:
        text = name in TEXTS
        table.add_column(
            head if name == "matched" else name, justify="left" if text else "right", no_wrap=not text, overflow="fold"
        )
    for row in summary.rows:
        cells = _cells(summary, row)
        table.add_row(*(cells[name] for name in shown))
    return table


def _cells(summary: Summary, row: Row) -> dict[str, Text]:
    recipe = row.role == Role.RECIPE
    worst = summary.worst_family(row.name) if row.done and row.role.is_tuned else None
    lost, cost = summary.estimate(change_of_family(worst or ""), row.name), costs(row)

    # A share of very little is not shown; points say as much.
    kept, change = summary.estimate("retention", row.name), summary.estimate("change", row.name)
    texts = {
        "row": visible(row.name),
        "gain": _cell(summary.estimate("gain", row.name)),
        "ΔR, points": _cell(change),
        "kept %": _cell(kept) if summary.in_per_cent or not change.known else POINTS_ONLY,
        "matched": _matched(summary, row),
        "epochs": number(cost["epochs"], 2) if recipe else "",
        "seconds": number(cost["device seconds"], 2) if recipe else "",
        "FLOPs": si(cost["flops"]) if recipe else "",
        "worst family": f"{visible(worst)} {points(lost.value)}" if worst else "",
        "track": row.track if recipe else row.role,
    }
    status = Text(row.status, style="" if row.status == Status.DONE else "bold")
    return {name: Text(text) for name, text in texts.items()} | {"status": status}


def _matched(summary: Summary, row: Row) -> str:
    tradeoff = summary.matched.of(row.name)
    return "" if tradeoff is None else _cell(tradeoff.change) if tradeoff.change.known else GAINS_LESS


def _cell(estimate: Estimate) -> str:
    return rough(estimate, "").replace("  ", " ")
