"""The answers of an evaluation so far, so that a killed evaluation resumes from them. No torch here.

One line of JSON a part: [hash of what was asked, answer, checksum of both]. Floats keep their bits. A line that a kill cut
short, or that is damaged, is dropped: its part is computed again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.store.files import write_atomic
from harness.store.schema import key_of


class Journal:
    """Parts by what was asked; without a path nothing is remembered."""

    def __init__(self, path: Path | None = None, asker: Any = None) -> None:
        """`asker`: what every answer depends on beside the question, such as the weights' hash."""
        self.path, self.asker = path, asker
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        # A kill may have cut the last line, or a disk spoiled one: what was computed for it is computed again.
        lines = path.read_bytes().splitlines(keepends=True)
        parts = [_part(line) for line in lines]
        if None in parts:
            kept = [line for line, part in zip(lines, parts, strict=True) if part]
            write_atomic(path, b"".join(kept))
        self._known = dict(part for part in parts if part)

    def once(self, question: Any, compute: Callable[[], Any]) -> Any:
        """Return the answer to what is asked, computed unless it is known. Answers are what JSON can hold."""
        if self.path is None:
            return compute()

        # The weights are part of the question: another training has other answers.
        name = key_of([self.asker, question])
        if name not in self._known:
            self._known[name] = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(_line(name, self._known[name]))
        return self._known[name]


def _line(name: str, answer: Any) -> bytes:
    """Return a part as it stands in the file."""
    part = json.dumps([name, answer])
    return json.dumps([name, answer, zlib.crc32(part.encode())]).encode() + b"\n"


def _part(line: bytes) -> tuple[str, Any] | None:
    """Return (hash of what was asked, answer) of a line, None of one that is damaged; older lines have no checksum."""
    try:
        name, answer, *checksum = json.loads(line)
        whole = isinstance(name, str) and line.endswith(b"\n")
    except (ValueError, TypeError):
        return None
    if not whole or (checksum and _line(name, answer) != line):
        return None
    return name, answer
