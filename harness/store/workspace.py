"""The working folder of a run: its folder in the store, or a local copy if the store is not a local file system.

A copy is sent back file by file: changed files first, then the checkpoint (a single file in the store, so that it is whole or
absent), then `status.json`, which says that everything else has arrived.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.store.files import is_local, sweep
from harness.store.hashes import HASHES
from harness.store.runs import CHECKPOINT, LEASES, STATUS, RunFolder

PACKED = f"{CHECKPOINT}.zip"
Stamp = tuple[int, int, int]


class Copy:
    """A run's folder on local scratch, and what of it the store already has."""

    def __init__(self, store: Any, local: Path):
        self.store, self.local = store, local
        self.stored: dict[str, Stamp] = {}

    def pull(self) -> None:
        """Bring what the store has of the run."""
        # Leases stay in the store: every machine has to see them, and only there.
        root, fs = self.store.path.rstrip("/"), self.store.fs
        for remote in fs.find(root):
            name = remote[len(root) + 1 :]
            if not name.startswith(f"{LEASES}/"):
                (self.local / name).parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(remote, str(self.local / name))
        packed = self.local / PACKED
        if packed.exists():
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(self.local / CHECKPOINT)
            packed.unlink()
        self.stored = self.stamps()

    def stamps(self) -> dict[str, Stamp]:
        """Name -> what changes when the file does; a checkpoint is one file, and half-written files are none."""
        by_name = {}
        for path in self.local.rglob("*"):
            parts = path.relative_to(self.local).parts
            if path.is_file() and not any(part.startswith(".") for part in parts):
                name = PACKED if parts[0] == CHECKPOINT else "/".join(parts)

                # A checkpoint counts as one file, that of its folder.
                at = (path.parent if name == PACKED else path).stat()  # a new checkpoint is a new folder
                by_name[name] = (at.st_ino, at.st_mtime_ns, 0 if name == PACKED else at.st_size)
        return by_name

    def push(self) -> None:
        """Send what has changed; a status that is gone goes first, one that is new comes last.

        Hashes go before the files that they are of, and come back behind them.
        """
        # A reader of the store must never see a status without all that it speaks of.
        now = self.stamps()
        gone = [name for name in self.stored if name not in now]
        self._remove([name for name in gone if name == STATUS])
        changed = [name for name, stamp in now.items() if self.stored.get(name) != stamp]
        if HASHES in changed and HASHES in self.stored:
            self._remove([HASHES])
        for name in sorted(changed, key=lambda name: (name == STATUS, name == HASHES, name == PACKED, name)):
            self._send(name)
        self._remove([name for name in gone if name != STATUS])
        self.stored = now

    def push_checkpoint(self) -> None:
        """Send changed files if there is a checkpoint newer than that of the store, so that another machine can go on."""
        folder = self.local / CHECKPOINT
        if folder.exists():
            at = folder.stat()
            if self.stored.get(PACKED) != (at.st_ino, at.st_mtime_ns, 0):
                self.push()

    def _send(self, name: str) -> None:
        target = f"{self.store.path.rstrip('/')}/{name}"
        if name != PACKED:
            self.store.fs.put_file(str(self.local / name), target)
            return

        # One object, so that the checkpoint is there whole or not at all.
        with tempfile.TemporaryDirectory(dir=self.local, prefix=".") as folder:
            with zipfile.ZipFile(f"{folder}/{PACKED}", "w") as archive:
                for path in (self.local / CHECKPOINT).rglob("*"):
                    archive.write(path, path.relative_to(self.local / CHECKPOINT))
            self.store.fs.put_file(f"{folder}/{PACKED}", target)

    def _remove(self, gone: list[str]) -> None:
        for name in gone:
            self.store.fs.rm_file(f"{self.store.path.rstrip('/')}/{name}")


class InPlace:
    """The run's own folder: nothing needs sending."""

    def __init__(self, local: Path):
        self.local = local

    def push_checkpoint(self) -> None:
        pass


@contextmanager
def workspace(folder: RunFolder) -> Iterator[Copy | InPlace]:
    """Give a local folder to make the run in; what it holds in the end is in the store when the block ends well."""
    if is_local(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        sweep(folder.path, deep=True)
        yield InPlace(folder.path)
        return
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        copy = Copy(folder.path, Path(scratch) / folder.key)
        copy.local.mkdir()
        copy.pull()
        yield copy
        copy.push()
