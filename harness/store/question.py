"""How two questions differ, and which name a comparison takes. No torch here.

A question is a mapping of what may not change between two results that stand in one table. A field that one side does not have
is the same as one that is None: what came later is None where it is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.store.files import read_record

RESERVED = ("calibration", "check", "claims", "published", "reproduced", "runs")
"""Folders under `out` that are no comparison's own."""
NUMBERS = 999
"""Names that are tried before it is said that something else is wrong with the folder of results."""


@dataclass(frozen=True)
class Difference:
    """A field in which two questions differ."""

    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return self.told("now")

    def told(self, now: str) -> str:
        """The difference in words; `now` is what stands before the present value."""
        return f"{self.name} was {self.then!r}, {now} {self.now!r}"


def differing_fields(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Every field in which `now` differs from `then`, by name."""
    fields = sorted({*then, *now})
    return [Difference(name, then.get(name), now.get(name)) for name in fields if then.get(name) != now.get(name)]


def told(found: list[Difference]) -> str:
    """Differences as part of a sentence."""
    return "; ".join(map(str, found))


@dataclass(frozen=True)
class Name:
    """The folder that a comparison takes."""

    text: str
    note: str | None
    """What to tell the user where another name than the first choice was taken, else None."""


def given_name(root: Path, name: str, question: Mapping[str, Any]) -> Name:
    """The name that the user gave. Raises PlanError where its folder holds another question, or something that is none."""
    if other := _another(root / name, question):
        cure = "give another name, leave the name out (a free one is taken then), or remove the folder"
        raise PlanError(f"{other}; {cure}")
    return Name(name, None)


def free_name(root: Path, wanted: str, question: Mapping[str, Any]) -> Name:
    """The name that Lethe chooses: the first of `wanted`, `wanted-2`, `wanted-3` ... that is free or holds this question."""
    note = None
    for number in range(1, NUMBERS + 1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if name in RESERVED:
            continue
        try:
            other = _another(root / name, question)
        except PlanError as error:
            other = error.faults[0]
        if other is None:
            said = f"{note}; this one goes to {root / name}" if note else None
            return Name(name, said)
        note = note or other
    raise PlanError(f"{note}; nor is any name free up to {wanted}-{NUMBERS}: give --name or --out")


def _another(folder: Path, question: Mapping[str, Any]) -> str | None:
    """Says that a folder holds a comparison that asks another question; None where it does not.

    Raises PlanError where its record cannot be read.
    """
    record = read_record(folder)
    if record is None:
        return None
    found = differing_fields(record.get("question") or {}, question)
    return f"{folder} holds another comparison ({told(found)})" if found else None
