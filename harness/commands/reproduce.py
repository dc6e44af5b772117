"""`lethe reproduce`: run a published comparison from its own record, and say what differs, value by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.commands.recorded import plan_of, refuse_another_question
from harness.errors import PlanError
from harness.plan.plan import split_recipes
from harness.report.summary.format import MISSING, number
from harness.report.summary.rows import dig
from harness.store.comparisons import read_comparison, read_table
from harness.store.files import read_json
from harness.store.question import differing_fields
from harness.store.results import open_results, results_of
from harness.store.runs import RunStore
from harness.visible import csv_text, read_csv_text, visible

COSTS = ("device seconds", "tuning device seconds", "peak memory bytes")
"""Columns that differ between any two runs: reported apart, not counted."""
NAMES = ("keys",)
"""Columns that name the question: they differ where the code or torch does."""
AT = ("change at", "retention at", "gain at", "mean change to")
"""Beginnings of columns of what is read where all rows have gained, or lost, the same."""
RELATIVE = (
    "change vs",
    "mde vs",
    "p vs",
    "holm p",
    "least p",
    "chosen",
    "pareto",
    "gain rank",
    "gain first",
    "change rank",
    "change first",
    "hypervolume",
    "matched ",
    *(f"{name} matched" for name in AT),
)
"""Beginnings of columns that hold a row against the others: not the same where only some rows are run."""


@dataclass(frozen=True)
class Difference:
    """One value of the table."""

    row: str
    column: str
    published: Any
    now: Any


def reproduce(folder: str, out: str, only: str | None = None, quiet: bool = False, code: Sequence[str] = ()) -> int:
    """Run it in a store of its own under `out`, print what differs; 0 where every value is the published one, else 1."""
    from harness.commands.compare import carry_out, prepare
    from harness.report.write import write_report
    from harness.setup.comparison_record import question_of

    results, name = results_of(folder)
    source = results.folder(name)
    record = results.record(name)
    published = published_table(source)
    rows = tuple(split_recipes(only or ""))
    if unknown := [row for row in rows if row not in published.index]:
        raise PlanError(f"the table has no row {', '.join(unknown)}; it has {', '.join(published.index)}")

    # Columns that hold a row against others mean nothing where only some rows are run.
    changes = {"recipes": " ".join(rows)} if rows else {}
    plan = plan_of(record, code, out=out, **changes)
    refuse_another_question(record, question_of(prepare(plan)[0]), source)
    again, failed = carry_out(plan, quiet)
    stored = open_results(out)
    with stored.recording():
        table = write_report(again, stored.store).table.set_index("row")

    # Rows that were not asked for are not held against anything.
    versions = differing_versions(where_of(record, source), where_of(read_json(again / "comparison.json"), again))
    kept = [row for row in published.index if row in table.index or not rows]
    apart = [name for name in published.columns if rows and name.startswith(RELATIVE)]
    changed = differences(published.loc[kept].drop(columns=apart), table)
    show(changed, versions, len(kept))
    same = all(difference.column in COSTS for difference in changed)
    return 0 if same and not failed else 1


def published_table(folder: Path) -> pd.DataFrame:
    """Return table.csv, by row."""
    try:
        return read_table(folder).set_index("row")
    except FileNotFoundError:
        raise PlanError(f"{folder} holds no table.csv to hold against; `lethe report` writes it") from None


def differences(published: pd.DataFrame, now: pd.DataFrame) -> list[Difference]:
    """Return the values that are not equal, in the published order; a row or column on one side only is one difference."""
    changed = []

    # Both as text files have them: a value may change its type by being written.
    written = _as_written(now)
    for row in published.index:
        if row not in written.index:
            changed.append(Difference(str(row), "the whole row", "there", None))
            continue
        before = published.loc[row].to_dict()
        after = written.loc[row].to_dict()
        for column in published.columns:
            if column in NAMES:
                continue
            then = before[column]
            value = after.get(column)
            if then != value and not (pd.isna(then) and pd.isna(value)):
                changed.append(Difference(str(row), column, then, value))
    return changed


def _as_written(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as its own table.csv would read."""
    return read_csv_text(csv_text(table.reset_index()).encode()).set_index("row")


def where_of(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return commit, packages and machine of a comparison: of its record, else of the first of its runs in the store."""
    if record.get("where"):
        return record["where"]
    runs = read_comparison(folder, RunStore(folder.parent / "runs")).runs if (folder.parent / "runs").is_dir() else []
    recorded = (dig(run, "run", "where") for run in runs)
    return next((facts for facts in recorded if facts), {})


def differing_versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs in commit, packages and machine, one line each."""
    if not then:
        return ["its machine and versions were not recorded"]
    lines = []
    for difference in differing_fields(_flat(then), _flat(now)):
        # A record may lack what this machine says, and the other way round.
        before = "not recorded" if difference.then is None else difference.then
        current = "not there" if difference.now is None else difference.now
        lines.append(f"{difference.name}: {before}, here {current}")
    return lines


def _flat(where: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of `where` by part and name, as `packages torch`."""
    facts = {}
    for part, values in where.items():
        for name, value in (values or {}).items():
            facts[f"{part} {name}"] = value
    return facts


def show(changed: list[Difference], versions: list[str], rows: int, console: Console | None = None) -> None:
    """Print it: the verdict, each value, then what of machine and versions differs."""
    console = console or Console()
    values = [difference for difference in changed if difference.column not in COSTS]
    costs = [difference for difference in changed if difference.column in COSTS]
    # Scores must agree; what a run took differs between any two runs, so it is only counted.
    if values:
        console.print(Text(f"{len(values)} values of {rows} rows differ from what was published:", style="bold"))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("row", "value", "published", "now"):
            table.add_column(name)
        for value in values:
            cells = (value.row, value.column, _shown(value.published), _shown(value.now))
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
    else:
        console.print(Text(f"Reproduced: every value of {rows} rows is the published one.", style="bold"))
    console.print(f"Costs differ in {len(costs)} places (seconds, memory): these do between any two runs.")
    for line in versions:
        console.print(Text(f"differs: {visible(line)}", style="dim"))


def _shown(value: Any) -> str:
    """Return a value of the table in words."""
    if value is None or pd.isna(value):
        return MISSING
    return number(float(value), 6) if isinstance(value, int | float) else str(value)
