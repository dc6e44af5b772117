"""A stored comparison taken up again: the plan from its own record, made sure to ask what it asked then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.bundled import ROOT
from harness.errors import raise_faults
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.store.question import differing_fields

PLACES = ("data", "test", "model", "general")


def plan_of(record: dict[str, Any], **changes: Any) -> Plan:
    """The recorded plan with changes; places inside the checkout, recorded from its top, are found from anywhere."""
    options = record["plan"] | changes
    for name in PLACES:
        if options.get(name):
            parts = [part.split("+") if name == "test" else [part] for part in str(options[name]).split(",")]
            options[name] = ",".join("+".join(map(_found, names)) for names in parts)
    known = {field.name for field in dataclasses.fields(Plan)}
    return make_plan({name: value for name, value in options.items() if name in known or value})


def _found(place: str) -> str:
    return place if not place or Path(place).exists() or not (ROOT / place).exists() else str(ROOT / place)


def refuse_another_question(then: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises PlanError naming every field in which what would run differs from what ran."""
    cure = "give the files and the version of Lethe that it was made with"
    found = [difference.told("here it is") for difference in differing_fields(then, now)]
    raise_faults([f"{folder} cannot be made again: {difference}; {cure}" for difference in found])
