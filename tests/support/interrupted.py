"""Commands that are interrupted at a chosen moment, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.bundled import ROOT
from harness.store.files import UNDER_WAY

LIMIT = 5.0
"""Seconds in which an interrupted command has ended, with all its processes."""
Reached = Callable[[str, Path, float], bool]
"""Whether a command has come to a phase, by what it has said, its folder, and when it began."""


def said(words: str) -> Reached:
    """Return the phase in which a command says these words."""
    return lambda text, *_: words in text


def after(seconds: float) -> Reached:
    """Return the phase that a command is in after so many seconds."""
    return lambda _text, _out, since: time.time() - since > seconds


def written(pattern: str) -> Reached:
    """Return the phase in which a command writes a file of its folder."""

    def reached(_: str, out: Path, since: float) -> bool:
        return any(_changed(path) > since for path in out.glob(pattern))

    return reached


def _changed(path: Path) -> float:
    """Return when a file was written last; 0 where it has gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@dataclass(frozen=True)
class Interrupted:
    """How an interrupted command ended."""

    seconds: float
    """From the signal to the end of all its processes."""
    code: int
    text: str
    """What it had said on stderr."""
    left: list[str]
    """Temporary files that it left, in its folder and in the system's."""


def interrupt(arguments: Sequence[str], out: Path, reached: Reached, env: Mapping[str, str] | None = None) -> Interrupted:
    """Start a command in a group of its own, and interrupt it as a terminal does, when it has come to a phase."""
    with tempfile.TemporaryDirectory() as scratch:
        since = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.commands.cli", *arguments],
            cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"TMPDIR": scratch} | dict(env or {}),
        )  # fmt: skip
        lines: list[str] = []
        assert process.stderr
        reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
        reader.start()
        while not reached("".join(lines), out, since) and process.poll() is None:
            time.sleep(0.01)
        if process.poll() is not None:
            reader.join()
            process.stderr.close()
            raise AssertionError(f"ended before it came to its phase: {''.join(lines)}")

        # All that it started is waited for.
        below = psutil.Process(process.pid).children(recursive=True)
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(60)
        psutil.wait_procs(below, timeout=30)
        seconds = time.monotonic() - begin
        reader.join()
        process.stderr.close()
        left = [path for path in out.rglob(".*") if UNDER_WAY.fullmatch(path.name)]
        left += list(Path(scratch).iterdir())
    return Interrupted(seconds, code, "".join(lines), [path.name for path in left])
