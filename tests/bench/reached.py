"""Which tests reach which lines of one module, and how long each takes: a plugin of pytest for `tests.bench.mutants`."""

from __future__ import annotations

import ast
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest


@dataclass
class Reached:
    """What the tests of a module reach of it."""

    lines: dict[str, list[int]] = field(default_factory=dict)
    """Test -> lines of the module's functions that it runs, those of the fixtures of its file included."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Test -> how long it takes, with the fixtures that it is the first to need."""

    def tests_of(self, first: int, last: int) -> list[str]:
        """Return the tests that reach any of these lines, the quickest first; all tests where none does.

        Lines that only an import or a process of its own runs are reached by no test as far as this can see.
        """
        tests = [test for test, lines in self.lines.items() if any(first <= line <= last for line in lines)]
        return sorted(tests or self.lines, key=lambda test: self.seconds[test])


class Tracer:
    """Notes lines of one file as tests run."""

    def __init__(self, file: str):
        self.file = file
        self.now: set[int] = set()
        self.calls: dict[str, set[int]] = defaultdict(set)
        self.fixtures: dict[str, set[int]] = defaultdict(set)
        self.files: dict[str, str] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        # A fixture may serve several tests of its file, whichever of them is the first.
        self.files[item.nodeid] = str(item.path)
        with self._into(self.fixtures[str(item.path)]):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self._into(self.calls[item.nodeid]):
            yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def result(self) -> Reached:
        """Return what was noted; tests that were skipped reach nothing and are left out."""
        lines = {test: sorted(calls | self.fixtures[self.files[test]]) for test, calls in self.calls.items()}
        return Reached(lines, {test: self.seconds[test] for test in lines})

    @contextmanager
    def _into(self, lines: set[int]) -> Iterator[None]:
        self.now = lines
        before = sys.gettrace()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(None)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line(frame, event, arg) if frame.f_code.co_filename == self.file else None

    def _line(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        self.now.add(frame.f_lineno)
        return self._line


def statement_lines(text: str) -> Mapping[int, tuple[int, int]]:
    """Return line -> first and last line of the statement that it belongs to; of one with a body, of its head."""
    statements: Sequence[ast.stmt] = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
    found: dict[int, tuple[int, int]] = {}

    # Those inside others are walked later, so that the innermost counts.
    for node in statements:
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        for line in range(node.lineno, max(last, node.lineno) + 1):
            found[line] = node.lineno, max(last, node.lineno)
    return found
