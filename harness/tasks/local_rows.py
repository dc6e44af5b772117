"""Rows of a local file that stand in for a data set of the hub, in the columns that lm-eval's task expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from harness.errors import PlanError
from harness.store.opening import read_text

Row = dict[str, Any]
Form = Callable[[Row], Row | None]
"""Turns a row of a file into the task's columns; None leaves the row out."""


class _Splits(dict[str, Dataset]):
    """One local file stands for every split: only the evaluated one is read, since nothing here has examples drawn."""

    def __init__(self, rows: Dataset) -> None:
        super().__init__()
        self.rows = rows

    def __missing__(self, _: str) -> Dataset:
        return self.rows


def dataset_loader(rows: list[Row]) -> Callable[..., _Splits]:
    """Return what lm-eval calls for a task's data (its setting `custom_dataset`)."""
    return lambda **_: _Splits(Dataset.from_list(rows))


def read_rows(file: Path, form: Form, task: str) -> list[Row]:
    """Return the rows of a file in the task's own columns, without those that `form` leaves out.

    Raises PlanError with the line that is no item of the task.
    """
    rows: list[Row] = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = form(json.loads(line))
        except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise PlanError(
                f"{file.name} line {number} is no item of '{task}' ({type(error).__name__}: {error}); "
                "give the data set's own columns, or question, choices and answer (docs/suites.md)"
            ) from None
        if row is not None:
            rows.append(row)
    return rows


def rows_by_part(
    rows: list[Row], subject_of: Mapping[str, str], file: Path, *, has_subject: bool
) -> list[tuple[str, list[Row]]]:
    """Return [(part, its rows)] of a task in parts; parts of one subject share the rows that name it in `subject`.

    `subject_of`: part -> its subject. `has_subject`: the hub's rows have that column too, so it stays.
    Raises PlanError where a row names no part.
    """
    if len(subject_of) == 1:
        return [(part, rows) for part in subject_of]

    # A row belongs to the parts that its `subject` names.
    by_subject: dict[str, list[Row]] = {}
    for row in rows:
        by_subject.setdefault(str(row.get("subject")), []).append(row)
    parts_of: dict[str, list[str]] = {}
    for part, subject in subject_of.items():
        parts_of.setdefault(subject, []).append(part)
    _check_subjects(by_subject, parts_of, file)

    # The hub's parts have no such column, except for one configuration that holds them all.
    if not has_subject:
        for subject_rows in by_subject.values():
            subject_rows[:] = [_without_subject(row) for row in subject_rows]
    parts: list[tuple[str, list[Row]]] = []
    for subject, names in parts_of.items():
        if subject in by_subject:
            parts += [(name, by_subject[subject]) for name in names]
    return parts


def _check_subjects(named: Mapping[str, object], subjects: Mapping[str, Sequence[str]], file: Path) -> None:
    """Raise PlanError with the subjects that rows name and no part of the task has."""
    unknown = [subject for subject in named if subject not in subjects]
    if unknown:
        raise PlanError(
            f"{file.name} has rows whose `subject` is no part of lm-eval's task: {', '.join(unknown[:5])}. "
            f"Each row names one of its {len(subjects)} parts: {', '.join(sorted(subjects)[:5])}, ..."
        )


def _without_subject(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "subject"}
