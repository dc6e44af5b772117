"""Which tests reach which statements of some modules, and what each costs: a plugin of pytest for `tests.bench.mutants`."""

from __future__ import annotations

import ast
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench.swapped import PROBE, compiled, probed, swap

Statement = tuple[str, int]
"""A module and the first line of one of its statements."""


@dataclass(frozen=True)
class TracedTest:
    """What one test reaches."""

    name: str
    reached: Mapping[str, Sequence[int]]
    """Module -> first lines of the statements that it runs, those of its fixtures included."""
    seconds: float
    """Processor seconds that it takes, with the fixtures that it is the first to need."""

    @property
    def file(self) -> str:
        return self.name.split("::")[0]


def chosen_tests(tests: Sequence[TracedTest], files: Sequence[str], statement: Statement | None) -> list[TracedTest]:
    """Return the tests of some files or folders that reach a statement, the quickest first; without one, all of these tests."""
    chosen = [test for test in tests if any(Path(test.file).is_relative_to(file) for file in files)]
    if statement:
        module, line = statement
        chosen = [test for test in chosen if line in test.reached.get(module, ())]
    return sorted(chosen, key=lambda test: test.seconds)


def statement_lines(text: str) -> Mapping[int, int]:
    """Return line -> first line of the innermost statement that it belongs to; the lines of a body are not the head's."""
    firsts: dict[int, int] = {}

    # Those inside others are walked later, so that the innermost counts.
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                firsts[line] = node.lineno
    return firsts


class Notes:
    """Notes statements as tests run; tests that are skipped reach nothing."""

    def __init__(self) -> None:
        self.now: set[Statement] = set()
        self.calls: dict[str, set[Statement]] = {}
        self.fixtures: dict[Any, set[Statement]] = defaultdict(set)
        self.fixtures_of: dict[str, list[Any]] = {}
        self.seconds: dict[str, float] = {}
        self.failed = ""

    def plant(self, root: Path, modules: Sequence[str]) -> None:
        """Make every statement of these modules tell that it runs."""
        for module in modules:
            name = module.removesuffix(".py").replace("/", ".")
            setattr(sys.modules[name], PROBE, self.note)
            tree = probed(ast.parse((root / module).read_text()), module)
            swap(str(root / module), compiled(tree, str(root / module)))

    def note(self, module: str, line: int) -> None:
        self.now.add((module, line))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[item.nodeid] = time.process_time() - begin

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        # A fixture may serve many tests, whichever of them is the first.
        with self._into(self.fixtures[fixturedef]):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        self.fixtures_of[item.nodeid] = [definition for definitions in fixtures for definition in definitions]
        with self._into(self.calls.setdefault(item.nodeid, set())):
            yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid
        if report.skipped:
            self.calls.pop(report.nodeid, None)

    def tests(self) -> list[TracedTest]:
        """Return what was noted."""
        tests = []
        for name, statements in self.calls.items():
            reached: dict[str, list[int]] = defaultdict(list)
            for module, line in sorted(statements.union(*(self.fixtures[kind] for kind in self.fixtures_of[name]))):
                reached[module].append(line)
            tests.append(TracedTest(name, dict(reached), self.seconds[name]))
        return tests

    @contextmanager
    def _into(self, statements: set[Statement]) -> Iterator[None]:
        before, self.now = self.now, statements
        try:
            yield
        finally:
            self.now = before


def as_record(tests: Sequence[TracedTest]) -> list[dict[str, Any]]:
    """Return tests as they are stored; `TracedTest(**record)` reads one."""
    return [asdict(test) for test in tests]
