"""Mutants are small changes of what runs, the same ones each time, and are imported in the place of their module."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from typing import Any

import pytest

import harness.text.bounds
from tests.bench.mutants import ROOT, TESTS, Planted, all_mutants, drawn
from tests.bench.mutations import mutated, mutations
from tests.bench.reached import Reached, Tracer, statement_lines

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
    reached = Reached({"a": [3, 9], "b": [4], "c": [9]}, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert reached.tests_of(3, 4) == ["b", "a"]
    assert reached.tests_of(20, 20) == ["c", "b", "a"], "what only an import runs may matter to all"
    lines = statement_lines(TEXT)
    assert lines[9] == (9, 9) and lines[10] == (10, 10), "the head of a condition, and what it holds"
    assert statement_lines("x = (\n    1 +\n    2\n)\n") == dict.fromkeys(range(1, 5), (1, 4))


def test_lines_are_noted_of_one_file_alone():
    functions: dict[str, Any] = {}
    exec(compile("def double(n):\n    if n:\n        return 2 * n\n    return 0", "/there.py", "exec"), functions)
    tracer = Tracer("/there.py")
    lines: set[int] = set()
    before = sys.gettrace()
    with tracer._into(lines):
        functions["double"](1)
        json.dumps([1])
    assert lines == {1, 2, 3} and sys.gettrace() is before
