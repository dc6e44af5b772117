"""Comparisons and their item tables, as read from a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from harness.store.files import read_json, read_record
from harness.store.runs import RunStore
from harness.store.schema import ITEM_COLUMNS, NAMES, TEXTS

AHEAD = 64
"""Files of scores that are read ahead."""


@dataclass(frozen=True)
class Comparison:
    """One comparison as stored: everything a report needs, torch not needed."""

    record: dict[str, Any]
    """comparison.json: name, protocol, plan, model, data, notes, rows (see docs/storage.md)."""
    runs: list[dict[str, Any]]
    """One entry a row x seed: {row, role, track, seed, key, status, run, ledger, status_record}."""
    store: RunStore
    """Where logs and texts are: most of a store, read as they are asked for (`RunFolder.log`, `read_texts`)."""
    scores: pd.DataFrame
    """Final item scores of all runs, with `row` and `seed` columns in front; without texts, as all but `quality`."""
    curve: pd.DataFrame
    """Fixed sub-sample at fractions of the budget, likewise."""
    path: pd.DataFrame
    """Fixed dev sub-sample along the line from the base (alpha 0) to the tuned model (alpha 1), likewise."""
    trials: list[dict[str, Any]]
    """One entry a trial of the tuning: {row, trial, recipe, key, selected, ...} with status, run and ledger.

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
    rows, trials = ([_told(entry, store) for entry in record.get(name) or []] for name in ("rows", "trials"))
    final, curve, path, stages, probe = (
        read_scores(rows, store, kind) for kind in ("final", "curve", "path", "stages", "probe")
    )
    base = [entry | {"trial": entry["row"]} for entry in rows if entry["role"] == "base"]
    dev, quality = read_scores([*base, *trials], store, "dev", "trial"), read_texts(rows, store, "quality")
    points = read_scores([entry for entry in trials if entry["status"] == "done"], store, "final", "trial")
    people = read_json(folder / "people.json")
    return Comparison(record, rows, store, final, curve, path, trials, dev, stages, quality, probe, points, people)


def _told(entry: dict[str, Any], store: RunStore) -> dict[str, Any]:
    """An entry of a comparison with what the store knows of its run."""
    run = store.run(entry["key"])
    status = run.read("status") or {}
    known = {"status": status.get("status"), "status_record": status}
    return entry | known | {name: run.read(name) for name in ("run", "ledger", "probe")}


def read_scores(entries: Sequence[dict[str, Any]], store: RunStore, kind: str, name: str = "row") -> pd.DataFrame:
    """The scores of one kind of all entries, with `row` (the entry's `name`) and `seed` in front, without texts.

    Names are categorical, and what runs know of the same items is kept once: scores are all that differs between them.
    """
    columns = [column for column in (*ITEM_COLUMNS, "stage") if column not in TEXTS]
    items: list[pa.Table] = []
    runs, places, scores, begin = [], [], [], 0
    for entry, table in _tables(entries, store, kind, columns):
        told = table.drop_columns("score")
        if not items or not told.equals(items[-1]):
            begin = sum(map(len, items))
            items.append(told)
        runs.append(entry)
        places.append(np.arange(begin, begin + len(told)))
        scores.append(table["score"].to_numpy())
    if not runs:
        return pd.DataFrame(columns=["row", "seed", *columns[:-1]])
    told = pa.concat_tables(items, promote_options="permissive").to_pandas()
    told = told.astype(dict.fromkeys(NAMES, "category"))
    found, lengths = told.take(np.concatenate(places)).reset_index(drop=True), [len(part) for part in scores]
    found.insert(0, "row", pd.Categorical([entry[name] for entry in runs]).repeat(lengths))
    found.insert(1, "seed", np.repeat([entry["seed"] for entry in runs], lengths))
    return found.assign(score=np.concatenate(scores))


def read_texts(entries: Sequence[dict[str, Any]], store: RunStore, kind: str) -> pd.DataFrame:
    """The same with prompts, outputs and targets, which may be as many as there are scores: ask for few runs at a time."""
    tables = []
    for entry, table in _tables(entries, store, kind):
        row, seed = pa.array([entry["row"]] * len(table), pa.string()), pa.array([entry["seed"]] * len(table), pa.int64())
        tables.append(table.add_column(0, "seed", seed).add_column(0, "row", row))
    if not tables:
        return pd.DataFrame(columns=["row", "seed", *ITEM_COLUMNS])
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()  # all at once: of many runs much sooner


def _tables(
    entries: Sequence[dict[str, Any]], store: RunStore, kind: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Each entry that has scores of this kind, with them."""
    asked = [entry for entry in entries if entry.get("evals", {}).get(kind) is not None]
    with ThreadPoolExecutor() as pool:

        def begun(begin: int) -> Iterator[pa.Table | None]:
            part = asked[begin : begin + AHEAD]
            return pool.map(lambda entry: store.run(entry["key"]).table(kind, entry["evals"][kind], columns), part)

        following = begun(0)
        for begin in range(0, len(asked), AHEAD):
            found, following = following, begun(begin + AHEAD)
            both = zip(asked[begin : begin + AHEAD], found, strict=True)
            yield from ((entry, table) for entry, table in both if table is not None)


def among(table: pd.DataFrame, columns: tuple[str, str], pairs: set[tuple]) -> pd.DataFrame:
    """The lines whose values of two columns are one of `pairs`."""
    (one, ones), (other, others) = (pd.factorize(table[name]) for name in columns)
    wanted = np.array([[(a, b) in pairs for b in others] for a in ones], bool)
    return table if wanted.all() else table[wanted[one, other]]
