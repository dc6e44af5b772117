"""RunStore: a folder per run, named by the hash of its question. No torch here: readers of results need none.

results/runs/<key>/
  run.json      asked / happened / where
  log.jsonl     one line an optimizer step
  ledger.json   what was spent, by account
  probe.json    what the recovery probe cost, where one was asked for
  leases/       who made it, or is at it (harness/store/lease.py)
  hashes.json   sha256 of all that is kept, compared before it is used (harness/store/hashes.py)
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
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import PlanError
from harness.store.files import check_version, legible, names, write_atomic
from harness.store.hashes import HASHES, Damaged, Hashes, digest, move_aside
from harness.store.schema import ITEM_COLUMNS, LEDGER_FORM, RUN_FORM, LogLine, holds_scores, status_fault
from harness.text.json_reader import Form, misfit
from harness.vocabulary import EvalKind, Status

STATUS = "status.json"
"""Says how a run ended: written after everything else, so that where it is all the rest is too."""
CHECKPOINT = "checkpoint"
WEIGHTS = "weights"
MODELS = "models"
LEASES = "leases"
STAGE = "stage-{}.safetensors"
"""File of the weights at the end of a stage."""
LOG = "log.jsonl"
FORMS: Mapping[str, Form] = {"run": RUN_FORM, "ledger": LEDGER_FORM, "status": {"reason": str, "traceback": str}}
"""Record of a run -> its form."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    def read(self, name: str) -> Any:
        """Return the JSON of a record (`run`, `ledger`, `status`, ...).

        None if it is not written yet. Raises Damaged if its content has changed, and PlanError if a newer version wrote it.
        """
        record = self.hashes.read_json(f"{name}.json")
        if record is None:
            return None
        if name == "run":
            check_version(record, self._record_path(name))
        fault = misfit(record, FORMS.get(name, {}))
        if name == "status":
            fault = fault or status_fault(record)
        if fault:
            raise Damaged(self._record_path(name), fault)
        return record

    def write(self, name: str, value: Any) -> None:
        """Write such a record, whole or not at all."""
        self._write(self._record_path(name), legible(value).encode())

    def remove(self, name: str) -> None:
        """Remove such a record where there is one."""
        self._remove(self._record_path(name))

    @property
    def hashes(self) -> Hashes:
        """The hashes of what is kept of the run."""
        return Hashes(self.path)

    def _write(self, path: Path, data: bytes) -> None:
        # A kill in between leaves a file without a hash, never a hash of another file.
        name = self._name(path)
        self.hashes.drop(name)
        write_atomic(path, data)
        self.hashes.add({name: digest(data)})

    def _remove(self, path: Path) -> None:
        self.hashes.drop(self._name(path))
        path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        """Return a file's name in the run's folder."""
        return str(path.relative_to(self.path))

    def seal(self) -> None:
        """Keep the hashes of what the training wrote beside its records: the log, weights and models. Local folders only."""
        files = [self.log_path]
        for folder in (self.weights_folder, self.path / MODELS):
            files += sorted(folder.rglob("*"))
        self.hashes.add_files(*(self._name(path) for path in files if path.is_file()))

    def unseal(self) -> None:
        """Forget those hashes: the training is made anew."""
        # A hash of the old training would call the new one's files damaged.
        hashes = self.hashes.known()
        self.hashes.drop(*(name for name in hashes if name.startswith((LOG, f"{WEIGHTS}/", f"{MODELS}/"))))

    def forget_way(self, curve: str) -> None:
        """Remove an earlier training's scores under this key and weights between stages; local folders only."""
        self.drop_scores(EvalKind.CURVE, curve)
        for path in self.weights_folder.glob(STAGE.format("*")):
            path.unlink()

    def forget_end(self, curve: str, fractions: Sequence[float]) -> None:
        """Remove what an earlier training came to, where the present one ended in other weights; local folders only.

        Only the present training's scores on its way (under the key `curve`) and its models at these fractions stay.
        """
        kept_scores = self._scores_path(EvalKind.CURVE, curve)
        for name in names(self.evaluations):
            path = self.evaluations / name
            if path.suffix == ".parquet" and path != kept_scores:
                self._remove(path)
        self.remove("probe")
        kept_models = [self.model(fraction) for fraction in fractions]
        for name in names(self.path / MODELS):
            if self.path / MODELS / name not in kept_models:
                shutil.rmtree(self.path / MODELS / name)

    def damages(self, weights: bool = True) -> list[Damaged]:
        """Return what is damaged, weights and models aside where they are not asked for."""
        evaluations = [f"evals/{name}" for name in names(self.evaluations) if name.endswith(".parquet")]
        records = [f"{name}.json" for name in ("run", "ledger", "status", "probe")]
        stored = [self._name(path) for path in (self.weights,) if path.exists()]
        large = (f"{WEIGHTS}/", f"{MODELS}/")
        leave_out = () if weights else large
        return list(self.hashes.damages(*records, *evaluations, *stored, leave_out=leave_out, may_lack=large))

    def set_aside(self) -> list[Damaged]:
        """Rename damaged files and a damaged checkpoint, so that they are made anew, and return them.

        Local folders only. If the training's own record is damaged, the whole run is made anew.
        """
        damaged = self.damages()
        for damage in damaged:
            name = self._name(damage.path)
            if damage.path.exists():
                move_aside(damage.path)
            if name != HASHES:
                self.hashes.drop(name)
            # Scores and probe are made again from the weights; without its own record the training is.
            if not name.startswith(("evals/", f"{WEIGHTS}/", "probe")):
                self.remove("status")
        lost = list(Hashes(self.checkpoint).damages(*names(self.checkpoint)))
        if lost:
            move_aside(self.checkpoint)
        return [*damaged, *lost]

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
        return self.weights_folder / STAGE.format(stage)

    @property
    def evaluations(self) -> Path:
        """The folder of all scores and journals."""
        return self.path / "evals"

    @property
    def log_path(self) -> Path:
        """The file of the logged steps."""
        return self.path / LOG

    @property
    def answer_paths(self) -> list[Path]:
        """What tells how the run ended and scored: these change when its answer does."""
        return [self.path / STATUS, self._record_path("run"), self.evaluations]

    @property
    def status(self) -> Status | None:
        """How the run ended; None if it has not, or if its status record is damaged."""
        try:
            record = self.read("status") or {}
            return Status(record["status"]) if record.get("status") else None
        except (PlanError, AttributeError):
            return None

    def end(self, status: Status, reason: str | None = None, traceback: str | None = None) -> None:
        """Write how the run ended."""
        self.write("status", {"status": status, "reason": reason, "traceback": traceback})

    def log(self) -> list[LogLine]:
        """Return the steps logged so far; a line cut short by a kill is left out."""
        lines = (self.hashes.read(LOG) or b"").decode(errors="replace").splitlines()
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
        self._write(self._scores_path(kind, key), scores.to_parquet(index=False, compression="zstd"))
        self.journal_path(kind, key).unlink(missing_ok=True)

    def journal_path(self, kind: EvalKind, key: str) -> Path:
        """Return the path of the journal of an unfinished evaluation."""
        return self._scores_path(kind, key).with_suffix(".journal")

    def drop_scores(self, kind: EvalKind, key: str) -> None:
        self._remove(self._scores_path(kind, key))

    def has_scores(self, kind: EvalKind, key: str) -> bool:
        """Return whether that evaluation has been made and is whole."""
        path = self._scores_path(kind, key)
        try:
            return self.hashes.check(self._name(path)).exists()
        except Damaged:
            return False

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
        data = self.hashes.read(self._name(path))
        if data is None:
            return None
        try:
            with pq.ParquetFile(pa.BufferReader(data)) as file:
                types = map(str, file.schema_arrow.types)
                if not holds_scores(dict(zip(file.schema_arrow.names, types, strict=True))):
                    raise Damaged(path, "is not a table of scores")
                return file.read(columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(path, f"is not a whole table ({str(error).splitlines()[0][:120]})") from None


@dataclass(frozen=True)
class RunStore:
    """All runs under one root, usually `results/runs`."""

    root: Path

    def run(self, key: str) -> RunFolder:
        return RunFolder(self.root / key)

    def keys(self) -> list[str]:
        return [name for name in names(self.root) if re.fullmatch("[0-9a-f]{16}", name)]
