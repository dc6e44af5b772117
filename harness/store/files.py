"""Files of a store, wherever it is: a folder, or a place in any file system that fsspec knows (`s3://`, `gs://`, `memory://`).

Whole files or nothing: a local file takes its name by rename, an object appears when all of it has arrived.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psutil

from harness.errors import PlanError
from harness.store.opening import check_ordinary
from harness.store.provenance import host
from harness.store.schema import SCHEMA_VERSION, key_of, record_fault
from harness.text.json_reader import parse_record

RECORD_HASH = "hash"
"""The field of a comparison's record that has the hash of all others."""
LONGEST = 200
"""Characters of a path that are shown."""


def place(text: str | os.PathLike[str]) -> Path:
    """Return a local path, or where the text names a protocol a path of that file system, which is used the same way.

    Raises PlanError where that file system is not known or its package is not installed.
    """
    if "://" not in str(text):
        return Path(text)
    from upath import UPath

    try:
        path = UPath(str(text), use_listings_cache=False)  # others write there too: no listing is remembered
        path.fs  # noqa: B018 (opens it)
    except (ImportError, ValueError) as error:
        raise PlanError(f"'{text}' cannot be opened: {error}; s3:// needs pip install 'lethe[s3]'") from error
    return cast(Path, path)


def is_local(path: Path) -> bool:
    return isinstance(path, Path)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it."""
    content = as_bytes(data)
    if not is_local(path):
        cast(Any, path).fs.pipe_file(cast(Any, path).path, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    check_ordinary(path, str(path))

    # In the same folder, so that taking the name is one step of one file system.
    temporary = beside(path)
    try:
        with _named(path), temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()

            # Without this, a power cut could leave the new name with nothing behind it.
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def as_bytes(data: str | bytes) -> bytes:
    """Return what a file of this content holds."""
    return data.encode() if isinstance(data, str) else data


def try_writing(folder: Path) -> None:
    """Write a file into a local folder and remove it. Raises OSError naming the folder where nothing can be written there."""
    if not is_local(folder):
        return
    trial = beside(folder / "trial")
    try:
        write_atomic(trial, b"")
        trial.unlink()
    except OSError as error:
        error.filename = str(folder)
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in what the system refuses inside: a write that a full disk refuses names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def beside(path: Path) -> Path:
    """Return a hidden name beside a path that nobody has. What is made there has the rights that the umask gives.

    It names the writing process, so that `sweep` recognises files of killed processes.
    """
    return path.with_name(f".{path.name}.{_host_mark()}-{os.getpid()}-{secrets.token_hex(3)}")


UNDER_WAY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{6}")
"""A name that `beside` gave: host and process."""


def _host_mark() -> str:
    return hashlib.sha256(host().encode()).hexdigest()[:8]


def remove(path: Path) -> None:
    """Remove a local file or folder, as far as this user may."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sweep(folder: Path, deep: bool = False) -> None:
    """Remove what killed processes of this host were writing in a local folder; `deep`: and in those below it."""
    if not is_local(folder):
        return  # objects appear whole
    for name in names(folder):
        path = folder / name
        match = UNDER_WAY.fullmatch(name)
        if match and match[1] == _host_mark() and not psutil.pid_exists(int(match[2])):
            remove(path)
        elif deep and path.is_dir() and not path.is_symlink():
            sweep(path, deep)


def create(path: Path, data: str) -> bool:
    """Write a file that nobody else has written; of several at once one succeeds. Whether this one did."""
    try:
        if is_local(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _named(path), path.open("x") as stream:
                stream.write(data)
        else:
            cast(Any, path).fs.pipe_file(cast(Any, path).path, data.encode(), mode="create")
    except FileExistsError:
        return False
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused (missing is null)."""
    write_atomic(path, legible(value))


def legible(value: Any) -> str:
    """Return a value as the JSON that is stored."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def check_version(record: Any, path: Path) -> None:
    """Raise PlanError where a record is of a form that this version does not know."""
    version = record.get("schema_version", SCHEMA_VERSION) if isinstance(record, dict) else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise PlanError(
            f"{path} has schema_version {version!r}, and this Lethe reads {SCHEMA_VERSION}: install the one that wrote it"
        )


def read_bytes(path: Path) -> bytes:
    """Return the whole file as it was at one moment. Raises FileNotFoundError, and PlanError where it is a pipe or a device."""
    if is_local(path):
        check_ordinary(path, str(path))
        return path.read_bytes()
    return cast(Any, path).fs.cat_file(cast(Any, path).path)


def read_json(path: Path) -> Any:
    """Return the file's JSON, or None where there is no such file."""
    try:
        return parse_record(read_bytes(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        fault = json.JSONDecodeError("not JSON, or cut short", "", 0)
        fault.add_note(f"in {path}")
        raise fault from error


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the comparison in a folder, or None where there is none.

    Raises PlanError where what is there is none.
    """
    path = folder / "comparison.json"
    cure = "remove the folder, or give another name"
    try:
        # What is there is refused in words: nothing of it is ever overwritten.
        record = read_json(path)
    except ValueError:
        raise PlanError(f"{path} is not JSON, or was cut short; {cure}") from None
    except OSError as error:
        if not is_local(path):
            raise  # the object store's own words tell more
        raise PlanError(f"{str(path)[:LONGEST]} cannot be read ({error.strerror}); {cure}") from None
    if record is None and not path.exists():
        return None
    if not isinstance(record, dict) or not isinstance(record.get("rows"), list):
        raise PlanError(f"{path} is not what `lethe compare` writes: it has no rows; {cure}")
    check_version(record, path)
    written = record.pop(RECORD_HASH, None)
    if written not in (None, key_of(record)):
        raise PlanError(f"{path} is not what was written: its hash differs; {cure}")
    if fault := record_fault(record):
        raise PlanError(f"{path} is not what `lethe compare` writes: {fault}; {cure}")
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a comparison's record with its own hash."""
    write_json(folder / "comparison.json", record | {RECORD_HASH: key_of(record)})


def names(folder: Path) -> list[str]:
    """Return what is in a folder, sorted; nothing where it is not there."""
    try:
        if is_local(folder):
            return sorted(entry.name for entry in folder.iterdir())
        paths = cast(Any, folder).fs.ls(cast(Any, folder).path, detail=False)
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)
    except FileNotFoundError:
        return []


def share(path: Path) -> None:
    """Give a local file, or all files of a folder, the rights that the umask gives: safetensors writes for its owner alone."""
    trial = beside(path)
    trial.touch()
    rights = trial.stat().st_mode & 0o777
    trial.unlink()
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            file.chmod(rights)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a new local folder that takes `folder`'s place when the block ends well; a crash leaves the old one."""
    folder.parent.mkdir(parents=True, exist_ok=True)

    # Hidden and beside the folder, so that it is on the same disk and nobody takes it for a result.
    fresh = beside(folder)
    fresh.mkdir()
    try:
        yield fresh
        share(fresh)

        # A folder cannot replace one that is not empty: the old one moves aside first.
        old = None
        if folder.exists():
            old = beside(folder)
            folder.replace(old)
        fresh.replace(folder)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
