"""A stored comparison taken up again: the plan from its own record, made sure to ask what it asked then."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.bundled import ROOT
from harness.errors import PlanError, raise_faults
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.recipes.recipe_text import FILE
from harness.store.question import Question, question_in

SCORER = re.compile(r"""scorer\s*=\s*["'](.+?\.py):""")
"""How a suite's sidecar names its scorer."""
PATHS = ("data", "test", "model", "general")
"""Options that may name a file."""


def plan_of(record: Mapping[str, Any], code: Sequence[str] = (), **changes: Any) -> Plan:
    """Return the recorded plan with changes. Raises PlanError where the record holds none.

    Paths inside the checkout are recorded from its top, and are found from anywhere. `code`: files of methods and scorers that
    may run though only the record names them; of others none does. A cluster is never taken from a record.
    """
    if not isinstance(record.get("plan"), dict):
        raise PlanError(
            f"comparison.json of '{record.get('name')}' holds no plan, so it cannot be made again;"
            " it is damaged, or older than plans were recorded"
        )
    options = record["plan"] | changes
    for name in PATHS:
        if options.get(name):
            files = str(options[name]).split(",")
            options[name] = ",".join(_absolute(file, several=name == "test") for file in files)

    if options.get("ray") != "auto":
        options["ray"] = None
    _refuse_code(options, code)

    # An option that is unknown here and not set said nothing; one that is set is refused by name.
    fields = {field.name for field in dataclasses.fields(Plan)}
    return make_plan({name: value for name, value in options.items() if name in fields or value})


def _refuse_code(options: Mapping[str, Any], code: Sequence[str]) -> None:
    """Raise PlanError naming every file whose code a record would run and that nobody named."""
    named = {Path(file).expanduser().resolve() for file in code}
    code_files = [(Path(match[1]), f"recipe {match[0]}") for match in FILE.finditer(str(options.get("recipes") or ""))]
    for suite in str(options.get("suites") or "").replace(",", " ").split():
        code_files += [(file, f"scorer of {suite}") for file in _scorers(Path(suite))]
    foreign = {str(file): what for file, what in code_files if file.expanduser().resolve() not in named}
    if foreign:
        files = "; ".join(f"{file} ({what})" for file, what in foreign.items())
        flags = " ".join(f"--code {file}" for file in foreign)
        raise PlanError(f"the record runs code of its own: {files}. Read it, and name what may run: {flags}")


def _scorers(suite: Path) -> list[Path]:
    """Return the files of scorers that the sidecars of a suite name; none for suites inside the checkout."""
    if not suite.exists() or suite.resolve().is_relative_to(ROOT.resolve()):
        return []
    sidecars = sorted(suite.rglob("*.toml")) if suite.is_dir() else [suite.with_suffix(".toml")]
    files = []
    for sidecar in sidecars:
        for line in sidecar.read_text(encoding="utf-8", errors="replace").splitlines() if sidecar.is_file() else ():
            if match := SCORER.search(line):
                files.append(sidecar.parent / match[1])
    return files


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
