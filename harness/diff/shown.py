"""A diff as people and programs read it: a table in the terminal, Markdown, JSON and a page that opens offline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.diff.diff import Diff
from harness.diff.difference import Difference
from harness.diff.documents import Document
from harness.report.summary.format import MISSING, number, p_value, points
from harness.stats.estimate import FEWEST
from harness.store.files import write_atomic
from harness.visible import markdown_text, visible

NAMED = 5
"""Documents that are named where a list is long; the JSON has all of them."""
COLUMNS = ("task", "metric", "documents", "A", "B", "B − A", "95 % interval", "lost", "won", "McNemar p", "MDE", "")
TEXTS = ("task", "metric", "95 % interval", "")
"""Columns of text; numbers are aligned to the right."""
WIDTHS = {"documents": 84, "A": 84, "B": 84, "lost": 100, "won": 100, "McNemar p": 110, "MDE": 110}
"""Column -> from how many columns of the terminal it is shown."""
LEGEND = (
    "Scores are on the documents that both runs have, paired document by document; shares are in points (0 to 100)."
    " The interval is a paired bootstrap over documents: it does not cover another training. Lost: right in A, wrong in B;"
    " won: the reverse. MDE: the smallest difference that so many documents show with 80 % power at 5 %."
)
STYLE = Path(__file__).parents[1] / "report" / "page" / "page.css"


def show(diff: Diff, console: Console | None = None) -> None:
    """Print the table, what could not be paired, and what else differs."""
    console = console or Console()
    console.print(Text(sentence(diff), style="bold"))
    # Less important columns go first where the terminal is narrow.
    columns = [name for name in COLUMNS if console.width >= WIDTHS.get(name, 0)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        text = name in TEXTS
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "task", overflow="fold")
    for difference in _ordered(diff):
        line = cells(difference)
        table.add_row(*(Text(visible(line[name])) for name in columns))
    console.print(table)
    for line in remarks(diff):
        console.print(Text(f"! {visible(line)}", style="dim"))


def sentence(diff: Diff) -> str:
    """Return what came out, in one sentence."""
    lines = [difference for difference in diff.differences if difference.outcome in ("better", "worse")]
    worse = [f"{visible(line.task)} {title(line)}" for line in lines if line.outcome == "worse"]
    better = [f"{visible(line.task)} {title(line)}" for line in lines if line.outcome == "better"]
    of = f"of {len(diff.differences)} metrics"
    parts = [f"{name}: {_some(names)}" for name, names in (("worse in B", worse), ("better in B", better)) if names]
    outcome = "; ".join(parts) or "no difference is seen"
    return f"A = {visible(diff.names[0])}, B = {visible(diff.names[1])}; {of}, {outcome}."


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{len(names)} ({shown}{', ...' if len(names) > NAMED else ''})"


def title(difference: Difference) -> str:
    """Return the metric, with its filter where there is one."""
    return difference.metric if difference.filter == "none" else f"{difference.metric} ({difference.filter})"


def _ordered(diff: Diff) -> list[Difference]:
    return [*diff.differences, *diff.groups, *diff.means]


def cells(difference: Difference) -> dict[str, str]:
    """Return a line of the table, as text."""
    write = points if difference.scale == 100 else number
    change = difference.change
    lost, won = (MISSING if flips is None else f"{len(flips):,}" for flips in (difference.lost, difference.won))
    detectable = change.detectable
    return {
        "task": difference.task,
        "metric": title(difference) + ("" if difference.rising else " (lower is better)"),
        "documents": f"{change.n:,}",
        "A": write(difference.before),
        "B": write(difference.after),
        "B − A": ("+" if change.value > 0 else "") + write(change.value),
        "95 % interval": f"[{write(change.low)}, {write(change.high)}]",
        "lost": lost,
        "won": won,
        "McNemar p": p_value(difference.mcnemar),
        # where nothing moved, nothing says how much would
        "MDE": write(detectable) if detectable > 0 else MISSING,
        "": difference.outcome,
    }


def remarks(diff: Diff) -> list[str]:
    """Return everything that a reader must know beside the numbers."""
    lines = []
    for side, tasks in zip("AB", diff.only, strict=True):
        if tasks:
            lines.append(f"Only {side} has the tasks {', '.join(tasks)}: not compared.")
    for task in diff.tasks:
        for side, documents in zip("AB", task.only, strict=True):
            if documents:
                lines.append(f"{task.task}: {len(documents):,} documents are in {side} alone: {_named(documents)}.")
        lines += _without_interval(task.task, task.unpaired, "is no mean over documents")
    for group, scores in diff.without_interval.items():
        lines += _without_interval(group, scores, "is not what the samples of its tasks give")
    few = [difference for difference in diff.differences if difference.outcome == "too few"]
    if few:
        lines.append(f"{len(few)} metrics have fewer than {FEWEST} documents: nothing is said of them.")

    # Twenty intervals at 95 % hold one that is wrong by chance: who reads many must know.
    total = len(diff.differences)
    if total >= 20:
        lines.append(f"Of {total} intervals about {number(round(total / 20))} exclude 0 by chance where nothing differs.")
    return [*lines, *diff.notes]


def _named(documents: tuple[Document, ...]) -> str:
    shown = "; ".join(str(document) for document in documents[:NAMED])
    return shown + (f"; and {len(documents) - NAMED:,} more" if len(documents) > NAMED else "")


def markdown(diff: Diff) -> str:
    """Return the table and its remarks as Markdown."""
    rule = "|".join("---" if name in TEXTS else "---:" for name in COLUMNS)
    lines = [f"# {markdown_text(sentence(diff))}", "", f"| {' | '.join(COLUMNS)} |", f"|{rule}|"]
    for difference in _ordered(diff):
        line = cells(difference)
        lines.append("| " + " | ".join(markdown_text(line[name]) for name in COLUMNS) + " |")
    lines += ["", LEGEND, "", *(f"- {markdown_text(remark)}" for remark in remarks(diff))]
    return "\n".join(lines).rstrip() + "\n"


def as_json(diff: Diff) -> str:
    """Return `record` as text."""
    return json.dumps(record(diff), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def record(diff: Diff) -> dict[str, Any]:
    """Return everything as JSON holds it: every flipped and every unmatched document too; null where there is no number."""
    return {
        "a": diff.names[0],
        "b": diff.names[1],
        "differences": [_entry(difference) for difference in diff.differences],
        "groups": [_entry(difference) for difference in diff.groups],
        "means": [_entry(difference) for difference in diff.means],
        "tasks": [
            {
                "task": task.task,
                "documents": len(task.documents),
                "only_a": _listed(task.only[0]),
                "only_b": _listed(task.only[1]),
                "without_interval": {name: list(map(_null, printed)) for name, printed in task.unpaired.items()},
            }
            for task in diff.tasks
        ],
        "groups_without_interval": {
            group: {name: [_null(value) for value in printed] for name, printed in scores.items()}
            for group, scores in diff.without_interval.items()
        },
        "only_a": list(diff.only[0]),
        "only_b": list(diff.only[1]),
        "notes": list(diff.notes),
    }


def _entry(difference: Difference) -> dict[str, Any]:
    change = difference.change
    return {
        "task": difference.task,
        "metric": difference.metric,
        "filter": difference.filter,
        "higher_is_better": difference.rising,
        "unit": "points" if difference.scale == 100 else "as scored",
        "documents": change.n,
        "a": difference.before,
        "b": difference.after,
        "difference": change.value,
        "low": change.low,
        "high": change.high,
        "standard_error": _null(change.se),
        "detectable": _null(change.detectable),
        "lost": None if difference.lost is None else _listed(difference.lost),
        "won": None if difference.won is None else _listed(difference.won),
        "mcnemar_p": _null(difference.mcnemar),
        "outcome": difference.outcome,
        "a_all_documents": difference.alone[0],
        "b_all_documents": difference.alone[1],
    }


def _listed(documents: tuple[Document, ...]) -> list[dict[str, Any]]:
    return [{"doc_id": document.doc_id, "begins": document.words} for document in documents]


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def page(diff: Diff) -> str:
    """Return one self-contained page; whatever a document says is shown, never run."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["visible"] = visible
    return environment.get_template("diff.html.j2").render(
        diff=diff,
        sentence=sentence(diff),
        columns=COLUMNS,
        lines=[(difference, cells(difference)) for difference in _ordered(diff)],
        title=title,
        remarks=remarks(diff),
        legend=LEGEND,
        style=Markup(STYLE.read_text(encoding="utf-8")),
    )


def write(diff: Diff, folder: Path) -> list[Path]:
    """Write `diff.md`, `diff.json` and `diff.html` into a folder; return the files."""
    texts = {
        "diff.md": markdown(diff),
        "diff.json": as_json(diff),
        "diff.html": page(diff),
    }
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]


def _without_interval(name: str, scores: Mapping[str, tuple[float, float]], reason: str) -> list[str]:
    """Return a sentence on each metric of a task or group that is shown as lm-eval printed it."""
    lines = []
    for metric, (before, after) in scores.items():
        printed = f"lm-eval printed {number(before)} and {number(after)}"
        lines.append(f"{name}: {metric.removesuffix(',none')} {reason}, so it has no interval here; {printed}.")
    return lines
