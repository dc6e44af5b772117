"""RunStore: a folder per run, named by the hash of its question. No torch here: readers of results need none.

results/runs/<key>/
  run.json      asked / happened / where
  log.jsonl     one line an optimizer step
  ledger.json   what was spent, by account
  probe.json    what the recovery probe cost, where one was asked for
  leases/       who made it, or is at it (harness/lease.py)
  status.json   written last: done | failed | diverged | out_of_memory | overdrawn | stopped
  room.json     while running, where memory ran out in one of several processes: {room, notes} to begin again with
  checkpoint/   while running; checkpoint.zip where the store is no local file system (harness/workspace.py)
  weights/      safetensors
  evals/<kind>-<key>.parquet    kind: final | quality | curve | path (interpolation) | dev (tuning) |
                                stages | probe; one row per item and metric
  evals/<kind>-<key>.journal    while it is evaluated: answers so far

results/<name>/comparison.json  which runs make one comparison
results/<name>/people.json      what people's ratings came to; people/<form>.json tells which row said what on a form
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.files import is_local, names, place, read_bytes, read_json, replacing, write_atomic, write_json

__all__ = ["Comparison", "RunFolder", "RunStore", "among", "key_of", "read_comparison", "read_scores", "read_texts"]
__all__ += ["place", "read_json", "replacing", "write_atomic", "write_json"]  # where a store's files are dealt with

SCHEMA_VERSION = 1
WITHOUT_MODEL = ("constant", "guess")
"""Roles of rows that no model is behind: they answer the domain's test items only, and cost nothing."""
ENDED = ("done", "failed", "diverged", "out_of_memory", "overdrawn", "stopped")

ITEM_COLUMNS = {
    "fraction": "float64",  # share of the budget spent when scored; 1 for `final`
    "alpha": "float64",  # interpolation weight towards the tuned model; 1 for `final`
    "task": "string",  # e.g. phantom_facts_choice
    "family": "string",  # e.g. facts: tasks of one family are averaged first
    "group": "string",  # domain | general
    "seen": "boolean",  # general families: may methods draw on this family? null for domain
    "channel": "string",  # likelihood | choice | generation | degeneration | calibration | drift
    "metric": "string",  # e.g. exact_match, rep3_word, nll, kl_to_base
    "primary": "boolean",  # the metric that enters the headline numbers of its task
    "higher_better": "boolean",
    "item": "string",  # stable id: the same item has the same id in every run
    "cluster": "string",  # items that share a template, passage or entity resample together
    "score": "float64",  # NaN: undefined for this item (never a sentinel)
    "chance": "float64",  # chance level of a primary metric, 0 where there is none
    "prompt": "string",  # texts stand on the primary row only
    "output": "string",
    "target": "string",
}
"""The one layout of stored scores: one row per item and metric."""
TEXTS = ("prompt", "output", "target")
NAMES = tuple(name for name, kind in ITEM_COLUMNS.items() if kind == "string" and name not in TEXTS)
AHEAD = 64
"""Files of scores that are read ahead."""


def key_of(question: Any) -> str:
    """16 hex digits naming a JSON-serialisable question; equal questions have equal keys."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    def read(self, name: str) -> Any:
        """`run`, `ledger`, `status`, `probe` or `room`: its JSON, or None where it is not written yet."""
        return read_json(self.path / f"{name}.json")

    def write(self, name: str, value: Any) -> None:
        write_json(self.path / f"{name}.json", value)

    @property
    def status(self) -> str | None:
        """How the run ended, or None where it has not."""
        return (self.read("status") or {}).get("status")

    def log(self) -> list[dict[str, Any]]:
        """The steps logged so far; a line cut short by a kill is left out."""
        try:
            lines = read_bytes(self.path / "log.jsonl").decode().splitlines()
        except FileNotFoundError:
            return []
        steps = []
        for line in lines:
            try:
                steps.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return steps

    def write_scores(self, kind: str, key: str, scores: pd.DataFrame) -> None:
        """Store an evaluation's rows (`final`, `quality`, `curve`, `path`, `dev`, `stages` or `probe`) under its key; its
        journal goes."""
        columns = ITEM_COLUMNS | ({"stage": "int64"} if kind == "stages" else {})
        scores = scores.astype(dict(columns))[list(columns)]
        write_atomic(self._scores_path(kind, key), scores.to_parquet(index=False, compression="zstd"))
        self.journal_path(kind, key).unlink(missing_ok=True)

    def journal_path(self, kind: str, key: str) -> Path:
        """Where an evaluation that is under way keeps what it has computed."""
        return self._scores_path(kind, key).with_suffix(".journal")

    def drop_scores(self, kind: str, key: str) -> None:
        self._scores_path(kind, key).unlink(missing_ok=True)

    def has_scores(self, kind: str, key: str) -> bool:
        """Whether that evaluation has been made; nothing is read."""
        return self._scores_path(kind, key).exists()

    def has_models(self, fractions: Sequence[float]) -> bool:
        """Whether models were to be saved at these fractions when it ran."""
        happened = (self.read("run") or {}).get("happened", {})
        return set(fractions) <= set(happened.get("models", []))

    def model(self, fraction: float) -> Path:
        """The folder of the model saved there; not there where the run ended before."""
        return self.path / "models" / f"{fraction:g}"

    def _scores_path(self, kind: str, key: str) -> Path:
        return self.path / "evals" / f"{kind}-{key}.parquet"

    def scores(self, kind: str, key: str) -> pd.DataFrame | None:
        """Those rows, or None where that evaluation has not been made."""
        table = self.table(kind, key)
        return None if table is None else table.to_pandas()

    def table(self, kind: str, key: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The same in Arrow's form; those of `columns` that it has."""
        path = self._scores_path(kind, key)
        try:
            file = pq.ParquetFile(path if is_local(path) else pa.BufferReader(read_bytes(path)))
        except FileNotFoundError:
            return None
        with file:
            return file.read(columns, use_threads=False)


@dataclass(frozen=True)
class RunStore:
    """All runs under one root, usually `results/runs`."""

    root: Path

    def run(self, key: str) -> RunFolder:
        return RunFolder(self.root / key)

    def keys(self) -> list[str]:
        return [name for name in names(self.root) if re.fullmatch("[0-9a-f]{16}", name)]


@dataclass(frozen=True)
class Comparison:
    """One comparison as stored: everything a report needs, torch not needed."""

    record: dict[str, Any]
    """comparison.json: name, protocol, plan, model, data, notes, rows (see docs/design.md)."""
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
    """One entry a trial of the tuning: {row, trial, recipe, key, selected, ...} with status, run and ledger."""
    dev: pd.DataFrame
    """Dev item scores of the base and the trials; `row` names the trial."""
    stages: pd.DataFrame
    """Domain item scores after each stage but the last, with a column `stage` (from 1); empty where there is one."""
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Free answers to fixed prompts (`task`: `general_greedy`, `domain_sampled` ...) and what was measured on each."""
    probe: pd.DataFrame = field(default_factory=pd.DataFrame)
    """General item scores after the recovery probe."""
    people: dict[str, Any] | None = None
    """What people's ratings came to, where there are any (harness/annotate/ratings.py)."""


def read_comparison(folder: Path, store: RunStore) -> Comparison:
    """Gather a comparison from its record and the run store. Missing evaluations are simply absent."""
    record = read_json(folder / "comparison.json")
    if record is None:
        raise FileNotFoundError(f"{folder} holds no comparison.json: run `lethe compare` first")
    rows, trials = ([_told(entry, store) for entry in record.get(name) or []] for name in ("rows", "trials"))
    final, curve, path, stages, probe = (
        read_scores(rows, store, kind) for kind in ("final", "curve", "path", "stages", "probe")
    )
    base = [entry | {"trial": entry["row"]} for entry in rows if entry["role"] == "base"]
    dev, quality = read_scores([*base, *trials], store, "dev", "trial"), read_texts(rows, store, "quality")
    people = read_json(folder / "people.json")
    return Comparison(record, rows, store, final, curve, path, trials, dev, stages, quality, probe, people)


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
