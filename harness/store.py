"""RunStore: a folder per run, named by the hash of its question. No torch here: readers of results need none.

results/runs/<key>/
  run.json      asked / happened / where
  log.jsonl     one line an optimizer step
  ledger.json   what was spent, by account
  probe.json    what the recovery probe cost, where one was asked for
  leases/       who made it, or is at it (harness/lease.py)
  status.json   written last: done | failed | diverged | out_of_memory | overdrawn | stopped
  checkpoint/   while running; checkpoint.tar where the store is no local file system (harness/workspace.py)
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.files import is_local, names, place, read_bytes, read_json, replacing, write_atomic, write_json

__all__ = ["Comparison", "RunFolder", "RunStore", "key_of", "read_comparison"]
__all__ += ["place", "read_json", "replacing", "write_atomic", "write_json"]  # where a store's files are dealt with

SCHEMA_VERSION = 1
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
        """`run`, `ledger` or `status`: its JSON, or None where it is not written yet."""
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

    def table(self, kind: str, key: str) -> pa.Table | None:
        """The same in Arrow's form."""
        path = self._scores_path(kind, key)
        try:
            file = pq.ParquetFile(path if is_local(path) else pa.BufferReader(read_bytes(path)))
        except FileNotFoundError:
            return None
        with file:
            return file.read(use_threads=False)


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
    scores: pd.DataFrame
    """Final item scores of all runs, with `row` and `seed` columns in front."""
    curve: pd.DataFrame
    """Fixed sub-sample at fractions of the budget, likewise."""
    path: pd.DataFrame
    """Fixed dev sub-sample along the line from the base (alpha 0) to the tuned model (alpha 1), likewise."""
    logs: dict[tuple[str, int], list[dict[str, Any]]]
    """(row, seed) -> logged steps."""
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
    logs = {(entry["row"], entry["seed"]): store.run(entry["key"]).log() for entry in rows}
    tables = {kind: _scores(rows, store, kind, "row") for kind in ("final", "curve", "path", "stages", "quality", "probe")}
    base = [entry | {"trial": entry["row"]} for entry in rows if entry["role"] == "base"]
    dev = _scores([*base, *trials], store, "dev", "trial")
    main = tables["final"], tables["curve"], tables["path"]
    people = read_json(folder / "people.json")
    return Comparison(record, rows, *main, logs, trials, dev, tables["stages"], tables["quality"], tables["probe"], people)


def _told(entry: dict[str, Any], store: RunStore) -> dict[str, Any]:
    """An entry of a comparison with what the store knows of its run."""
    run = store.run(entry["key"])
    status = run.read("status") or {}
    known = {"status": status.get("status"), "status_record": status}
    return entry | known | {name: run.read(name) for name in ("run", "ledger", "probe")}


def _scores(entries: list[dict[str, Any]], store: RunStore, kind: str, name: str) -> pd.DataFrame:
    """The scores of one kind of all entries, with `row` (the entry's `name`) and `seed` in front."""
    tables = []
    for entry in entries:
        key = entry.get("evals", {}).get(kind)
        if key is not None and (table := store.run(entry["key"]).table(kind, key)) is not None:
            row, seed = pa.array([entry[name]] * len(table), pa.string()), pa.array([entry["seed"]] * len(table), pa.int64())
            tables.append(table.add_column(0, "seed", seed).add_column(0, "row", row))
    if not tables:
        return pd.DataFrame(columns=["row", "seed", *ITEM_COLUMNS])
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()  # all at once: of many runs much sooner
