"""From stored runs to what people read: page, tables, plots, verdict. Never needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from harness.report.figures.plots import draw
from harness.report.page.page import page
from harness.report.summary.stages import STAGES, stage_numbers, stage_table
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.tables.answer_quality import quality_of
from harness.report.tables.appendix import appendix_latex, appendix_markdown, bibtex
from harness.report.tables.calibration import calibration_of
from harness.report.tables.classes import class_table
from harness.report.tables.compliance import broken_table, compliance_table
from harness.report.tables.forgetting_kinds import kind_table
from harness.report.tables.item_flips import flip_table, item_table
from harness.report.tables.main_table import full_table, latex, markdown, reading_table, records
from harness.report.verdict.caution import Caution
from harness.report.verdict.cautions import cautions
from harness.report.verdict.model_card import section
from harness.report.verdict.terminal import show, shown
from harness.report.verdict.verdict import Verdict, verdict_markdown, verdict_of, verdict_record
from harness.store.comparisons import READ_AGAIN, TABLE, VERDICT, read_comparison
from harness.store.files import as_bytes, sweep, write_atomic
from harness.store.hashes import Hashes, digest
from harness.store.runs import RunStore
from harness.visible import csv_text

__all__ = ["Report", "Summary", "show", "shown", "summarise", "write_report"]


EXTRA: dict[str, Callable[[Summary], pd.DataFrame]] = {
    "quality": quality_of,
    "calibration": calibration_of,
    "items": item_table,
    "flips": flip_table,
    "kinds": kind_table,
    "compliance": compliance_table,
    "broken": broken_table,
    "classes": class_table,
}
"""Tables that are files of their own, where there is anything in them."""


@dataclass(frozen=True)
class Report:
    """The files of a report and what they say."""

    folder: Path
    table: pd.DataFrame
    """One line a row: table.csv."""
    verdict: Verdict
    cautions: list[Caution]
    files: list[Path]
    """What was written; nothing where the results may only be read."""
    summary: Summary

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing the table."""
        return [caution.text for caution in self.cautions]

    @property
    def all_well(self) -> bool:
        """Whether every run of the comparison ended as it should."""
        return all(row.status == "done" for row in self.summary.rows)


@threadpool_limits.wrap(limits=1, user_api="blas")  # the products are small: threads would wait longer than they compute
def write_report(folder: Path, store: RunStore, reps: int = 10_000) -> Report:
    """Rebuild report.html, table.* and plots/ of a comparison from its stored runs; same store, same bytes."""
    sweep(folder, deep=True)
    summary = summarise(read_comparison(folder, store), reps)
    table, reading, plots = full_table(summary), reading_table(summary), draw(summary)
    verdict, warned = verdict_of(summary), cautions(summary)
    staged = f"\n{STAGES}\n\n{markdown(stage_table(summary.stages))}" if summary.stages else ""
    files: dict[str, str | bytes] = {
        TABLE: csv_text(table),
        "table.json": records(table),
        "table.md": markdown(reading) + staged + verdict_markdown(verdict, warned),
        "table.tex": latex(reading),
        "appendix.md": appendix_markdown(summary),
        "appendix.tex": appendix_latex(summary),
        "report.html": page(summary, plots),
        VERDICT: verdict_record(verdict, warned),
    }
    # Files that only some comparisons have something to say in.
    if summary.measured:
        files["card.md"] = _card_section(summary, table, warned)
    if references := bibtex(summary):
        files["references.bib"] = references
    if summary.stages:
        files["stages.csv"] = csv_text(stage_numbers(summary.stages))
    if len(summary.trials):
        files["trials.csv"] = csv_text(summary.trials)
    extra = {name: summary.computed(make) for name, make in EXTRA.items()}
    files |= {f"{name}.csv": csv_text(extra_table) for name, extra_table in extra.items() if len(extra_table)}
    for plot in plots:
        files |= {f"plots/{plot.name}.{kind}": plot.file(kind) for kind in ("svg", "png")}
    # Everything is made before anything is written: a failure leaves the earlier report whole.
    write_files(folder, files)
    return Report(folder, table, verdict, warned, [folder / name for name in files], summary)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a report's files, and the hashes of those that are read again."""
    # A kill in between leaves files without hashes, never hashes of other files.
    hashes = Hashes(folder)
    hashes.renew({})
    for name, content in files.items():
        write_atomic(folder / name, content)
    again = {name: files[name] for name in READ_AGAIN if name in files}
    hashes.renew({name: digest(as_bytes(content)) for name, content in again.items()})


@threadpool_limits.wrap(limits=1, user_api="blas")
def read_report(folder: Path, store: RunStore, reps: int = 10_000) -> Report:
    """Return what the report of a comparison says, and write nothing: for results that may only be read."""
    summary = summarise(read_comparison(folder, store), reps)
    return Report(folder, full_table(summary), verdict_of(summary), cautions(summary), [], summary)


def _card_section(summary: Summary, table: pd.DataFrame, warned: list[Caution]) -> str:
    """Return card.md: what models tuned elsewhere can paste into their cards."""
    rows = [row.name for row in summary.measured if row.done]
    lines = [{str(column): value for column, value in line.items()} for line in table.to_dict("records")]
    warnings = [caution.text for caution in warned if not caution.rows or set(caution.rows) & set(rows)]
    return section(summary.record, [line for line in lines if line["row"] in rows], warnings)
