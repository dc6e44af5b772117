"""Ctrl-C ends a comparison within five seconds wherever it is, leaves nothing behind, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness import interruption
from harness.bundled import ROOT
from harness.store.files import UNDER_WAY
from tests.support.comparisons import lethe, options

LIMIT = 5.0
Reached = Callable[[str, Path, float], bool]
"""Whether a comparison has come to a phase, by what it has said and by the files that it wrote since it began."""


def said(words: str) -> Reached:
    return lambda text, *_: words in text


def _changed(path: Path) -> float:
    """When a file was written last; 0 where it has gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def written(pattern: str) -> Reached:
    def reached(_: str, out: Path, since: float) -> bool:
        return any(_changed(path) > since for path in out.glob(pattern))

    return reached


PHASES: dict[str, Reached] = {
    "imports": said("loading torch"),
    "reading the model": said("reading and hashing the model"),
    "tokenising": said("tokenising"),
    "planning": said("looking for suite items"),
    "hashing what is asked": said("hashing what is asked"),
    "making the base ready": said("results go to"),
    "scoring the base": written("runs/*/evals/*.journal"),
}


def interrupted(asked: dict, out: Path, reached: Reached) -> tuple[float, str]:
    """(seconds from the signal to the end of all processes, what was said) of a comparison that is interrupted in a phase."""
    since = time.time()
    process = lethe(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stderr
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    while not reached("".join(lines), out, since) and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "".join(lines)
    below = psutil.Process(process.pid).children(recursive=True)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    code = process.wait(60)
    psutil.wait_procs(below, timeout=30)
    seconds = time.monotonic() - begin
    reader.join()
    process.stderr.close()
    text = "".join(lines)
    assert code == 130 and "interrupted; the same command goes on" in text and "Traceback" not in text, text
    return seconds, text


@pytest.mark.slow
def test_ctrl_c_ends_a_comparison_wherever_it_is(files, tiny_path, tmp_path, record_property):
    asked = options(files, tiny_path, tmp_path, recipes="sft lora", workers=2, checkpoint_every=0.2)
    seconds = {}
    for phase, reached in PHASES.items():
        seconds[phase], _ = interrupted(asked, tmp_path, reached)
        record_property(phase, round(seconds[phase], 2))
        print(f"{phase}: {seconds[phase]:.2f} s")
    assert max(seconds.values()) <= LIMIT, seconds
    assert lethe(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() == 0
    assert not [path for path in tmp_path.rglob(".*") if UNDER_WAY.fullmatch(path.name)]


STUCK = """
import os, subprocess, sys, time
from harness.interruption import end_soon_after_interrupts
end_soon_after_interrupts()
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"])
while True:
    try:
        print(child.pid, flush=True)  # inside: the signal may come at once
        time.sleep(60)
    except KeyboardInterrupt:
        pass  # as a library's callback does
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_command_that_swallows_interrupts_is_ended_with_its_processes(times):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    child = psutil.Process(int(process.stdout.readline()))
    begin = time.monotonic()
    for number in range(times):
        process.send_signal(signal.SIGINT)
        if number + 1 < times:
            process.stdout.readline()  # this one was swallowed: two at once would be one
    try:
        _, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        for stuck in (process, child):
            with suppress(psutil.Error, ProcessLookupError):
                stuck.kill()
        raise
    assert process.returncode == interruption.INTERRUPTED and errors == interruption.SENTENCE
    assert time.monotonic() - begin < (interruption.PATIENCE if times == 2 else LIMIT)
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
