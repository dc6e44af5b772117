"""RunStore: a folder per run, named by the hash of its question. No torch here: readers of results need none.

results/runs/<key>/
  run.json      asked / happened / where
  log.jsonl     one line an optimizer step
  ledger.json   what was spent, by account
  probe.json    what the recovery probe cost, where one was asked for
  leases/       who made it, or is at it (harness/store/lease.py)
  status.json   written last: done | failed | diverged | out_of_memory | overdrawn | stopped
  room.json     while running, where memory ran out in one of several processes: {room, notes} to begin again with
  checkpoint/   while running; checkpoint.zip where the store is no local file system (harness/store/workspace.py)
  weights/      safetensors
  evals/<kind>-<key>.parquet    kind: final | quality | curve | path (interpolation) | dev (tuning) |
                                stages | probe; one row per item and metric
  evals/<kind>-<key>.journal    while it is evaluated: answers so far

results/<name>/comparison.json  which runs make one comparison
results/<name>/people.json      what people's ratings came to; people/<form>.json tells which row said what on a form
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.store.files import is_local, names, read_bytes, read_json, write_atomic, write_json
from harness.store.schema import ITEM_COLUMNS

WITHOUT_MODEL = ("constant", "guess")
"""Roles of rows that no model is behind: they answer the domain's test items only, and cost nothing."""
ENDED = ("done", "failed", "diverged", "out_of_memory", "overdrawn", "stopped")


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
