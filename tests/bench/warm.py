"""A session of pytest that has imported and collected everything, and runs chosen tests in processes forked from it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.reached import Notes, TracedTest, as_record

SLOWER = 5.0
"""A test is ended after so many times the processor seconds that it takes on the unchanged module, and counts as failed."""
BESIDE = 10.0
"""Processor seconds beside those: imports, and fixtures that another test pays for."""
ASLEEP = 300.0
"""A process that has used no processor for so many seconds, nor any that it started, waits for ever."""
Session = Callable[["Warm"], None]


@dataclass(frozen=True)
class Ended:
    """How the tests of a mutant ended."""

    outcome: str
    """`noticed`, `too slow`, or `not noticed`."""
    seconds: float
    """Of a processor."""
    test: str
    """The test that failed."""


class Warm:
    """The session, as a plugin: `work` is called in the place of the tests."""

    def __init__(self, work: Session, output: Path):
        self.work = work
        self.output = output
        self.items: dict[str, Any] = {}
        self.failed = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def run(self, tests: Sequence[TracedTest], plant: Callable[[], object]) -> Ended:
        """Run tests in a process of their own up to the first that fails, after planting."""

        def work() -> str:
            plant()
            return self.run_here(tests)

        return supervised(work, self.output)

    def run_here(self, tests: Sequence[TracedTest]) -> str:
        """Run tests in this process up to the first that fails, and return its name."""
        return self._run([test.name for test in tests], [BESIDE + SLOWER * test.seconds for test in tests])

    def trace(self, files: Sequence[str], root: Path, modules: Sequence[str], into: Path) -> None:
        """Run all tests of some files, which must pass, write what they reach, and import what they imported."""
        names = [name for name in self.items if name.split("::")[0] in files]

        def work() -> str:
            notes = Notes()
            next(iter(self.items.values())).config.pluginmanager.register(notes)
            notes.plant(root, modules)
            failed = self._run(names, [0.0] * len(names))
            into.write_text(json.dumps({"tests": as_record(notes.tests()), "imported": sorted(sys.modules)}))
            return failed

        ended = supervised(work, self.output)
        if ended.test:
            raise SystemExit(f"a test fails without a mutant: {ended.test}, see {self.output}")

    def _run(self, names: Sequence[str], limits: Sequence[float]) -> str:
        """Run tests up to the first that fails, and return its name. A limit of 0 is none."""
        items = [self.items[name] for name in names]
        for item, following, limit in zip(items, [*items[1:], None], limits, strict=True):
            signal.setitimer(signal.ITIMER_PROF, limit)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                break
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        return self.failed


def session(files: Sequence[str], work: Session, output: Path) -> int:
    """Collect the fast tests of some files and folders, call `work` with them, and return the exit code of pytest."""
    asked = ["-q", "-s", "--tb=short", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={output.with_suffix('')}"]
    return int(pytest.main([*asked, *files], plugins=[Warm(work, output)]))


def import_all(modules: Sequence[str]) -> None:
    """Import what tests import as they run; modules that tests wrote themselves are left out."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)


def supervised(work: Callable[[], str], output: Path) -> Ended:
    """Call `work`, which returns the name of the test that failed, in a process of its own that writes to a file."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _forked(work, output, write)
    os.close(write)
    code, seconds = _waited(child)
    os.set_blocking(read, False)
    failed = ""
    with suppress(BlockingIOError):  # nothing was told, and something that was left behind holds the pipe
        failed = os.read(read, 4096).decode().strip()
    os.close(read)
    if code == -signal.SIGPROF:
        return Ended("too slow", seconds, "")
    return Ended("noticed" if code else "not noticed", seconds, failed)


def _forked(work: Callable[[], str], output: Path, write: int) -> None:
    """In the forked process: call `work`, tell what failed, and end."""
    os.setpgid(0, 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    try:
        failed = work()
    except BaseException as exc:  # a mutant may raise anything, also what ends a session
        traceback.print_exc()
        failed = f"{type(exc).__name__} outside of the tests"
    sys.stdout.flush()
    os.write(write, f"{failed}\n".encode())
    os._exit(bool(failed))


def _waited(child: int) -> tuple[int, float]:
    """Wait for a process; return its exit code and the processor's seconds that it and its own took."""
    asleep_since, last = time.monotonic(), -1.0
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what it left behind
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        busy = _busy_seconds(child)
        if busy != last:
            asleep_since, last = time.monotonic(), busy
        if time.monotonic() - asleep_since > ASLEEP:
            os.killpg(child, signal.SIGPROF)
        time.sleep(0.05)


def _busy_seconds(process: int) -> float:
    """Return the processor's seconds of a process and those below it that live; a new number while any of them may run."""
    total = 0.0
    with suppress(psutil.Error):
        top = psutil.Process(process)
        for one in [top, *top.children(recursive=True)]:
            if one.status() == psutil.STATUS_RUNNING:
                return time.monotonic()
            total += sum(one.cpu_times()[:2])
    return total
