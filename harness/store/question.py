"""The question that a result answers, differences of two questions, and the name that a comparison takes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.store.files import read_record
from harness.store.schema import key_of

RESERVED = ("calibration", "check", "claims", "published", "reproduced", "runs")
"""Folders under `out` that are no comparison's own."""
NUMBERS = 999
"""Names that are tried before it is said that something else is wrong with the folder of results."""


@dataclass(frozen=True)
class Difference:
    """A field in which two questions, or two records, differ."""

    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return self.sentence("now")

    def sentence(self, now: str) -> str:
        """Return the difference in words, with `now` before the present value."""
        return f"{self.name} was {self.then!r}, {now} {self.now!r}"


def differing_fields(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return every field in which `now` differs from `then`, by name.

    A missing field equals None: newer options are None where they are not used.
    """
    differences = []
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            differences.append(Difference(name, then.get(name), now.get(name)))
    return differences


@dataclass(frozen=True)
class Question:
    """The question of a run or a comparison, by field. Results of one table must agree in every field."""

    fields: Mapping[str, Any]
    """As JSON stores them."""

    @property
    def key(self) -> str:
        """The name of its answer in the store: equal questions have equal keys."""
        return key_of(self.fields)

    def differences(self, other: Question) -> list[Difference]:
        """Return every field in which `other` differs from this question."""
        return differing_fields(self.fields, other.fields)


def question_in(record: Mapping[str, Any]) -> Question:
    """Return the question of a stored comparison; one without fields where an early version recorded none."""
    return Question(record.get("question") or {})


@dataclass(frozen=True)
class Name:
    """The folder that a comparison takes."""

    text: str
    note: str | None
    """What to tell the user where another name than the first choice was taken, else None."""


def given_name(root: Path, name: str, question: Question) -> Name:
    """Return the name that the user gave.

    Raises PlanError where its folder holds another question, or something that is no comparison.
    """
    if other := _another(root / name, question):
        cure = "give another name, leave the name out (a free one is taken then), or remove the folder"
        raise PlanError(f"{other}; {cure}")
    return Name(name, None)


def free_name(root: Path, wanted: str, question: Question) -> Name:
    """Return the name that Lethe chooses.

    It is the first of `wanted`, `wanted-2`, `wanted-3` ... that is free or holds this question.
    """
    # Numbered on, so that an earlier comparison is never written over.
    note = None
    for number in range(1, NUMBERS + 1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if name in RESERVED:
            continue
        # A name that holds something else is passed over; the first of them is named in the note.
        try:
            other = _another(root / name, question)
        except PlanError as error:
            other = error.faults[0]
        if other is None:
            return Name(name, f"{note}; this one goes to {root / name}" if note else None)
        note = note or other
    raise PlanError(f"{note}; nor is any name free up to {wanted}-{NUMBERS}: give --name or --out")


def _another(folder: Path, question: Question) -> str | None:
    """Return that a folder holds a comparison that asks another question, as a clause; None where it does not.

    Raises PlanError where its record cannot be read.
    """
    record = read_record(folder)
    if record is None:
        return None
    # The same question: that comparison is gone on with.
    differences = question_in(record).differences(question)
    if not differences:
        return None
    fields = "; ".join(str(difference) for difference in differences)
    return f"{folder} holds another comparison ({fields})"
