"""Mutation testing of the core: `python -m tests.bench.mutants [--number 240] [--seed 0] [--again] [--only MODULE]`

A mutant is one module with one small change: another comparison, another operator, a condition turned round, a number off by
one, a statement or an argument left out. The fast tests of that module must fail for it. Mutants are drawn by a seed, as many
of a module as it has of all. Files are never touched.

One session of pytest imports and collects everything once (tests/bench/warm.py). Each mutant runs in a process forked from it,
in which the functions of its module get the mutant's code (tests/bench/swapped.py). What is mutated at import, such as a
default value, is imported in the place of its module by a process that has imported the libraries alone; those come last.

The tests run once as they are, to see which of them reach which statements (tests/bench/reached.py, kept in
build/reached.json). A mutant is given to those that reach its statement alone, the quickest first, up to the first that fails;
where no test reaches it, it is not noticed.

What became of each mutant is a line of build/mutants.jsonl. A killed run goes on there; `--again` tries those anew that no
test noticed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.util
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from tests.bench.mutations import mutated, mutations
from tests.bench.reached import TracedTest, chosen_tests, statement_lines
from tests.bench.swapped import can_be_swapped, compiled, swap
from tests.bench.warm import Ended, Warm, import_all, session, supervised

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = ROOT / "build" / "mutants.jsonl"
REACHED = ROOT / "build" / "reached.json"
OUTPUT = ROOT / "build" / "mutant.txt"
LIBRARIES = ("torch", "transformers", "peft", "lm_eval.evaluator", "datasets", "scipy.stats", "statsmodels.api", "pytest")
"""Imported before anything is forked: what the tests import, but for Lethe itself."""
TESTS: dict[str, tuple[str, ...]] = {
    "harness/training/ledger.py": ("tests/training/test_budget.py", "tests/training/test_train.py"),
    "harness/training/loop.py": ("tests/training/test_train.py", "tests/runs/test_stages.py", "tests/training/test_budget.py"),
    "harness/training/step.py": (
        "tests/training/test_train.py",
        "tests/losses/test_pieces.py",
        "tests/trainers/test_methods.py",
    ),
    "harness/evaluation/evaluator.py": ("tests/evaluation/test_evaluate.py", "tests/evaluation/test_beside.py"),
    "harness/stats/analysis.py": ("tests/stats",),
    "harness/stats/bootstrap.py": ("tests/stats",),
    "harness/stats/claims.py": ("tests/stats",),
    "harness/stats/estimate.py": ("tests/stats",),
    "harness/stats/measures.py": ("tests/stats",),
    "harness/stats/resample.py": ("tests/stats", "tests/report/test_report_answers.py"),
    "harness/stats/tradeoffs.py": ("tests/stats",),
    "harness/report/summary/rows.py": ("tests/report/test_report_tables.py", "tests/report/test_failed.py"),
    "harness/report/tables/main_table.py": ("tests/report/test_report_tables.py",),
}
"""Module -> the fast tests that hold it."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    place: int
    """Which node of the module's syntax tree is changed."""
    kind: int
    """Which of that node's changes it is."""
    line: int
    change: str
    """What stands there now, and what instead."""
    source: str
    """Hash of the unchanged module: another source has other mutants."""

    @property
    def name(self) -> str:
        return f"{self.source}/{self.place}/{self.kind}"

    @property
    def file(self) -> str:
        return str(ROOT / self.module)

    @property
    def tree(self) -> ast.Module:
        return mutated((ROOT / self.module).read_text(), self.place, self.kind)

    @property
    def code(self) -> CodeType:
        return compiled(self.tree, self.file)

    @property
    def at_import(self) -> bool:
        """Whether it changes what an import makes."""
        unchanged = compiled(ast.parse((ROOT / self.module).read_text()), self.file)
        return not can_be_swapped(unchanged, self.code)


class Planted(SourceFileLoader):
    """Imports one module as a mutant has it, and all others as they are."""

    def __init__(self, module: str, tree: ast.Module):
        self.dotted = module.removesuffix(".py").replace("/", ".")
        self.tree = tree
        super().__init__(self.dotted, str(ROOT / module))

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Return this loader for the module, None for any other."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.dotted else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.tree, self.path, "exec")


def all_mutants(module: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    text = (ROOT / module).read_text()
    source = hashlib.sha256(text.encode()).hexdigest()[:12]
    return [Mutant(module, place, kind, line, change, source) for line, change, place, kind in mutations(text)]


def drawn(modules: Sequence[str], number: int, seed: int) -> list[Mutant]:
    """Return so many mutants, as many of a module as it has of all, in an order that mixes modules."""
    rng = random.Random(seed)
    pools = [all_mutants(module) for module in modules]
    total = sum(map(len, pools))
    mutants = []
    for pool in pools:
        mutants += rng.sample(pool, min(len(pool), round(number * len(pool) / total)))
    rng.shuffle(mutants)
    return mutants


def stale_files(known: dict[str, Any]) -> dict[str, str]:
    """Return test file -> hash of it and of all that is mutated, for those of which is not known what they reach."""
    modules = b"".join((ROOT / module).read_bytes() for module in TESTS)
    stale = {}
    for file in sorted({file for tests in TESTS.values() for test in tests for file in _test_files(test)}):
        content = hashlib.sha256(modules + (ROOT / file).read_bytes()).hexdigest()[:12]
        if known.get(file, {}).get("of") != content:
            stale[file] = content
    return stale


def _test_files(test: str) -> list[str]:
    """Return the files of tests that an entry of TESTS names."""
    path = ROOT / test
    files = path.rglob("test_*.py") if path.is_dir() else [path]
    return [str(file.relative_to(ROOT)) for file in files]


def all_tests(warm: Warm) -> list[TracedTest]:
    """Return what each test reaches; those of files that changed run, and all that tests import is imported."""
    known = json.loads(REACHED.read_text()) if REACHED.exists() else {}
    for file, content in stale_files(known).items():
        traced = REACHED.with_suffix(".new")
        warm.trace([file], ROOT, list(TESTS), traced)
        known[file] = json.loads(traced.read_text()) | {"of": content}
        REACHED.write_text(json.dumps(known))
        tests = [TracedTest(**record) for record in known[file]["tests"]]
        print(f"unchanged   {sum(test.seconds for test in tests):6.1f} s  {file}", flush=True)
        import_all(known[file]["imported"])
    import_all(sorted({module for of_file in known.values() for module in of_file["imported"]}))
    return [TracedTest(**record) for of_file in known.values() for record in of_file["tests"]]


def results_so_far() -> dict[str, dict[str, Any]]:
    """Return name -> line of the journal; the last line of a name counts."""
    if not JOURNAL.exists():
        return {}
    lines = [json.loads(line) for line in JOURNAL.read_text().splitlines() if line.endswith("}")]
    return {line["name"]: line for line in lines}


def left(mutants: Sequence[Mutant], again: bool) -> list[Mutant]:
    """Return the mutants that the journal lacks; with `again` those too that no test noticed."""
    known = {name: line["outcome"] for name, line in results_so_far().items()}
    return [mutant for mutant in mutants if mutant.name not in known or (again and known[mutant.name] == "not noticed")]


def warm_work(warm: Warm, mutants: Sequence[Mutant]) -> None:
    """Test mutants of functions in the session."""
    import_all([module.removesuffix(".py").replace("/", ".") for module in TESTS])
    tests = all_tests(warm)
    for mutant in mutants:
        line = statement_lines((ROOT / mutant.module).read_text())[mutant.line]
        chosen = chosen_tests(tests, TESTS[mutant.module], (mutant.module, line))
        note(mutant, warm.run(chosen, lambda mutant=mutant: swap(mutant.file, mutant.code)))


def cold_work(mutants: Sequence[Mutant]) -> None:
    """Test mutants of what an import makes, each in a process that has imported the libraries alone."""
    for library in LIBRARIES:
        importlib.import_module(library)
    known = json.loads(REACHED.read_text()).values()
    tests = [TracedTest(**record) for of_file in known for record in of_file["tests"]]
    for mutant in mutants:
        reaching = [test for test in chosen_tests(tests, TESTS[mutant.module], None) if mutant.module in test.reached]

        def work(mutant: Mutant = mutant, reaching: Sequence[TracedTest] = reaching) -> str:
            sys.meta_path.insert(0, Planted(mutant.module, mutant.tree))
            failed: list[str] = []
            code = session([test.name for test in reaching], lambda warm: failed.append(warm.run_here(reaching)), OUTPUT)
            return failed[0] if failed and failed[0] else f"pytest ended with {code}" if code else ""

        note(mutant, supervised(work, OUTPUT))


def note(mutant: Mutant, ended: Ended) -> None:
    """Write what became of a mutant."""
    with JOURNAL.open("a") as journal:
        journal.write(json.dumps({"name": mutant.name} | asdict(mutant) | asdict(ended)) + "\n")
    print(f"{ended.outcome:12}{ended.seconds:6.1f} s  {mutant.module}:{mutant.line}  {mutant.change}", flush=True)


def table(mutants: Sequence[Mutant]) -> Iterator[str]:
    """Yield the lines of the result: a line a module, all together, and what no test noticed."""
    known = results_so_far()
    done = [(mutant, known[mutant.name]["outcome"]) for mutant in mutants if mutant.name in known]
    yield "| module | mutants | noticed | share |\n|---|---|---|---|"
    for module in [*TESTS, "all"]:
        outcomes = [outcome for mutant, outcome in done if module in (mutant.module, "all")]
        if outcomes:
            noticed = sum(outcome != "not noticed" for outcome in outcomes)
            yield f"| {module} | {len(outcomes)} | {noticed} | {noticed / len(outcomes):.1%} |"
    for mutant, outcome in sorted(done, key=lambda pair: (pair[0].module, pair[0].line)):
        if outcome == "not noticed":
            yield f"{mutant.module}:{mutant.line}  {mutant.change}"


def main() -> None:
    """Test the mutants that are asked for, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--only", action="append", metavar="MODULE")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    JOURNAL.parent.mkdir(exist_ok=True)
    mutants = drawn(list(TESTS), asked.number, asked.seed)
    if asked.only:
        mutants = [mutant for mutant in mutants if mutant.module in asked.only]

    # The session has imported what mutants of imports need to see imported anew, so it has a process of its own.
    todo = left(mutants, asked.again)
    files = sorted({test for tests in TESTS.values() for test in tests})
    child = os.fork()
    if child == 0:
        os._exit(session(files, lambda warm: warm_work(warm, [mutant for mutant in todo if not mutant.at_import]), OUTPUT))
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(1)
    cold_work([mutant for mutant in todo if mutant.at_import])
    print("\n".join(table(mutants)))


if __name__ == "__main__":
    main()
