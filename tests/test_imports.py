"""Who may import whom (docs/design.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("harness.quality", "harness.answer_format", "harness.rules", "harness.scoring")
READ = tuple(f"harness.{name}" for name in ("store", "stats", "report", "errors", "limits"))
"""Pure functions of texts, which the report may call."""
HEAVY = {"torch", "transformers", "peft", "lm_eval", "datasets"}


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules a file imports; `top_level` leaves out what functions import when called."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "trainers").glob("*.py")), ids=lambda p: p.name)
def test_methods_import_the_contract_its_tools_and_nothing_else_of_ours(path):
    ours = {name for name in imports(path) if name.split(".")[0] in ("harness", "trainers", "suites", "tests")}
    assert ours <= {"harness.contract", "harness.toolbox"}


@pytest.mark.parametrize("path", sorted((ROOT / "harness").rglob("*.py")), ids=lambda p: p.name)
def test_the_harness_names_no_method_and_no_suite(path):
    named = {name for name in imports(path) if name.split(".")[0] in ("trainers", "suites", "tests")}
    assert not named


@pytest.mark.parametrize("path", sorted((ROOT / "harness" / "report").rglob("*.py")), ids=lambda p: p.name)
def test_the_report_reads_store_and_statistics_only(path):
    ours = {name for name in imports(path) if name.startswith("harness")}
    assert all(name.startswith((*READ, *TEXTS)) for name in ours), ours


LIGHT = "bounds bundled recipe_text plan plan_faults cluster rules scoring numbers limits files lease store stats measures"
LIGHT += " doing pacing errors cli records quality answer_format calibration rewrites again question results"
LIGHT += " faults early budget_text unchanged"
LIGHT += " announce baseline check evidence exact gate judge merge reproduce"
LIGHT += " fields opening jsontext row sources choices turns itemrow itemfile rewrite near data"


@pytest.mark.parametrize("name", LIGHT.split())
def test_light_modules_do_not_import_torch(name):
    assert not {module.split(".")[0] for module in imports(ROOT / "harness" / f"{name}.py", top_level=True)} & HEAVY


@pytest.mark.parametrize(
    "module",
    ["harness.cli", "harness.report", "harness.plan", "harness.gate, harness.merge, harness.reproduce, harness.report.site"],
)
def test_importing_them_brings_no_torch(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
