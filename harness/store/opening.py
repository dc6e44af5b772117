"""The one door to files that a user names: opened as text, whatever they are packed or encoded in, else refused in words.

What every reader of such a file goes through is `check_file`, so that none waits for a pipe. No torch here.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from harness.errors import PlanError
from harness.spelling import did_you_mean
from harness.text.json_reader import parse_given

SHOWN = 100
"""Characters of a file's name that a message shows."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings after the real one: finance.jsonl.gz."""
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst"}
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks and the encodings they tell."""
FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the data; run `git lfs pull`"),
    (b"PK\x03\x04", "is a zip archive; unpack it and name the file in it"),
    (b"%PDF", "is a PDF; give its records as .jsonl or .csv"),
    (b"\xd0\xcf\x11\xe0", "is an Office file; save it as .csv"),
    (b"PAR1", "is a parquet file; give it the ending .parquet"),
    (b"ARROW1", "is an Arrow file; write it as .parquet"),
    (b"<!doctype html", "is a web page; download the file itself"),
    (b"<html", "is a web page; download the file itself"),
)
"""How files begin that are no text, or not the text that was meant."""


def suffix_of(path: Path) -> str:
    """Return a file's ending in small letters, what it is packed in aside: ".jsonl" of d.jsonl.gz."""
    inner = Path(path.stem) if path.suffix.lower() in PACKED else path
    return inner.suffix.lower()


def stem_of(path: Path) -> str:
    """Return a file's name without its ending and what it is packed in."""
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def test_files(text: str) -> list[str]:
    """Return the files that a plan's test names for one domain, joined by +; a file that has one in its name is itself."""
    return [text] if "+" not in text or exists(Path(text)) else [part.strip() for part in text.split("+")]


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; False too for a text that no file can have as its name."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: there is no user of that name; ValueError: a NUL
        return False


def check_file(path: Path, source: str) -> None:
    """Refuse what is no regular file: a folder, a pipe, a device, or nothing. `source`: how messages call it."""
    try:
        if path.is_dir():
            raise PlanError(f"{shortened(source)} is a folder; name a file in it")
        if not path.exists():
            raise PlanError(absent(path, source))
        check_ordinary(path, source)
    except (OSError, ValueError) as error:
        raise PlanError(f"{shortened(source)} cannot be a file here ({_reason(error)}); check the path") from None


def check_ordinary(path: Path, source: str) -> None:
    """Refuse pipes, sockets and devices: reading one may never end, and writing puts a file in its place."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise PlanError(f"{shortened(source)} is a pipe or a device; write it to a file and name that")


def check_target(path: Path, source: str) -> None:
    """Refuse a file to write that is a folder, a pipe or a device, or that no file can be."""
    try:
        if path.is_dir():
            raise PlanError(f"{shortened(source)} is a folder; name the file to write in it")
        check_ordinary(path, source)
    except (OSError, ValueError) as error:
        raise PlanError(f"{shortened(source)} cannot be a file here ({_reason(error)}); check the path") from None


def shortened(source: str) -> str:
    """Return as much of how a file is called as a message shows."""
    return source if len(source) <= SHOWN else f"{source[:SHOWN]}... ({len(source):,} characters)"


def absent(path: Path, source: str) -> str:
    """Return that a file is not there, with the names that come close."""
    if path.is_symlink():
        return f"{source} is a link to what is not there; mend the link, or name the file itself"
    if not path.parent.is_dir():
        return f"{source} does not exist, nor does its folder {path.parent}; check the path"

    # A misspelt name is the commonest cause.
    names = [file.name for file in path.parent.iterdir()]
    return f"{source} does not exist; {did_you_mean(path.name, names, 'check the path', most=3, likeness=0.5)}"


@contextmanager
def opened(path: Path, source: str = "") -> Iterator[IO[bytes]]:
    """Return the file's bytes, unpacked. Faults of reading and unpacking become PlanErrors.

    `source`: how messages call the file; default: its name.
    """
    check_file(path, source or str(path))
    name = source or path.name
    try:
        with path.open("rb") as raw:
            # What a file is packed in is read off its first bytes: endings are often wrong.
            start = raw.read(8)
            raw.seek(0)
            packed = next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")
            if path.suffix.lower() in PACKED and not packed:
                ending = path.suffix.lower()
                raise PlanError(f"{name} ends in '{ending}' but is not packed; take the ending off or pack it again")
            with _unpacked(raw, packed) as stream:
                yield stream
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise PlanError(f"{name} is damaged or cut off ({_reason(error)}); download or pack it again") from None
    except OSError as error:
        raise PlanError(f"{name} cannot be read ({_reason(error)}); check its rights, or write it again") from None


def _unpacked(raw: IO[bytes], packed: str) -> Any:
    if packed == "gz":
        return gzip.GzipFile(fileobj=raw)
    if packed == "bz2":
        return bz2.BZ2File(raw)
    if packed == "xz":
        return lzma.LZMAFile(raw)
    if packed == "zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")
    return raw


def encoding_of(start: bytes) -> str:
    """Return the encoding that a file's first bytes tell: by a mark, by the zeros of UTF-16, else UTF-8."""
    for mark, name in MARKS:
        if start.startswith(mark):
            return name

    # Latin letters in UTF-16 have a zero in every second byte.
    if len(start) > 3 and start[1] == 0 < start[0] and start[3] == 0 < start[2]:
        return "utf-16-le"
    if len(start) > 3 and start[0] == 0 < start[1] and start[2] == 0 < start[3]:
        return "utf-16-be"
    return "utf-8"


@contextmanager
def opened_text(path: Path, newline: str = "\n", source: str = "") -> Iterator[TextIO]:
    """Return the file as text, its byte-order mark aside; `newline` as for `open`. Raises PlanError where it is none."""
    name = source or path.name
    with opened(path, source) as stream:
        buffered = io.BufferedReader(_Plain(stream), 1 << 20)
        start = buffered.peek(64)[:64]
        for magic, what in FOREIGN:
            if start.lower().startswith(magic.lower()):
                raise PlanError(f"{name} {what}")
        encoding = encoding_of(start)
        text = io.TextIOWrapper(buffered, encoding=encoding, newline=newline)
        try:
            yield text
        except UnicodeError as error:
            raise PlanError(_misread(path, name, encoding, error)) from None


class _Plain(io.RawIOBase):
    """Any stream of bytes, as `io.BufferedReader` wants one."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _misread(path: Path, name: str, encoding: str, error: UnicodeError) -> str:
    """Return where the bytes are not what they should be; UTF-8 is read again, line by line, to find the place."""
    # Only UTF-8 is read again to find the place: other encodings have no place that a user could mend.
    if encoding not in ("utf-8", "utf-8-sig"):
        return f"{name} is not whole {encoding.upper()} ({_reason(error)}); save the file as UTF-8"
    offset = 0
    with opened(path) as stream:
        for number, line in enumerate(io.BufferedReader(_Plain(stream)), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as fault:
                where = f"byte {offset + fault.start + 1:,} (line {number:,})"
                return f"{name}: {where} is not UTF-8; save the file as UTF-8"
            offset += len(line)
    return f"{name} is not UTF-8; save the file as UTF-8"


def read_text(path: Path, source: str = "") -> str:
    """Return the whole file as text; `source`: how messages call it. Raises PlanError where it is none."""
    with opened_text(path, newline="", source=source) as stream:
        return stream.read()


def read_given_json(path: Path, source: str) -> Any:
    """Return the value of a JSON file of settings. Raises PlanError where it is none, or could be read in two ways."""
    text = read_text(path, source)
    try:
        return parse_given(text)
    except ValueError as error:
        raise PlanError(f"{source} is not JSON ({_reason(error)}); mend it") from None


def read_given_toml(path: Path, source: str, wanted: str = "") -> dict[str, Any]:
    """Return the table of a TOML file of settings. Raises PlanError where it is none.

    `wanted`: what an empty file lacks, where it may not be empty: all defaults are hardly what somebody names a file for.
    """
    text = read_text(path, source)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise PlanError(f"{source} is nested too deeply to be read; flatten it") from None
    except ValueError as error:  # also a whole number of more digits than Python reads
        raise PlanError(f"{source} is not TOML ({_reason(error)}); mend it") from None
    if wanted and not table:
        raise PlanError(f"{source} is empty; write {wanted}")
    return table


def _reason(error: BaseException) -> str:
    """Return an error's first line, without the path that it repeats."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
