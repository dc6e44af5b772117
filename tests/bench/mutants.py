"""Mutation testing of the core: `python -m tests.bench.mutants [--number 240] [--seed 0] [--again] [--only MODULE]`

A mutant is one module with one small change: another comparison, another operator, a condition turned round, a number off by
one, a statement or an argument left out. The fast tests of that module must fail for it. Mutants are drawn by a seed, as many
of a module as it has of all. Each runs in a process forked from one that has imported the libraries; files are never touched,
the changed module is put in the place of its import.

The tests of a module run once as it is, to see which of them reach which lines (tests/bench/reached.py, kept in
build/reached.json). A mutant is given to those that reach its statement alone, the quickest first, up to the first that fails.

What became of each mutant is a line of build/mutants.jsonl. A killed run goes on there; `--again` tries those anew that no
test noticed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from tests.bench.mutations import mutated, mutations
from tests.bench.reached import Reached, Tracer, statement_lines

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = ROOT / "build" / "mutants.jsonl"
LIBRARIES = ("torch", "transformers", "peft", "lm_eval.evaluator", "datasets", "scipy.stats", "statsmodels.api", "pytest")
"""Imported before anything is forked: what the tests import, but for Lethe itself."""
SLOWER = 5.0
"""A mutant is ended after so many times the seconds of its tests on the unchanged module, and counts as noticed."""
BESIDE = 30.0
"""Seconds beside those of the tests that a mutant may take: imports, and fixtures that another test pays for."""
REACHED = ROOT / "build" / "reached.json"
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


@dataclass(frozen=True)
class Ended:
    """How the tests of a mutant ended."""

    outcome: str
    """`noticed`, `too slow`, or `not noticed`."""
    seconds: float
    test: str
    """The test that failed."""


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


def tested(module: str, tree: ast.Module | None, tests: Sequence[str], limit: float) -> Ended:
    """Run tests in a process of their own, with the module as `tree` has it; None: as it is, and note what they reach."""
    output = ROOT / "build" / f"mutant-{os.getpid()}.txt"
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _test(module, tree, tests, output)
    while True:
        ended, code, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        # Waiting for a processor is not the mutant's fault, up to a point.
        if _seconds_of(child) > limit or time.monotonic() - begin > 10 * limit:
            os.killpg(child, signal.SIGKILL)
            os.wait4(child, 0)
            return Ended("too slow", limit, "")
        time.sleep(0.05)
    if os.waitstatus_to_exitcode(code) in (4, 5):
        raise SystemExit(f"pytest could not run the tests of {module}: see {output}")
    failures = [line.split()[1] for line in output.read_text().splitlines() if line.startswith(("FAILED ", "ERROR "))]
    outcome = "noticed" if code else "not noticed"
    return Ended(outcome, used.ru_utime + used.ru_stime, failures[0] if failures else "")


def _seconds_of(process: int) -> float:
    """Return the processor's seconds that a process has taken so far."""
    import psutil

    times = psutil.Process(process).cpu_times()
    return times.user + times.system


def _test(module: str, tree: ast.Module | None, tests: Sequence[str], output: Path) -> None:
    """In the forked process: run the tests, and end with 0 where all passed."""
    import pytest

    os.setpgid(0, 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    tracer = Tracer(str(ROOT / module)) if tree is None else None
    if tree is not None:
        sys.meta_path.insert(0, Planted(module, tree))
    imported = "ignore::pytest.PytestAssertRewriteWarning"  # plugins are, before pytest begins
    asked = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow", "-W", imported, *tests]
    code = pytest.main(asked, plugins=[tracer] if tracer else [])
    if tracer:
        _keep(module, tracer.result())
    sys.stdout.flush()
    os._exit(int(code))


def _keep(module: str, reached: Reached) -> None:
    """Write what the tests of a module reach, beside that of other modules."""
    known = json.loads(REACHED.read_text()) if REACHED.exists() else {}
    REACHED.write_text(json.dumps(known | {module: asdict(reached) | {"of": _sources_of(module)}}))


def _sources_of(module: str) -> str:
    """Return a hash of a module and its tests."""
    files = [ROOT / module]
    for test in map(ROOT.joinpath, TESTS[module]):
        files += sorted(test.rglob("*.py")) if test.is_dir() else [test]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def reached_of(module: str) -> Reached:
    """Return what the tests of a module reach of it; they run where that is not known, and must pass."""
    known = json.loads(REACHED.read_text()) if REACHED.exists() else {}
    if known.get(module, {}).get("of") != _sources_of(module):
        unchanged = tested(module, None, TESTS[module], 3600.0)
        if unchanged.outcome != "not noticed":
            raise SystemExit(f"the tests of {module} fail without a mutant: {unchanged.test}")
        known = json.loads(REACHED.read_text())
        print(f"unchanged   {unchanged.seconds:6.1f} s  {module}", flush=True)
    return Reached(known[module]["lines"], known[module]["seconds"])


def results_so_far() -> dict[str, dict[str, Any]]:
    """Return name -> line of the journal; the last line of a name counts."""
    if not JOURNAL.exists():
        return {}
    lines = [json.loads(line) for line in JOURNAL.read_text().splitlines() if line.endswith("}")]
    return {line["name"]: line for line in lines}


def work(mutants: Sequence[Mutant], again: bool) -> None:
    """Test every mutant that the journal lacks; with `again` those too that no test noticed."""
    known = results_so_far()
    for mutant in mutants:
        outcome = known.get(mutant.name, {}).get("outcome")
        if outcome and not (again and outcome == "not noticed"):
            continue
        reached, text = reached_of(mutant.module), (ROOT / mutant.module).read_text()
        tests = reached.tests_of(*statement_lines(text).get(mutant.line, (0, 0)))
        limit = BESIDE + SLOWER * sum(reached.seconds[test] for test in tests)
        ended = tested(mutant.module, mutated(text, mutant.place, mutant.kind), tests, limit)
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
    for library in LIBRARIES:
        importlib.import_module(library)
    JOURNAL.parent.mkdir(exist_ok=True)
    mutants = drawn(list(TESTS), asked.number, asked.seed)
    if asked.only:
        mutants = [mutant for mutant in mutants if mutant.module in asked.only]
    work(mutants, asked.again)
    print("\n".join(table(mutants)))


if __name__ == "__main__":
    main()
