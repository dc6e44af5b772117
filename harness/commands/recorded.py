"""A stored comparison taken up again: the plan from its own record, made sure to ask what it asked then."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.bundled import ROOT, SUITES
from harness.errors import PlanError, raise_faults
from harness.files.sidecar import read_sidecar
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.recipes.recipe_text import FILE
from harness.store.opening import test_files
from harness.store.question import Question, question_in

PATHS = ("data", "test", "model", "general")
"""Options that may name a file."""


def plan_of(record: Mapping[str, Any], code: Sequence[str] = (), **changes: Any) -> Plan:
    """Return the recorded plan with changes. Raises PlanError where the record holds none.

    Paths inside the checkout are recorded from its top, and are found from anywhere. `code`: files and folders whose code may
    run though only the record names them (methods, scorers, tasks of lm-eval); no other code of a record runs. A cluster's
    address is never taken from a record.
    """
    if not isinstance(record.get("plan"), dict):
        raise PlanError(
            f"comparison.json of '{record.get('name')}' holds no plan, so it cannot be made again;"
            " it is damaged, or older than plans were recorded"
        )
    options = record["plan"] | changes
    for name in ("recipes", "suites"):  # a list is as good as a text
        if isinstance(options.get(name), list):
            options[name] = " ".join(map(str, options[name]))
    for name in PATHS:
        if options.get(name):
            files = str(options[name]).split(",")
            options[name] = ",".join(_absolute(file, several=name == "test") for file in files)

    if options.get("ray") != "auto":
        options["ray"] = None
    # Nor is it told to others, or written elsewhere, because a record says so.
    options |= {"tensorboard": None, "report_to": None}
    _refuse_code(options, code)

    # An option that is unknown here and not set said nothing; one that is set is refused by name.
    fields = {field.name for field in dataclasses.fields(Plan)}
    return make_plan({name: value for name, value in options.items() if name in fields or value})


def _refuse_code(options: Mapping[str, Any], code: Sequence[str]) -> None:
    """Raise PlanError naming everything whose code a record would run and that nobody named."""
    named = [file for file in map(_existing, map(Path, code)) if file]
    code_paths = [(Path(match[1]), f"recipe {match[0]}") for match in FILE.finditer(str(options.get("recipes") or ""))]
    for suite in str(options.get("suites") or "").split():
        code_paths += _code_of(Path(suite))
    # A stage without a test file of its own has an empty place, which is not the folder that Lethe runs in.
    for stage in str(options.get("test") or "").split(","):
        files = [file for file in test_files(stage.strip()) if file]
        code_paths += chain.from_iterable(_code_of(Path(file)) for file in files)

    # What is not there cannot run, and is refused later. A folder that was named stands for all that is in it.
    foreign = {}
    for path, purpose in code_paths:
        file = _existing(path)
        if file and not any(file.is_relative_to(named_path) for named_path in named):
            foreign[str(path)] = purpose
    if foreign:
        files = "; ".join(f"{path} ({purpose})" for path, purpose in foreign.items())
        flags = " ".join(f"--code {shlex.quote(path)}" for path in foreign)
        raise PlanError(f"the record runs code of its own: {files}. Read it, and name what may run: {flags}")


def _existing(path: Path) -> Path | None:
    """Return the file or folder that a place leads to; None where there is none, or where no file can have such a name."""
    try:
        file = path.expanduser().resolve()
        return file if file.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _code_of(path: Path) -> list[tuple[Path, str]]:
    """Return the code that a suite or a test file runs, each path with its purpose; none for Lethe's own suites."""
    suite = _existing(path)
    if suite is None or suite.is_relative_to(SUITES.resolve()):
        return []
    # lm-eval imports the functions that its files name, and its templates may call anything.
    if suite.is_dir() and any(suite.rglob("*.yaml")):
        return [(path, "tasks of lm-eval")]
    code = []
    for file in sorted(suite.iterdir()) if suite.is_dir() else [suite]:
        scorer = read_sidecar(file).scorer
        if scorer:
            code.append((file.parent / scorer.partition(":")[0], f"scorer of {path}"))
    return code


def _absolute(text: str, several: bool) -> str:
    """Return a recorded path as this process finds it; `several`: paths joined by +."""
    paths = []
    for path in text.split("+") if several else [text]:
        inside = bool(path) and not Path(path).exists() and (ROOT / path).exists()
        paths.append(str(ROOT / path) if inside else path)
    return "+".join(paths)


def refuse_another_question(record: Mapping[str, Any], now: Question, folder: Path) -> None:
    """Raise PlanError naming every field in which the question of a record differs from what would run now."""
    if not record.get("question"):
        raise PlanError(f"{folder} does not record what it asked, so whether it is made again as it was cannot be told")
    cure = "give the files and the version of Lethe that it was made with"
    sentences = [difference.sentence("here it is") for difference in question_in(record).differences(now)]
    raise_faults([f"{folder} cannot be made again: {sentence}; {cure}" for sentence in sentences])
