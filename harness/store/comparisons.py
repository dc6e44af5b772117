"""Comparisons and their item tables, as read from a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from harness.errors import PlanError, faults_of, one_line, raise_faults
from harness.store.files import read_record
from harness.store.hashes import Damaged, Hashes, read_hashed
from harness.store.runs import RunStore
from harness.store.schema import ITEM_COLUMNS, NAMES, TEXTS, EntryRecord, ReadEntry, RunEntry, TrialEntry
from harness.text.json_reader import parse_record
from harness.visible import read_csv_text
from harness.vocabulary import EvalKind, Role, Status

TABLE = "table.csv"
VERDICT = "verdict.json"
TRADEOFF = "plots/tradeoff.svg"
READ_AGAIN = (TABLE, VERDICT, TRADEOFF)
"""Files of a report that other commands read."""
WRITTEN_ANEW = "`lethe report` writes it anew"
AHEAD = 64
"""Files of scores that are read ahead."""


@dataclass(frozen=True)
class Comparison:
    """One comparison as stored: everything a report needs, torch not needed."""

    record: dict[str, Any]
    """comparison.json: name, protocol, plan, model, data, notes, rows (see docs/storage.md)."""
    runs: list[RunEntry]
    """One entry a row x seed."""
    store: RunStore
    """Where logs and texts are: most of a store, read as they are asked for (`RunFolder.log`, `read_texts`)."""
    scores: pd.DataFrame
    """Final item scores of all runs, with `row` and `seed` columns in front; without texts, as all but `quality`."""
    curve: pd.DataFrame
    """Fixed sub-sample at fractions of the budget, likewise."""
    path: pd.DataFrame
    """Fixed dev sub-sample along the line from the base (alpha 0) to the tuned model (alpha 1), likewise."""
    trials: list[TrialEntry]
    """One entry a trial of the tuning.

    Entries with final scores are no trials, but settings that were trained under the reported seeds and scored on test
    items.
    """
    dev: pd.DataFrame
    """Dev item scores of the base and the trials; `row` names the trial."""
    stages: pd.DataFrame
    """Domain item scores after each stage but the last, with a column `stage` (from 1); empty where there is one."""
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Free answers to fixed prompts (`task`: `general_greedy`, `domain_sampled` ...) and what was measured on each."""
    probe: pd.DataFrame = field(default_factory=pd.DataFrame)
    """General item scores after the recovery probe."""
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Final item scores of those settings; `row` is the entry's `trial`."""
    people: dict[str, Any] | None = None
    """What people's ratings came to, where there are any (harness/commands/annotate/ratings.py)."""


def read_comparison(folder: Path, store: RunStore) -> Comparison:
    """Gather a comparison from its record and the run store. Missing evaluations are simply absent."""
    record = read_record(folder)
    if record is None:
        raise FileNotFoundError(f"{folder} holds no comparison.json: run `lethe compare` first")
    faults: list[str] = []
    rows = [cast(RunEntry, _with_run(entry, store, faults)) for entry in record.get("rows") or []]
    trials = [cast(TrialEntry, _with_run(entry, store, faults)) for entry in record.get("trials") or []]
    raise_faults(faults)
    base = [cast(TrialEntry, {**entry, "trial": entry["row"]}) for entry in rows if entry["role"] == Role.BASE]
    return Comparison(
        record=record,
        runs=rows,
        store=store,
        scores=read_scores(rows, store, EvalKind.FINAL),
        curve=read_scores(rows, store, EvalKind.CURVE),
        path=read_scores(rows, store, EvalKind.PATH),
        trials=trials,
        dev=read_scores([*base, *trials], store, EvalKind.DEV, "trial"),
        stages=read_scores(rows, store, EvalKind.STAGES),
        quality=read_texts(rows, store, EvalKind.QUALITY),
        probe=read_scores(rows, store, EvalKind.PROBE),
        points=read_scores(trials, store, EvalKind.FINAL, "trial"),
        people=read_people(folder),
    )


def read_people(folder: Path) -> dict[str, Any] | None:
    """Return what people's ratings came to, None where there are none. Raises PlanError where the file is damaged."""
    path = folder / "people.json"
    try:
        return read_hashed(path, {"rows": dict, "agreement": dict})
    except ValueError as error:
        raise PlanError(f"{path} {error}; remove it, and read the forms again with `lethe annotate import`") from None


def read_table(folder: Path) -> pd.DataFrame:
    """Return the table of a report. Raises FileNotFoundError, and PlanError where it is not what was written."""
    data = read_reported(folder, TABLE)
    if data is None:
        raise FileNotFoundError(folder / TABLE)
    try:
        return read_csv_text(data)
    except ValueError as error:  # of its characters, or of its lines
        raise PlanError(f"{folder / TABLE} is not a table ({one_line(error)[:200]}); {WRITTEN_ANEW}") from None


def read_verdict(folder: Path) -> dict[str, Any]:
    """Return the verdict of a report; empty where an older version wrote it. Raises PlanError as `read_table` does."""
    data = read_reported(folder, VERDICT)
    try:
        verdict = parse_record(data or b"{}")
    except ValueError:
        raise PlanError(f"{folder / VERDICT} is not JSON, or was cut short; {WRITTEN_ANEW}") from None
    if not isinstance(verdict, dict):
        raise PlanError(f"{folder / VERDICT} holds no fields by name; {WRITTEN_ANEW}")
    return verdict


def read_reported(folder: Path, name: str) -> bytes | None:
    """Return a file of a report, None where it never was. Raises PlanError where it is not what was written."""
    try:
        return Hashes(folder).read(name)
    except Damaged as damage:
        raise PlanError(f"{damage.path} {damage.why}; {WRITTEN_ANEW}") from None


def report_faults(folder: Path) -> list[str]:
    """Return a sentence for each file beside a comparison's record that is read again and is not what was written."""
    faults = [f"{damage.path} {damage.why}; {WRITTEN_ANEW}" for damage in Hashes(folder).damages()]
    return faults + faults_of(read_people, folder)


def _with_run(entry: EntryRecord, store: RunStore, faults: list[str]) -> ReadEntry:
    """Return an entry of a comparison with everything that the store holds of its run; what is damaged goes to `faults`."""
    run = store.run(entry["key"])
    records: dict[str, Any] = {}
    for name in ("status", "run", "ledger", "probe"):
        try:
            records[name] = run.read(name)
        except PlanError as error:
            faults += error.faults
    record = records.pop("status", None) or {}
    status = Status(record["status"]) if record.get("status") else None
    return cast(ReadEntry, {**entry, "status": status, "status_record": record, **records})


def read_scores(entries: Sequence[ReadEntry], store: RunStore, kind: EvalKind, name: str = "row") -> pd.DataFrame:
    """Return the scores of one kind of all entries that ended well, without texts.

    `row` (the entry's `name`) and `seed` stand in front; names are categorical.
    """
    columns = [column for column in (*ITEM_COLUMNS, "stage") if column not in TEXTS]

    # What runs say of the same items is kept once: scores are all that differs between them.
    items: list[pa.Table] = []
    runs = []
    indices = []
    scores = []
    begin = 0
    for entry, table in _tables(entries, store, kind, columns):
        descriptions = table.drop_columns("score")
        if not items or not descriptions.equals(items[-1]):
            begin = sum(map(len, items))
            items.append(descriptions)
        runs.append(entry)
        indices.append(np.arange(begin, begin + len(descriptions)))
        scores.append(table["score"].to_numpy())
    if not runs:
        return pd.DataFrame(columns=["row", "seed", *columns[:-1]])

    distinct = pa.concat_tables(items, promote_options="permissive").to_pandas()
    distinct = distinct.astype(dict.fromkeys(NAMES, "category"))
    rows = distinct.take(np.concatenate(indices)).reset_index(drop=True)
    lengths = [len(part) for part in scores]
    rows.insert(0, "row", pd.Categorical([dict(entry)[name] for entry in runs]).repeat(lengths))
    rows.insert(1, "seed", np.repeat([entry["seed"] for entry in runs], lengths))
    return rows.assign(score=np.concatenate(scores))


def read_texts(entries: Sequence[ReadEntry], store: RunStore, kind: EvalKind) -> pd.DataFrame:
    """Return the same with prompts, outputs and targets. These are as many as there are scores: ask for few runs at a time."""
    tables = []
    for entry, table in _tables(entries, store, kind):
        row = pa.array([entry["row"]] * len(table), pa.string())
        seed = pa.array([entry["seed"]] * len(table), pa.int64())
        tables.append(table.add_column(0, "seed", seed).add_column(0, "row", row))
    if not tables:
        return pd.DataFrame(columns=["row", "seed", *ITEM_COLUMNS])
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()  # all at once: of many runs much sooner


def _tables(
    entries: Sequence[ReadEntry], store: RunStore, kind: EvalKind, columns: Sequence[str] | None = None
) -> Iterator[tuple[ReadEntry, pa.Table]]:
    """Yield each entry that has scores of this kind, with its table.

    Runs that did not end well give no numbers, whatever they had scored before.
    """
    finished = [entry for entry in entries if entry["status"] == Status.DONE]
    evaluated = [entry for entry in finished if (entry.get("evals") or {}).get(kind) is not None]
    with ThreadPoolExecutor() as pool:

        def start_reading(begin: int) -> Iterator[pa.Table | None]:
            part = evaluated[begin : begin + AHEAD]
            return pool.map(lambda entry: store.run(entry["key"]).table(kind, entry["evals"][kind], columns), part)

        # While one part is used, the next one is read.
        following = start_reading(0)
        for begin in range(0, len(evaluated), AHEAD):
            tables = following
            following = start_reading(begin + AHEAD)
            for entry, table in zip(evaluated[begin : begin + AHEAD], tables, strict=True):
                if table is not None:
                    yield entry, table


def among(table: pd.DataFrame, columns: tuple[str, str], pairs: set[tuple]) -> pd.DataFrame:
    """Return the lines whose values of two columns are one of `pairs`."""
    first_codes, first_values = pd.factorize(table[columns[0]])
    second_codes, second_values = pd.factorize(table[columns[1]])

    # Each combination of values is looked up once, however many lines have it.
    wanted = np.zeros((len(first_values), len(second_values)), bool)
    for row, first in enumerate(first_values):
        for column, second in enumerate(second_values):
            wanted[row, column] = (first, second) in pairs
    return table if wanted.all() else table[wanted[first_codes, second_codes]]
