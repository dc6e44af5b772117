"""RunStore: a folder per run, named by the hash of its question. No torch here: readers of results need none.

results/runs/<key>/
  run.json      asked / happened / where
  log.jsonl     one line an optimizer step
  ledger.json   what was spent, by account
  probe.json    what the recovery probe cost, where one was asked for
  leases/       who made it, or is at it (harness/store/lease.py)
  status.json   written last: done | failed | diverged | out_of_memory | overdrawn
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
from harness.vocabulary import EvalKind, Status

STATUS = "status.json"
"""Says how a run ended: written after everything else, so that where it is all the rest is too."""
CHECKPOINT = "checkpoint"
WEIGHTS = "weights"
MODELS = "models"
LEASES = "leases"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    def read(self, name: str) -> Any:
        """Return the JSON of `run`, `ledger`, `status`, `probe` or `room`, or None where it is not written yet."""
        return read_json(self._record_path(name))

    def write(self, name: str, value: Any) -> None:
        """Write such a record, whole or not at all."""
        write_json(self._record_path(name), value)

    def remove(self, name: str) -> None:
        """Remove such a record where there is one."""
        self._record_path(name).unlink(missing_ok=True)

    def _record_path(self, name: str) -> Path:
        return self.path / f"{name}.json"

    @property
    def checkpoint(self) -> Path:
        """The folder from which a killed training resumes."""
        return self.path / CHECKPOINT

    @property
    def weights_folder(self) -> Path:
        """The folder of everything that is kept of the weights."""
        return self.path / WEIGHTS

    @property
    def weights(self) -> Path:
        """The file of the final weights; not there where they were not kept."""
        return self.weights_folder / "model.safetensors"

    def stage_weights(self, stage: int) -> Path:
        """Return the file of the weights after a stage, counted from 1."""
        return self.weights_folder / f"stage-{stage}.safetensors"

    @property
    def evaluations(self) -> Path:
        """The folder of all scores and journals."""
        return self.path / "evals"

    @property
    def log_path(self) -> Path:
        """The file of the logged steps."""
        return self.path / "log.jsonl"

    @property
    def answer_paths(self) -> list[Path]:
        """What tells how the run ended and scored: these change when its answer does."""
        return [self.path / STATUS, self._record_path("run"), self.evaluations]

    @property
    def status(self) -> Status | None:
        """How the run ended, or None where it has not."""
        record = self.read("status") or {}
        return Status(record["status"]) if record.get("status") else None

    def end(self, status: Status, reason: str | None = None, traceback: str | None = None) -> None:
        """Write how the run ended."""
        self.write("status", {"status": status, "reason": reason, "traceback": traceback})

    def log(self) -> list[dict[str, Any]]:
        """Return the steps logged so far; a line cut short by a kill is left out."""
        try:
            lines = read_bytes(self.log_path).decode().splitlines()
        except FileNotFoundError:
            return []
        steps = []
        for line in lines:
            try:
                steps.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return steps

    def write_scores(self, kind: EvalKind, key: str, scores: pd.DataFrame) -> None:
        """Store an evaluation's rows under its key, and remove its journal."""
        columns = dict(ITEM_COLUMNS)
        if kind == EvalKind.STAGES:
            columns["stage"] = "int64"
        scores = scores.astype(columns)[list(columns)]
        write_atomic(self._scores_path(kind, key), scores.to_parquet(index=False, compression="zstd"))
        self.journal_path(kind, key).unlink(missing_ok=True)

    def journal_path(self, kind: EvalKind, key: str) -> Path:
        """Return where an evaluation that is under way keeps what it has computed."""
        return self._scores_path(kind, key).with_suffix(".journal")

    def drop_scores(self, kind: EvalKind, key: str) -> None:
        self._scores_path(kind, key).unlink(missing_ok=True)

    def has_scores(self, kind: EvalKind, key: str) -> bool:
        """Whether that evaluation has been made; nothing is read."""
        return self._scores_path(kind, key).exists()

    def has_models(self, fractions: Sequence[float]) -> bool:
        """Return whether models were to be saved at these fractions when it ran."""
        happened = (self.read("run") or {}).get("happened", {})
        return set(fractions) <= set(happened.get("models", []))

    def model(self, fraction: float) -> Path:
        """Return the folder of the model saved at a fraction; not there where the run ended before."""
        return self.path / MODELS / f"{fraction:g}"

    def _scores_path(self, kind: EvalKind, key: str) -> Path:
        return self.evaluations / f"{kind}-{key}.parquet"

    def scores(self, kind: EvalKind, key: str) -> pd.DataFrame | None:
        """Return those rows, or None where that evaluation has not been made."""
        table = self.table(kind, key)
        return None if table is None else table.to_pandas()

    def table(self, kind: EvalKind, key: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Return the same in Arrow's form, with those of `columns` that it has."""
        path = self._scores_path(kind, key)
        try:
            source = path if is_local(path) else pa.BufferReader(read_bytes(path))
            file = pq.ParquetFile(source)
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
