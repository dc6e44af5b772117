"""What an evaluation has computed so far, so that a killed one goes on where it was. No torch here.

One line of JSON a part: [hash of what was asked, answer]. Floats keep their bits. A line that a kill cut short is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        # A kill may have cut the last line: what was computed for it is computed again.
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            os.truncate(path, len(kept))
        self._known = dict(json.loads(line) for line in kept.splitlines())

    def once(self, asked: Any, compute: Callable[[], Any]) -> Any:
        """The answer to what is asked, computed unless it is known. Answers are what JSON can hold."""
        if self.path is None:
            return compute()

        # The weights are part of the question: another training has other answers.
        name = key_of([self.asker, asked])
        if name not in self._known:
            self._known[name] = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(json.dumps([name, self._known[name]]).encode() + b"\n")
        return self._known[name]
