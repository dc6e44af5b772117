"""Mutants are small changes of what runs, the same ones each time, and are imported in the place of their module."""

from __future__ import annotations

import ast
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import harness.text.bounds
from tests.bench.mutants import ROOT, TESTS, Planted, all_mutants, drawn
from tests.bench.mutations import mutated, mutations
from tests.bench.reached import Notes, TracedTest, chosen_tests, statement_lines
from tests.bench.swapped import can_be_swapped, compiled, swap
from tests.bench.warm import supervised

TEXT = '''
"""A module: 1 < 2."""
from typing import Any

LIMIT: int = 3

def least(values: list[int] | None, low: Any = 0) -> int | None:
    """Return 1."""
    if not values and low <= LIMIT:
        raise ValueError(f"none of {1 + 1}")
    log(values)
    return min(values, key=abs)
'''


def test_every_part_that_runs_is_changed_and_nothing_else():
    changes = {change for _, change, _, _ in mutations(TEXT)}
    assert changes == {
        "3  ->  4",
        "0  ->  1",
        "if not values and low <= LIMIT:  ->  if not (not values and low <= LIMIT):",
        "not values and low <= LIMIT  ->  not values or low <= LIMIT",
        "not values  ->  not not values",
        "low <= LIMIT  ->  low < LIMIT",
        "log(values)  ->  None",
        "return min(values, key=abs)  ->  return None",
        "min(values, key=abs)  ->  min(values)",
        "min(values, key=abs)  ->  max(values, key=abs)",
    }


def test_each_mutant_compiles_and_differs():
    texts = [ast.unparse(mutated(TEXT, place, kind)) for _, _, place, kind in mutations(TEXT)]
    assert len(set(texts)) == len(texts) == 10 and ast.unparse(ast.parse(TEXT)) not in texts


def test_mutants_are_drawn_the_same_each_time_of_every_module():
    modules = ["harness/training/ledger.py", "harness/report/summary/rows.py"]
    mutants = drawn(modules, 40, seed=1)
    assert mutants == drawn(modules, 40, seed=1) != drawn(modules, 40, seed=2)
    assert abs(len(mutants) - 40) <= 2 and {mutant.module for mutant in mutants} == set(modules)
    assert len({mutant.name for mutant in mutants}) == len(mutants)


@pytest.mark.parametrize("module", TESTS)
def test_what_is_mutated_and_its_tests_are_there(module):
    assert (ROOT / module).is_file() and all((ROOT / test).exists() for test in TESTS[module])


def test_a_mutant_is_imported_in_the_place_of_its_module(monkeypatch):
    module = "harness/text/bounds.py"
    mutant = next(mutant for mutant in all_mutants(module) if "return" in mutant.change and "None" in mutant.change)
    finder = Planted(module, mutated((ROOT / module).read_text(), mutant.place, mutant.kind))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.setattr(harness.text, "bounds", harness.text.bounds)
    monkeypatch.delitem(sys.modules, "harness.text.bounds")
    importlib.import_module("harness.text.bounds")
    assert isinstance(sys.modules["harness.text.bounds"].__loader__, Planted)
    assert finder.get_code(module) != compile((ROOT / module).read_text(), finder.path, "exec")


def test_a_mutant_is_given_to_the_tests_that_reach_its_statement_and_the_quickest_is_first():
    tests = [
        TracedTest("t/a.py::a", {"m.py": [3, 9]}, 3.0),
        TracedTest("t/a.py::b", {"m.py": [3], "n.py": [9]}, 2.0),
        TracedTest("t/b/c.py::c", {"m.py": [9]}, 1.0),
    ]
    assert [test.name[-1] for test in chosen_tests(tests, ["t/a.py", "t/b"], ("m.py", 3))] == ["b", "a"]
    assert [test.name[-1] for test in chosen_tests(tests, ["t/a.py"], ("m.py", 9))] == ["a"]
    assert [test.name[-1] for test in chosen_tests(tests, ["t"], None)] == ["c", "b", "a"]
    assert chosen_tests(tests, ["t"], ("m.py", 4)) == []
    lines = statement_lines(TEXT)
    assert lines[9] == 9 and lines[10] == 10, "the head of a condition, and what it holds"
    assert statement_lines("x = (\n    1 +\n    2\n)\n") == dict.fromkeys(range(1, 5), 1)


MODULE = """
LIMIT = 3

def decorated(function):
    return lambda n: function(n) + 1

class Kind:
    low = 1
    def twice(self, n, by=2):
        return by * n

@decorated
def check(n):
    if n > LIMIT:
        return "above"[:n - n] or 10
    return [m for m in range(n)][-1]
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> Any:
    """A module that was imported, and a function that was imported from it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_module_to_mutate.py").write_text(MODULE)
    yield importlib.import_module("a_module_to_mutate")
    del sys.modules["a_module_to_mutate"]


def code_of(text: str, module: Any) -> Any:
    return compiled(ast.parse(text), module.__file__)


def test_what_was_imported_before_runs_the_mutants_code(module):
    check, kind = module.check, module.Kind()
    assert (check(2), check(9), kind.twice(3)) == (2, 11, 6)
    changed = MODULE.replace("by * n", "by / n").replace("n > LIMIT", "n < LIMIT").replace("[-1]", "[0]")
    assert can_be_swapped(code_of(MODULE, module), code_of(changed, module))
    assert swap(module.__file__, code_of(changed, module)) >= 4
    assert (check(2), check(9), kind.twice(3)) == (11, 1, 2 / 3)


@pytest.mark.parametrize("part, instead", [("LIMIT = 3", "LIMIT = 4"), ("low = 1", "low = 2"), ("by=2", "by=3")])
def test_what_an_import_makes_is_imported_anew(module, part, instead):
    changed = MODULE.replace(part, instead)
    assert changed != MODULE and not can_be_swapped(code_of(MODULE, module), code_of(changed, module))


def test_every_statement_that_runs_is_noted(module):
    notes = Notes()
    notes.plant(Path(module.__file__).parent, ["a_module_to_mutate.py"])
    assert module.check(9) == 11
    name = "a_module_to_mutate.py"
    assert notes.now == {(name, 14), (name, 15)}
    with notes._into(statements := set()):
        module.check(2)
    assert (name, 16) in statements and (name, 15) not in statements


def endless() -> str:
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    while True:
        pass


@pytest.mark.parametrize(
    "work, outcome, failed",
    [
        (lambda: "", "not noticed", ""),
        (lambda: "a test", "noticed", "a test"),
        (lambda: 1 / 0, "noticed", "ZeroDivisionError outside of the tests"),
        (lambda: os._exit(3), "noticed", ""),
        (endless, "too slow", ""),
    ],
)
def test_how_the_tests_of_a_mutant_end_is_told(work, outcome, failed, tmp_path):
    ended = supervised(work, tmp_path / "output.txt")
    assert (ended.outcome, ended.test) == (outcome, failed)
