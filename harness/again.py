"""A stored comparison taken up again: the plan from its own record, made sure to ask what it asked then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.plan import ROOT, Plan, make_plan
from harness.store import read_json

PLACES = ("data", "test", "model", "general")


def record_of(folder: Path) -> dict[str, Any]:
    """comparison.json of a folder. Raises PlanError where there is none."""
    record = read_json(folder / "comparison.json")
    if record is None:
        raise PlanError(f"{folder} holds no comparison.json; give the folder that `lethe compare` wrote, as results/<name>")
    return record


def plan_of(record: dict[str, Any], **changes: Any) -> Plan:
    """The recorded plan with changes; places inside the checkout, recorded from its top, are found from anywhere."""
    options = record["plan"] | changes
    for name in PLACES:
        if options.get(name):
            options[name] = ",".join(_found(part) for part in str(options[name]).split(","))
    known = {field.name for field in dataclasses.fields(Plan)}
    return make_plan({name: value for name, value in options.items() if name in known or value})


def _found(place: str) -> str:
    return place if not place or Path(place).exists() or not (ROOT / place).exists() else str(ROOT / place)


def refuse_another_question(then: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises PlanError naming every field in which what would run differs from what ran."""
    differing = [
        f"{name} was {then.get(name)!r}, here it is {now.get(name)!r}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if differing:
        cure = "give the files and the version of Lethe that it was made with"
        raise PlanError(*(f"{folder} cannot be made again: {one}; {cure}" for one in differing))
