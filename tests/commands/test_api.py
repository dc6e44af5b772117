"""`import lethe`: options as keywords, a process of its own, nobody else's packages taken for Lethe's."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lethe
from harness.errors import PlanError
from harness.plan.plan import Plan, kind_of
from harness.plan.python_api import PATH, api

ROOT = Path(lethe.__file__).parents[1]
SHADOWS = ("harness", "trainers", "suites", "datasets")
BROKEN = "raise RuntimeError('this is a package of the user')"


def test_the_keywords_are_the_plans_options():
    assert api() == PATH.read_text(encoding="utf-8"), "run `make docs`"
    signature = inspect.signature(lethe.compare)
    names = [field.name for field in dataclasses.fields(Plan)]
    assert list(signature.parameters) == ["plan", "quiet", *names]
    documented = inspect.getdoc(lethe.compare) or ""
    for field in dataclasses.fields(Plan):
        assert f"\n    {field.name}: " in documented
        assert kind_of(field.name).__name__ in str(signature.parameters[field.name].annotation)


def test_the_function_stays_a_function_whatever_is_imported():
    import harness.commands.compare

    assert harness.compare is lethe.compare and callable(harness.compare)
    assert harness.measure is lethe.measure and callable(harness.measure)
    assert lethe.PlanError is PlanError


def test_importing_it_brings_no_torch():
    code = "import sys, lethe; sys.exit(bool({'torch', 'transformers', 'harness', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_package_that_another_distribution_overwrote_is_named(tmp_path):
    shutil.copytree(ROOT / "lethe", tmp_path / "lethe")
    for name in ("harness", "trainers", "suites"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    (tmp_path / "trainers" / "__init__.py").write_text('"""Trainers of somebody else."""\n')
    command = [sys.executable, "-P", "-c", "from lethe.__main__ import main; raise SystemExit(main())", "recipes"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("is not Lethe's") == 1 and "'trainers'" in done.stderr and "environment of its own" in done.stderr


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder in which every name of Lethe's, and one of its dependencies', is a package of the user's own."""
    for name in SHADOWS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(BROKEN)
    return tmp_path


def test_faults_come_back_as_one_error_from_under_a_users_own_packages(project):
    code = (
        "import lethe\n"
        "asked = {lethe.compare: {'recipes': ['sfft', 'mix(x=1)'], 'budget': '3parsecs'}}\n"
        "asked[lethe.measure] = {'base': './gone', 'tuned': {'a': ['./x y', './z'], 'base': './x y'}}\n"
        "for function, options in asked.items():\n"
        "    try:\n"
        "        function(**options)\n"
        "    except lethe.PlanError as error:\n"
        "        print(len(error.faults), error.faults)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compared, measured = done.stdout.splitlines()
    assert compared.startswith("3 [") and "did you mean 'sft'?" in compared
    assert "'base' is a row of every table" in measured and "./gone" in measured


def test_the_command_line_finds_its_own_packages(project):
    code = "import sys; from lethe.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "recipes"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "low_lr" in done.stdout
