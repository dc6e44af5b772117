"""Where results are: one way for every command to open `--out`, a folder or a place such as s3://bucket/results. No torch."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.spelling import did_you_mean
from harness.store.files import beside, is_local, names, place, read_record
from harness.store.lease import leased
from harness.store.question import RESERVED
from harness.store.runs import RunStore

RECORDING = ".recording"
"""Folder, beside the comparisons, of the lease under which records and reports are written."""

REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""The system's numbers where a place may be read and not written."""


def may_only_be_read(error: OSError) -> bool:
    """Return whether writing was refused because the place may only be read: by its disk, or by its permissions."""
    return error.errno in REFUSED


@dataclass(frozen=True)
class Results:
    """Comparisons by name and, beside them in `runs/`, the store of their runs."""

    root: Path

    @property
    def store(self) -> RunStore:
        return RunStore(self.root / "runs")

    def folder(self, name: str) -> Path:
        """Return the folder of a comparison, whether or not it is there."""
        return self.root / name

    def record(self, name: str) -> dict[str, Any]:
        """Return comparison.json of a comparison. Raises PlanError where there is none, with the names there are."""
        # Joined to the results, a path would lead to a comparison beside which no run of it lies.
        parent, slash, last = name.rstrip("/").rpartition("/")
        if slash:
            raise PlanError(f"'{name}' is a path, and here a comparison is named: give {last} --out {parent or '/'}")
        record = read_record(self.folder(name))
        if record is not None:
            return record

        # A close name may be meant; else all that is here is listed.
        comparisons = self.names()
        listed = f"{self.root} holds {', '.join(comparisons)}" if comparisons else "run `lethe compare` first"
        cure = did_you_mean(name, comparisons, f"{listed}, or give --out")
        raise PlanError(f"{self.folder(name)} holds no comparison.json; {cure}")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hold the comparisons against all other commands; one that writes its record or its report is waited for.

        A name is free, or a record holds certain rows, only as long as nobody else writes between the look and the write.
        """
        with leased(self.root / RECORDING):
            yield

    @contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """Give an empty local folder, gone when the block ends: on the disk of the results where they are local."""
        # Weights are large: the disk of the results has room where /tmp may not.
        try:
            if not is_local(self.root):
                folder = Path(tempfile.mkdtemp())
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                folder = beside(self.root / purpose)
                folder.mkdir()
        except OSError as error:
            if not may_only_be_read(error):
                raise
            folder = Path(tempfile.mkdtemp())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def names(self) -> list[str]:
        """Return the comparisons that are here."""
        candidates = [name for name in names(self.root) if not name.startswith(".") and name not in RESERVED]
        return [name for name in candidates if (self.root / name / "comparison.json").exists()]


def open_results(out: str | os.PathLike[str]) -> Results:
    """Return the results at `out`. Raises PlanError where its file system is not known."""
    return Results(place(out))


def results_of(folder: str | os.PathLike[str]) -> tuple[Results, str]:
    """Return the results that a comparison's own folder stands in, and its name there."""
    path = place(folder)
    if is_local(path) and not path.name:
        path = path.resolve()  # the folder is `.`
    return Results(path.parent), path.name
