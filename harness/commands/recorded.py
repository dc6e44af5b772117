"""A stored comparison taken up again: the plan from its own record, made sure to ask what it asked then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.bundled import ROOT
from harness.errors import PlanError, raise_faults
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.store.question import Question, question_in

PATHS = ("data", "test", "model", "general")
"""Options that may name a file."""


def plan_of(record: dict[str, Any], **changes: Any) -> Plan:
    """Return the recorded plan with changes. Raises PlanError where the record holds none.

    Paths inside the checkout are recorded from its top, and are found from anywhere.
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

    # An option that is unknown here and not set said nothing; one that is set is refused by name.
    known = {field.name for field in dataclasses.fields(Plan)}
    return make_plan({name: value for name, value in options.items() if name in known or value})


def _absolute(text: str, several: bool) -> str:
    """Return a recorded path as this process finds it; `several`: paths joined by +."""
    paths = []
    for path in text.split("+") if several else [text]:
        inside = bool(path) and not Path(path).exists() and (ROOT / path).exists()
        paths.append(str(ROOT / path) if inside else path)
    return "+".join(paths)


def refuse_another_question(record: dict[str, Any], now: Question, folder: Path) -> None:
    """Raise PlanError naming every field in which the question of a record differs from what would run now."""
    if not record.get("question"):
        raise PlanError(f"{folder} does not record what it asked, so whether it is made again as it was cannot be told")
    cure = "give the files and the version of Lethe that it was made with"
    sentences = [difference.sentence("here it is") for difference in question_in(record).differences(now)]
    raise_faults([f"{folder} cannot be made again: {sentence}; {cure}" for sentence in sentences])
