"""Which fields of a record may not be left unread: what they say would be lost, and the record would mean something else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from harness.fields.table import ASKED, CHATS, CHOICES, TABLE, Place
from harness.fields.values import converses, holds, tells, texts

APART = re.compile(
    r"(option|choice|opt|op|ans|ending)[_ ]?([a-f]|\d)|[a-j]|correct_answer|incorrect_answers?|distractor_?\d?", re.I
)
"""Names of single options, which would be dropped: write `choices` instead."""
APART_CURE = "is one of several options a field; write them as `choices`, a list of texts"


def refusals(place: Place, values: Mapping[str, Any], names: Iterable[str] = ()) -> list[str]:
    """Return what stands in a record or turn that changes what it means and is not read, a sentence each.

    `names`: the fields that the record's form reads.
    """
    reading = set(names)
    bad: dict[int, list[str]] = {}
    for name, value in values.items():
        number = _refusing(place, name, value, reading)
        if number is not None:
            bad.setdefault(number, []).append(f"'{name}'")
    return [f"{' and '.join(quoted)} {TABLE[number].meaning}" for number, quoted in sorted(bad.items())]


def _refusing(place: Place, name: str, value: Any, reading: set[str]) -> int | None:
    """Return where in the table the field stands that refuses this name with this value; None where none does."""
    # A name may be like those of several fields: the first is meant.
    meant = [number for number in _fields_called(place, name) if TABLE[number].instead in ("", *reading)]
    return meant[0] if meant and TABLE[meant[0]].refuses(value) else None


def changes(name: str) -> bool:
    """Return whether a field of this name may change what a record or an item means, and is not read."""
    return bool(_fields_called(Place.RECORD, name) or _fields_called(Place.ITEM, name) or APART.fullmatch(name))


@cache
def _fields_called(place: Place, name: str) -> tuple[int, ...]:
    """Return where in the table the refused fields stand that go by this name; none for a name that is read."""
    fields = [(number, field) for number, field in enumerate(TABLE) if field.place is place]
    if any(not field.refused and name in field.names for _, field in fields):
        return ()
    return tuple(number for number, field in fields if field.refused and field.is_called(name))


def lost(name: str, value: Any, names: Iterable[str], read_text: str | None) -> str:
    """Return why a field may not be left unread, although nothing refuses its name; "" where it may.

    `names`: the fields that the record's form reads. `read_text`: all that is read of the record; None where nothing is asked.
    """
    reading = set(names)
    chat = CHATS[0] in reading
    if _refusing(Place.RECORD, name, value, reading) is not None:
        return ""  # said already
    if APART.fullmatch(name) and CHOICES[0] in reading:
        return APART_CURE
    if not chat and converses(value):
        return "is a conversation under a name that is not read; call it `history` if it comes before the question, or drop it"
    if read_text is None or (chat and name in (*CHOICES, "text")):
        return ""

    # What stands in the text anyhow may be left unread.
    if name in CHOICES and not all(holds(read_text, text) for text in texts(value) or [""]):
        return "are options, which are read beside `question` and `answer` only; call the record's fields so"
    asks = name in ASKED or (name == "text" and tells(value))
    if asks and isinstance(value, str) and not holds(read_text, value):
        return "says what is asked in another form, and is not read in this one; put its text into what is read, or drop it"
    return ""
