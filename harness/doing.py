"""Progress of a command on stderr: a line when a step begins, and a line every few seconds while it lasts.

Nothing is said outside of `spoken`, so that library calls and tests are silent. No torch here.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

EVERY = 4.0
"""Seconds without a line after which what is being done is said again: nothing is silent for more than five."""

T = TypeVar("T")
What = str | Callable[[], str]
"""What is being done, or a function that says it as it is now."""


class _Voice(threading.Thread):
    """Prints the name of a step when it begins, and again while it lasts."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.what: What = ""
        self.count = ""
        self.begin = self.latest = time.monotonic()
        self.ended = threading.Event()

    def start_on(self, what: What) -> None:
        """Take up something else."""
        self.what, self.count, self.begin = what, "", time.monotonic()
        if isinstance(what, str):
            self.print(what)

    def print(self, line: str) -> None:
        self.latest = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def run(self) -> None:
        while not self.ended.wait(0.25):
            # Said again only where nothing else was said meanwhile.
            now = time.monotonic()
            if not self.what or now - self.latest < EVERY:
                continue
            if isinstance(self.what, str):
                self.print(f"{self.what}{self.count}, {now - self.begin:.0f} s so far")
            else:
                self.print(self.what())


_voice: _Voice | None = None


@contextmanager
def spoken(quiet: bool = False) -> Iterator[None]:
    """Print what `doing` and `counted` are told inside the context; not where it is `quiet`. May be nested."""
    global _voice

    # Nested: the outer one goes on speaking.
    if quiet or _voice is not None:
        yield
        return
    _voice = _Voice()
    _voice.start()
    try:
        yield
    finally:
        _voice.ended.set()
        _voice.join()
        _voice = None


def doing(what: What) -> None:
    """Say what is being done from here on. A function is asked what to say every few seconds, and not at once."""
    if _voice is not None:
        _voice.start_on(what)


def said() -> None:
    """Note that something else was printed just now."""
    if _voice is not None:
        _voice.latest = time.monotonic()


def counted(entries: Iterable[T], what: str) -> Iterator[T]:
    """Yield these things one after the other, and say how many of how many are done while it lasts."""
    total = f" of {len(entries):,}" if isinstance(entries, Sized) else ""
    doing(what)
    for number, entry in enumerate(entries):
        if _voice is not None:
            _voice.count = f": {number:,}{total}"
        yield entry
