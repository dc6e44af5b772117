"""One row of a data file being read: its values with what is wrong with them, for records and for items. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.fields.names import nearest
from harness.fields.refusals import lost, refusals
from harness.fields.table import ACCEPTED, Place
from harness.fields.values import NOTHING, given
from harness.text.json_reader import LongNumber, Repeated, Unreadable, parse

NAMES_SHOWN = 8
FAULTS_SHOWN = 20


@dataclass
class Row:
    """A row's named values; what is wrong goes to `faults`, and which fields were read is remembered."""

    where: str
    """Where it stands, as an error says it: "finance.json record 17"."""
    values: dict[str, Any]
    faults: list[str]
    read: set[str] = field(default_factory=set)
    original: dict[str, Any] = field(default_factory=dict)
    """The row as it stands in the file."""

    @classmethod
    def open(cls, where: str, value: Any, faults: list[str]) -> Row | None:
        """Return a row of an object with named fields, null and NaN left out; None, and a fault, where the value is none."""
        row = cls(where, {}, faults)
        if not isinstance(value, dict):
            row.fault(f"is {json_type(value)}; write an object with named fields")
            return None
        if isinstance(value, Repeated):
            row.fault(f"has the field '{value.twice}' twice; keep one")
            return None
        row.original = value
        row.values = {str(name): cell for name, cell in value.items() if not missing(cell)}
        return row

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.where}: {printable(text)}")

    def has(self, name: str) -> bool:
        return name in self.values

    def first(self, names: Iterable[str]) -> str | None:
        """Return the first of these fields that the row has."""
        return next((name for name in names if name in self.values), None)

    def value(self, name: str) -> Any:
        """Return a field's value, None where it is missing; the field counts as read."""
        self.read.add(name)
        return self.values.get(name)

    def text(self, name: str, optional: bool = False) -> str:
        """Return a field's text; "" where it is optional and missing, blank or a mark of being so (`NOTHING`)."""
        if name not in self.values:
            if not optional:
                self.fault(f"no '{name}'; add it, as text (it has {listed(self.values)})")
            return ""
        value = self.value(name)
        if optional and isinstance(value, str) and value.strip().lower() in NOTHING:
            return ""
        return self.checked(f"'{name}'", value, optional)

    def any_text(self, names: Sequence[str]) -> str:
        """Return the text of one of several fields that mean the same; two that differ are a fault. "" where there is none."""
        texts = {name: self.text(name, optional=True) for name in names if name in self.values}
        texts = {name: text for name, text in texts.items() if text}
        if len(set(texts.values())) > 1:
            self.fault(f"has {' and '.join(map(repr, texts))}, which mean the same and differ; keep one")
        return next(iter(texts.values()), "")

    def checked(self, name: str, value: Any, optional: bool = False) -> str:
        """Return the value, if it is text a tokenizer can take."""
        if not isinstance(value, str) or isinstance(value, (LongNumber, Unreadable)):
            self.fault(f"{name} is {json_type(value)}, not text; write it as a string")
        elif not value.strip():
            if not optional:
                self.fault(f"{name} is empty; fill it or remove the record")
        elif "\0" in value:
            self.fault(f"{name} has a NUL character at place {value.index(chr(0)) + 1}; remove it")
        elif half := re.search("[\ud800-\udfff]", value):
            code = f"U+{ord(half[0]):04X}"
            self.fault(f"{name} has half a surrogate pair ({code}) at place {half.start() + 1}; write the whole character")
        else:
            return value
        return ""

    def take_answers(self, several: bool) -> None:
        """Read `answers`, as SQuAD has them (a list of texts, or an object with one as `text`), as the field `answer`.

        `several`: whether more than one may be accepted.
        """
        if not self.has(ACCEPTED):
            return
        value = structured(self.value(ACCEPTED))
        texts = value.get("text") if isinstance(value, dict) else value
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.fault(f"'{ACCEPTED}' is {json_type(value)}; write a list of texts, or an object with such a list as 'text'")
            return

        # SQuAD lists the same answer as often as people gave it.
        different = list(dict.fromkeys(text for text in texts if text.strip()))
        if self.has("answer"):
            self.fault(f"has 'answer' and '{ACCEPTED}', which mean the same; keep one")
        elif not different:
            self.fault(f"'{ACCEPTED}' has no answer (it cannot be answered, as in SQuAD 2); leave such records out")
        elif len(different) > 1 and not several:
            self.fault(f"'{ACCEPTED}' has {len(different)} different texts, and one is trained; keep it as 'answer'")
        else:
            self.values["answer"] = different if several and len(different) > 1 else different[0]

    def check_fields(self, names: Iterable[str], unread: Counter[str], read_text: str | None = None) -> None:
        """Refuse what changes the row's meaning and names that are nearly one of `names`; count what is left unread.

        `read_text`: all that was read of the row; None where nothing is asked.
        """
        names = list(names)
        for sentence in refusals(Place.RECORD, {name: v for name, v in self.values.items() if name not in self.read}, names):
            self.fault(sentence)

        # Nothing is left unread in silence: a name that is nearly one of ours is meant to be it, all others are counted.
        absent = [name for name in names if name not in self.values]
        for name, value in self.values.items():
            if name in self.read or name == "id" or not given(value):
                continue
            near = None if name in names else nearest(name, absent)
            if near:
                self.fault(f"'{name}' is no field that is read; did you mean '{near}'? Rename it, or drop it")
            elif fault := lost(name, structured(value), names, read_text):
                self.fault(f"'{name}' {fault}")
            else:
                unread[name] += 1


def missing(value: Any) -> bool:
    """Return whether a value is absent, null or NaN: csv and parquet have no other way to leave a field out."""
    return value is None or (isinstance(value, float) and value != value)


def structured(value: Any) -> Any:
    """Return a list or object, also where a cell of csv or parquet holds its JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse(value)
        except ValueError:
            return value
    return value


def listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in list(values)[:NAMES_SHOWN]) or "none"


def json_type(value: Any) -> str:
    """Return a value's type in the words of JSON, short values shown."""
    if isinstance(value, LongNumber):
        return f"a number of {len(value):,} digits"
    if isinstance(value, Unreadable):
        return f"a value that cannot be read ({value})"
    if isinstance(value, (list, dict)) and not value:
        return "a list without entries" if isinstance(value, list) else "an object without entries"
    if type(value) in (int, float):
        return f"the number {value}"
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)


def printable(text: str) -> str:
    """Return text that a terminal takes: control characters and halves of surrogate pairs spelled out."""
    shown = (c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def shortened(faults: list[str], source: str) -> list[str]:
    """Return the first faults, and how many more there are."""
    if len(faults) <= FAULTS_SHOWN:
        return faults
    return [*faults[:FAULTS_SHOWN], f"and {len(faults) - FAULTS_SHOWN:,} more faults in {source}"]


def unread_note(name: str, unread: Counter[str]) -> list[str]:
    """Return what a report says of the fields that nobody read; nothing where there are none."""
    if not unread:
        return []
    names = [f"{printable(field)} ({number:,})" for field, number in unread.most_common()]
    names[0] = names[0].replace(")", " records)")
    shown = names[:FAULTS_SHOWN] + ([f"and {len(names) - FAULTS_SHOWN} more"] if len(names) > FAULTS_SHOWN else [])
    return [f"{name}: fields not read: {', '.join(shown)}."]
