"""JSON read as far as it is needed: one value after another, each with its place, without the whole file in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from harness.errors import PlanError

CHUNK = 1 << 20
LONGEST_NUMBER = 4000
"""Digits of a whole number that Python reads; it refuses more than 4,300."""


class Repeated(dict[str, Any]):
    """An object in which a key stands twice."""

    twice: str = ""


class LongNumber(str):
    """A whole number of so many digits that it is kept as text."""


class Unreadable(str):
    """A value that cannot be had from its file; the text says why."""


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # JSON lets a key stand twice, and Python keeps the last: which one is meant is not for us to guess.
    values = dict(pairs)
    if len(values) < len(pairs):
        values = Repeated(values)
        names = [name for name, _ in pairs]
        values.twice = next(name for name in names if names.count(name) > 1)
    return values


def _whole(digits: str) -> Any:
    return int(digits) if len(digits) <= LONGEST_NUMBER else LongNumber(digits)


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole)
TOO_DEEP = "is nested too deeply to be read; flatten it"


def parse(text: str) -> Any:
    """Return a JSON text's value.

    Raises ValueError with place and cause. Repeated keys and long numbers are kept.
    """
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def parse_given(text: str) -> Any:
    """Return the value of JSON that a user wrote to say what is wanted.

    Raises ValueError where it is none, where an object has a key twice, and where a number is none that a float can be.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_finite_whole, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = _object(pairs)
    if isinstance(values, Repeated):
        raise ValueError(f"the key '{values.twice}' stands twice in an object")
    return values


def parse_record(text: str | bytes) -> Any:
    """Return the value of JSON that Lethe wrote.

    Raises ValueError where it is none, and where it has numbers that Lethe never writes: those that no float can be.
    """
    try:
        return json.loads(text, parse_int=_finite_whole, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def finite(text: str) -> float:
    """Return the number of a text. Raises ValueError where it is none, or one that no float can be."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:12]} is out of range")
    return number


def _finite_whole(digits: str) -> int:
    finite(digits)
    return int(digits)


Form = Mapping[Any, Any]
"""Field -> its type or types, a list of the one type of its entries, or the form of what it holds; `...` is every field."""


def misfit(fields: Mapping[str, Any], form: Form) -> str:
    """Return the first field that does not have its form, in words; "" where all do. What is absent, null or empty fits."""
    for name, kind in form.items():
        for key in fields if name is ... else (name,):
            value = fields.get(key)
            if not value:
                continue
            if not _fits(value, kind):
                return f"its field '{str(key)[:40]}' has another type"
            if isinstance(kind, Mapping) and (inner := misfit(value, kind)):
                return inner
    return ""


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has the type that a form gives it; what it holds by name is not looked at."""
    if isinstance(kind, Mapping):
        return isinstance(value, dict)
    if isinstance(kind, list):
        return isinstance(value, list) and all(isinstance(entry, kind[0]) for entry in value)
    return isinstance(value, kind)


class JsonText:
    """The text of a JSON file, read value by value."""

    def __init__(self, name: str, stream: TextIO):
        self.name, self.stream = name, stream
        self.buffer, self.at = "", 0
        self.dropped, self.lines, self.column = 0, 0, 0
        """Characters and line ends that are no longer in the buffer, and characters since the last of these line ends."""

    @property
    def place(self) -> int:
        """Characters of the file before the next one."""
        return self.dropped + self.at

    def peek(self) -> str:
        """Return the next character that is not blank; "" at the end."""
        while True:
            while self.at < len(self.buffer):
                if not self.buffer[self.at].isspace():
                    return self.buffer[self.at]
                self.at += 1
            if not self._more():
                return ""

    def take(self, *wanted: str) -> str:
        """Go past the next character, which must be one of these."""
        character = self.peek()
        if character not in wanted:
            raise self.fault(f"expected {' or '.join(wanted)}, found {character or 'the end of the file'}", self.at)
        self.at += 1
        return character

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                # The value may be whole once more of the file is read: only at its end it is a fault.
                position = error.pos - self.at
                if self._more():
                    continue
                raise self.fault(error.msg, position) from None
            except RecursionError:
                raise self.fault(TOO_DEEP, self.at) from None
            if end == len(self.buffer) and self._more():  # a number may go on
                continue
            self.at = end
            return value

    def values(self) -> Iterator[Any]:
        """Yield the values of a list that begins here."""
        self.take("[")
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            yield self.value()
            if self.take(",", "]") == "]":
                return

    def fields(self) -> Iterator[str]:
        """Yield the keys of an object that begins here; whoever asks reads each one's value before the next."""
        self.take("{")
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            key = str(self.value())
            self.take(":")
            yield key
            if self.take(",", "}") == "}":
                return

    def fault(self, what: str, position: int) -> PlanError:
        """Return what is wrong at a place of the buffer, with its line and column."""
        # Lines and columns count from the beginning of the file, of which the buffer is a part.
        before = self.buffer[:position]
        line = self.lines + before.count("\n") + 1
        column = position - before.rfind("\n") if "\n" in before else self.column + position + 1
        return PlanError(f"{self.name} line {line:,} column {column:,}: {what}; mend the syntax there")

    def _more(self) -> bool:
        """Read on, at least as much as is still to be understood: a long value is then read a few times, not often."""
        # What was read is dropped, and what it told of lines and columns is kept.
        gone = self.buffer[: self.at]
        self.dropped += len(gone)
        self.column = len(gone) - gone.rfind("\n") - 1 if "\n" in gone else self.column + len(gone)
        self.lines += gone.count("\n")
        kept = self.buffer[self.at :]
        new = self.stream.read(max(CHUNK, len(kept)))
        self.buffer, self.at = kept + new, 0
        return bool(new)
