"""The order of folders under harness/, and who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HARNESS = ROOT / "harness"
FOLDERS = [
    "interface",
    "",
    "text.digits",
    "text",
    "alike",
    "store",
    "stats",
    "fields",
    "files",
    "data",
    "tokens",
    "recipes",
    "checkpoints",
    "models",
    "plan",
    "losses",
    "decoding",
    "measured",
    "training",
    "estimates",
    "tasks",
    "evaluation",
    "setup",
    "repair",
    "runs",
    "workers",
    "report.summary",
    "report.tables",
    "report.figures",
    "report.verdict",
    "report.page",
    "report",
    "gate",
    "diff",
    "commands.annotate",
    "commands.parsing",
    "commands",
]
"""Folders of harness/ from the ground up: each imports only from those before it, and from itself."""
LIGHT = ("", "text.digits", "text", "alike", "store", "stats", "fields", "files", "plan", "report", "gate", "diff")
"""Folders whose modules, when imported, bring none of `HEAVY`, so that `lethe report` and refusals start at once."""
HEAVY = {"torch", "transformers", "peft", "lm_eval", "datasets"}
LARGEST = 12
"""Modules of one folder, at most."""


def module_of(path: Path) -> str:
    """Return the dotted name of a file below the checkout."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(path: Path) -> str:
    """Return the dotted name of a file's folder, counted from harness/."""
    return ".".join(path.parent.relative_to(HARNESS).parts)


MODULES = {module_of(path): path for path in sorted(HARNESS.rglob("*.py"))}


def imported(path: Path, top_level: bool = False) -> set[str]:
    """Return the modules that a file imports, those for type checkers and inside functions included.

    `top_level` leaves out what functions import when they are called.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
    return names


IMPORTS = {name: imported(path) & MODULES.keys() for name, path in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_a_folder_imports_only_from_folders_below_it(name):
    own = FOLDERS.index(folder_of(MODULES[name]))
    above = {other for other in IMPORTS[name] if FOLDERS.index(folder_of(MODULES[other])) > own}
    assert not above


def test_no_modules_import_each_other_in_a_circle():
    """Modules that import nothing, then those that import only such, and so on: none may be left over."""
    left = {name: set(targets) - {name} for name, targets in IMPORTS.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_every_folder_is_small_and_opens_with_a_sentence():
    sizes = Counter(folder_of(path) for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > LARGEST} == {}
    for folder in FOLDERS:
        opening = HARNESS / Path(*folder.split(".")) / "__init__.py"
        tree = ast.parse(opening.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        assert folder == "" or len(tree.body) == 1, f"{opening} holds more than its sentence"


@pytest.mark.parametrize("path", sorted((ROOT / "trainers").glob("*.py")), ids=lambda p: p.name)
def test_methods_import_the_contract_its_tools_and_nothing_else_of_ours(path):
    ours = {name for name in imported(path) if name.split(".")[0] in ("harness", "trainers", "suites", "tests")}
    assert ours <= {"harness.contract", "harness.toolbox"}


@pytest.mark.parametrize("name", MODULES)
def test_the_harness_names_no_method_and_no_suite(name):
    assert not {other for other in imported(MODULES[name]) if other.split(".")[0] in ("trainers", "suites", "tests")}


@pytest.mark.parametrize("name", [name for name in MODULES if folder_of(MODULES[name]).split(".")[0] in LIGHT])
def test_light_folders_do_not_import_torch(name):
    if name in ("harness.contract", "harness.toolbox"):  # what plug-ins see is tensors
        return
    assert not {module.split(".")[0] for module in imported(MODULES[name], top_level=True)} & HEAVY


@pytest.mark.parametrize(
    "modules",
    [
        "harness.commands.cli",
        "harness.report.write",
        "harness.commands.check, harness.commands.merge, harness.commands.reproduce",
    ],
)
def test_importing_them_brings_no_torch(modules):
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
