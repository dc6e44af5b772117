"""Values of fields: whether one says something, and what kind of thing."""

from __future__ import annotations

from itertools import chain
from typing import Any

from harness.text.bounds import as_float

PASSAGE = 8
"""Words of a text from which on it is a passage to be read (a guess)."""
ROLE_NAMES = ("role", "from")
CONTENT_NAMES = ("content", "value")
"""Fields of a message that are read; the next two are those by which one is recognised."""
SPEAKERS = (*ROLE_NAMES, "speaker")
SAYINGS = (*CONTENT_NAMES, "text")


def given(value: Any) -> bool:
    """Return whether a value says anything: blank texts, empty lists, empty objects and null do not."""
    # NaN, which differs from itself, is how csv and parquet leave a cell empty.
    if value is None or value != value:
        return False
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null")
    return not (isinstance(value, (list, dict)) and not value)


NOTHING = frozenset(("nan", "<noinput>", "<no input>", "noinput"))
"""What stands in an optional text that was empty: pandas' NaN written out, and the mark that Self-Instruct has there."""


def is_label(value: str) -> bool:
    """Return whether a text is one word, as names and categories are and no system prompt is; `/no_think` is a switch."""
    return value.strip().isalpha() and value.strip().isascii()


JUDGEMENTS = frozenset(
    (
        *("true", "false", "0", "1", "good", "bad", "right", "wrong", "correct", "incorrect"),
        *("chosen", "rejected", "accepted", "preferred", "desirable", "undesirable"),
    )
)
"""Words by which labels judge an answer."""


def judges(value: Any) -> bool:
    """Return whether a label says that an answer is good or bad: true or false, 0 or 1, or in words."""
    if isinstance(value, str):
        return value.strip().lower() in JUDGEMENTS
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def switches(value: Any) -> bool:
    """Return whether a value turns something on or off: true or false, 0 or 1."""
    return number_of(value) in (0, 1)


def omits(value: Any) -> bool:
    """Return whether a switch that leaves something out is on."""
    return number_of(value) not in (0, None)


def says(value: Any) -> bool:
    """Return whether a value is a text, or holds some."""
    return given(value) and isinstance(value, (str, list, dict))


def weighs(value: Any) -> bool:
    """Return whether a weight is another one than 1."""
    return given(value) and number_of(value) != 1


def lists(value: Any) -> bool:
    """Return whether a value is several texts, also as the JSON in a cell of csv."""
    if isinstance(value, str):
        return value.strip()[:1] in ("[", "{") and given(value)
    return isinstance(value, (list, dict)) and len(value) > 0


def tells(value: Any) -> bool:
    """Return whether a value is a passage to be read, not a file's name or a number: so many words (a guess), or
    several texts.
    """
    return lists(value) or (isinstance(value, str) and len(value.split()) >= PASSAGE)


def converses(value: Any) -> bool:
    """Return whether a value is a conversation: a list of messages, or of pairs of texts."""
    # An empty list says nothing, so it may stay unread.
    if not isinstance(value, list) or not value:
        return False
    return all(_is_message(entry) or _is_pair(entry) for entry in value)


def _is_message(entry: Any) -> bool:
    return isinstance(entry, dict) and any(name in entry for name in SPEAKERS) and any(name in entry for name in SAYINGS)


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(text, str) for text in entry)


def number_of(value: Any) -> float | None:
    """Return a value as a number, also from a csv cell; None where it is none."""
    if isinstance(value, str):
        words = {"true": 1.0, "false": 0.0}
        text = value.strip().lower()
        if text in words:
            return words[text]
        try:
            return float(text)
        except ValueError:
            return None
    return as_float(value) if isinstance(value, (bool, int, float)) else None


def texts(value: Any) -> list[str]:
    """Return the texts in a value, however deep they stand."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return []
    return list(chain.from_iterable(map(texts, value)))


def holds(text: str, part: str) -> bool:
    """Return whether a part stands in a text, blanks aside."""
    return " ".join(part.split()) in " ".join(text.split())
