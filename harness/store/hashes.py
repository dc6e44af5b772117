"""Hashes beside what is kept, compared before it is used: damage is noticed and named. No torch here.

`hashes.json` in a folder has the sha256 of its files, by their names in the folder, and one of all these. A file that is
written anew loses its hash first and gets the new one last, so that a kill between leaves a file without a hash, which is
read as it is: so are the files of stores that are older than this. A single file may have its hash in itself instead.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.store.files import RECORD_HASH, is_local, legible, read_bytes, read_json, write_json
from harness.store.schema import key_of
from harness.text.json_reader import parse_record

HASHES = "hashes.json"
ASIDE = ".damaged"
"""Behind the name of what was set aside."""
BLOCK = 1 << 20
CURE = "run the same `lethe compare` again: what is damaged is set aside and made anew"


class Damaged(PlanError):
    """A stored file that is not what was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}; {CURE}")
        self.path = path
        self.why = why


def move_aside(path: Path) -> None:
    """Rename a damaged file or folder, in the place of what was set aside before."""
    aside = path.with_name(path.name + ASIDE)
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)


def digest(data: bytes) -> str:
    """Return the sha256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str:
    """Return the same, of a file that may be larger than memory. Raises FileNotFoundError."""
    if not is_local(path):
        return digest(read_bytes(path))
    whole = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            whole.update(block)
    return whole.hexdigest()


@dataclass(frozen=True)
class Hashes:
    """The hashes of one folder's files."""

    folder: Path

    def known(self) -> dict[str, str]:
        """Return name -> hash; empty where there are none. Raises Damaged where they cannot be read."""
        path = self.folder / HASHES
        try:
            hashes = parse_record(read_bytes(path))
        except FileNotFoundError:
            return {}
        except (ValueError, IsADirectoryError):
            raise Damaged(path, "is not JSON, or was cut short") from None
        if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
            raise Damaged(path, "does not hold hashes by name")

        # A name that is damaged would leave its file without a hash. Files of older versions have none of their own.
        digest = hashes.pop(HASHES, None)
        if digest not in (None, _digest_of_all(hashes)):
            raise Damaged(path, "is not what was written: its own hash differs")
        return hashes

    def _write(self, hashes: dict[str, str]) -> None:
        write_json(self.folder / HASHES, hashes | {HASHES: _digest_of_all(hashes)})

    def renew(self, hashes: dict[str, str]) -> None:
        """Keep these hashes alone, whatever there were."""
        self._write(hashes)

    def add(self, hashes: dict[str, str]) -> None:
        """Keep the hashes of files that were written."""
        self._write(self.known() | hashes)

    def add_files(self, *names: str) -> None:
        """Keep the hashes of files as they stand."""
        self.add({name: digest_of(self.folder / name) for name in names})

    def drop(self, *names: str) -> None:
        """Forget files that are removed, or about to be written anew."""
        hashes = self.known()
        if not hashes.keys().isdisjoint(names):
            self._write({name: value for name, value in hashes.items() if name not in names})

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if it was never written. Raises Damaged if it is missing or has changed."""
        path = self.folder / name
        expected = self.known().get(name)
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            if expected is None:
                return None
            raise Damaged(path, "is gone") from None
        except (IsADirectoryError, NotADirectoryError):
            raise Damaged(path, "is no file") from None
        if expected not in (None, digest(data)):
            raise Damaged(path, "is not what was written: its hash differs")
        return data

    def read_json(self, name: str) -> Any:
        """Return the fields of a JSON file, None where it never was. Raises Damaged."""
        data = self.read(name)
        if data is None:
            return None
        try:
            fields = parse_record(data)
        except ValueError:
            raise Damaged(self.folder / name, "is not JSON, or was cut short") from None
        if not isinstance(fields, dict):
            raise Damaged(self.folder / name, "holds no fields by name")
        return fields

    def check(self, name: str) -> Path:
        """Return a file's path if it is what was written. Raises Damaged."""
        path = self.folder / name
        expected = self.known().get(name)
        # A file that was never written is no damage; one that was and is gone is.
        if not path.exists():
            if expected is not None:
                raise Damaged(path, "is gone")
        elif path.is_dir():
            raise Damaged(path, "is no file")
        elif expected is not None:
            if digest_of(path) != expected:
                raise Damaged(path, "is not what was written: its hash differs")
        elif why := unreadable(path):
            raise Damaged(path, why)
        return path

    def damages(self, *unhashed: str, leave_out: tuple[str, ...] = (), may_lack: tuple[str, ...] = ()) -> Iterator[Damaged]:
        """Yield the damage of files with hashes, and of the given files without.

        `leave_out`: how the names of those begin that are not looked at; `may_lack`: of those that people remove.
        """
        try:
            hashes = self.known()
        except Damaged as damage:
            yield damage
            return
        for name in dict.fromkeys([*hashes, *unhashed]):
            if name.startswith(leave_out) or (name.startswith(may_lack) and not (self.folder / name).exists()):
                continue
            try:
                self.check(name)
            except Damaged as damage:
                yield damage


def _digest_of_all(hashes: dict[str, str]) -> str:
    """Return the hash of names and hashes, in whatever order they stand."""
    return digest(json.dumps(hashes, sort_keys=True).encode())


def unreadable(path: Path) -> str:
    """Return why a file without a hash cannot be what was written, by its form alone; "" where it may be."""
    try:
        if path.suffix == ".json":
            parse_record(read_bytes(path))
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.ParquetFile(path if is_local(path) else pa.BufferReader(read_bytes(path))).close()
        elif path.suffix == ".safetensors" and is_local(path):
            from safetensors import safe_open

            with safe_open(path, "numpy"):
                pass
    except FileNotFoundError:
        return ""
    except Exception as error:  # pyarrow's, safetensors', json's and the file system's: all say that it cannot be read
        return f"cannot be read ({(str(error).splitlines() or [type(error).__name__])[0][:120]})"
    return ""


def write_hashed(path: Path, fields: Mapping[str, Any]) -> None:
    """Write fields as JSON with their own hash: for files that no `hashes.json` lists."""
    plain = json.loads(legible(fields))  # as they will be read: a tuple is a list then, and every name a text
    write_json(path, plain | {RECORD_HASH: key_of(plain)})


def read_hashed(path: Path, form: Mapping[str, type]) -> dict[str, Any] | None:
    """Return the fields that `write_hashed` wrote, None where there is no such file.

    `form`: the type of each field that must be there; files of earlier versions have no hash. Raises ValueError, which says
    what is wrong, where the file is not what was written.
    """
    try:
        fields = read_json(path)
    except (ValueError, IsADirectoryError):
        raise ValueError("is not JSON, or was cut short") from None
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ValueError("holds no fields by name")

    # The form too: what somebody wrote by hand has no hash.
    written = fields.pop(RECORD_HASH, None)
    if written not in (None, key_of(fields)):
        raise ValueError("is not what was written: its hash differs")
    for name, kind in form.items():
        if not isinstance(fields.get(name), kind):
            raise ValueError(f"lacks its field '{name}', or it has another type")
    return fields
