"""Options of a multiple-choice question and which of them is right, in the ways that files write them. No torch here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.fields.table import ANSWERS, CHOICES, LETTERS
from harness.files.row import Row, json_type, structured

COLUMNS = tuple("ABCDE")
OTHER_ANSWERS = (
    *("gold", "label", "target", "correct", "correct_answer", "correct_option", "correct_choice", "correct_index"),
    *("right_answer", "gold_answer", "gold_index", "ground_truth", "solution_index", "cop"),
)
"""What other tools call the right option."""
LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*(?:[)\].:、]|$)\s*")
"""B, (B), B., B), [B], B: and their small and full-width forms."""
NUMBERED = re.compile(
    r"\s*[(\[]?\s*(?:([A-Za-z])(?:\s*[)\].:、]|\s+[-–—]\s)|(\d{1,2})\s*(?:[)\]、]|\.(?!\d)|:(?!\s*\d)))\s*(?=\S)"
)
"""The letter or number that an option's own text begins with; no decimal number and no ratio."""
LONGEST_PLACE = 10
"""Digits from which on a number names no option; Python reads none of thousands of digits."""
KEY_NAMES, TEXT_NAMES = ("key", "label", "id", "letter"), ("value", "text", "content", "option")


@dataclass(frozen=True)
class Options:
    """The options in the order they are asked in, and what the file calls each: its letter, or a key of its own."""

    texts: tuple[str, ...]
    keys: tuple[str, ...]


def has_options(row: Row) -> bool:
    """Return whether a row brings options to choose from."""
    return row.first(CHOICES) is not None or all(row.has(name) for name in COLUMNS[:2])


def read_options(row: Row) -> Options | None:
    """Return the row's options; None, and a fault, where they cannot be read."""
    names = [name for name in CHOICES if row.has(name)]
    if not names:
        columns = [name for name in COLUMNS if row.has(name)]
        # Options in columns of their own, A to E.
        return _options(row, "A", {name: row.value(name) for name in columns})
    read = [_options(row, name, structured(row.value(name))) for name in names]
    if len(read) == 2 and all(read) and read[0] != read[1]:
        row.fault("has 'choices' and 'options', which mean the same and differ; keep one")
    return read[0]


def _options(row: Row, name: str, value: Any) -> Options | None:
    pairs = _pairs(value)
    if pairs is None or not 2 <= len(pairs) <= len(LETTERS):
        size = f"a list of {len(pairs)}" if pairs else json_type(value)
        row.fault(f"'{name}' is {size}; write a list of 2 to {len(LETTERS)} texts")
        return None

    # Faults of single options are counted, since one of them makes the whole row useless.
    before = len(row.faults)
    texts = tuple(row.checked(f"'{name}' {number}", text) for number, (_, text) in enumerate(pairs, 1))
    if len(row.faults) > before:
        return None
    return Options(texts, tuple(key for key, _ in pairs))


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    """Return (key, text) of each option; letters in order where the file gives no keys.

    Keys that are letters are put in order.
    """
    # Hugging Face's own layout: two lists side by side.
    if isinstance(value, dict) and {"text", "label"} <= value.keys():
        texts = value["text"]
        labels = value["label"]
        if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
            return None
        pairs = [(str(label), text) for label, text in zip(labels, texts, strict=True)]
    elif isinstance(value, dict):
        pairs = [(str(key), text) for key, text in value.items() if text is not None]
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        pairs = [(str(_named(entry, KEY_NAMES)), _named(entry, TEXT_NAMES)) for entry in value]
    elif isinstance(value, list):
        # More options than letters: refused by whoever asks, with their number.
        if len(value) > len(LETTERS):
            return [("", text) for text in value]
        return list(zip(_own_keys(value) or LETTERS, value, strict=False))
    else:
        return None

    # An object's keys may stand in any order; two options of one key cannot be told apart.
    if all(len(key) == 1 and key.upper() in LETTERS for key, _ in pairs):
        pairs = sorted((key.upper(), text) for key, text in pairs) if _texts(pairs) else pairs
    keys = {key for key, _ in pairs}
    return pairs if len(keys) == len(pairs) else None


def _own_keys(texts: Sequence[Any]) -> list[str] | None:
    """Return the letters or numbers that a list's options begin with, if they count up: ["1. x", "2. y"]; else None."""
    matches = [NUMBERED.match(_half_width(text)) if isinstance(text, str) else None for text in texts]
    keys = [(match[1] or match[2]).upper() for match in matches if match]
    # A list in which some options have no key has none at all.
    if len(keys) < len(texts):
        return None

    # Only letters or numbers in a row are names: an option may begin with a number of its own.
    letters = set(LETTERS[: len(texts)])
    from_zero = {str(number) for number in range(len(texts))}
    from_one = {str(number) for number in range(1, len(texts) + 1)}
    return keys if set(keys) in (letters, from_zero, from_one) else None


def unlabelled(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the options without the letters or numbers that they begin with, where these count up: "x" of "A. x"."""
    if not _own_keys(texts):
        return tuple(texts)
    # What follows the label stays as it is written.
    return tuple(text[len(NUMBERED.match(_half_width(text))[0]) :] for text in texts)  # type: ignore[index]


def _half_width(text: str) -> str:
    """Return a text with its full-width characters made plain, each in its place."""
    plain = (unicodedata.normalize("NFKC", character) for character in text)
    return "".join(new if len(new) == 1 else old for new, old in zip(plain, text, strict=True))


def _texts(pairs: Sequence[tuple[str, Any]]) -> bool:
    return all(isinstance(text, str) for _, text in pairs)


def _named(entry: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((entry[name] for name in names if name in entry), None)


def read_choice(row: Row, options: Options) -> int:
    """Return the place of the right option; 0, and a fault, where the row does not tell it, or tells two."""
    names = [name for name in ANSWERS if row.has(name)]
    places = {name: _place(row, name, options) for name in names or ("answer",)}
    readable = {name: index for name, index in places.items() if index is not None}

    # Other tools' names of the same are no answers here, but they must not disagree.
    for name in OTHER_ANSWERS:
        named = _places(row.values.get(name), options)
        if len(named) == 1:
            row.read.add(name)
            readable[name] = named.pop()
    if len({options.texts[index] for index in readable.values()}) > 1:
        fields = " and ".join(f"'{name}' {row.values[name]!r}" for name in readable)
        row.fault(f"{fields} name different options; mend one")

    # Of options that are the same text the first, as scores are equal too.
    right = next(iter(readable.values()), 0)
    return options.texts.index(options.texts[right])


def _place(row: Row, name: str, options: Options) -> int | None:
    """Return where the right option stands, from one field; None, and a fault, where it is not told."""
    value = row.value(name)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    # A blank answer was said already, as a missing field.
    if not is_number and not row.text(name).strip():
        return None
    places = _places(value, options)
    if len(places) == 1:
        return places.pop()
    letters = LETTERS[: len(options.texts)]
    what = "could be " + " or ".join(letters[i] for i in sorted(places)) if places else "is none of the choices"
    row.fault(f"'{name}' {value!r} {what}; give a letter from A to {letters[-1]}, an index from 0, or an option's text")
    return None


def _places(value: Any, options: Options) -> set[int]:
    """Return the options that a value may mean: by letter or key, else by text or index from 0, else as "(B)" or "B."."""
    numbered = set(range(len(options.texts)))
    by_key = {options.keys.index(str(value).strip())} if str(value).strip() in options.keys else set()
    if isinstance(value, int) and not isinstance(value, bool):
        # Both readings stay, and the row is refused if they disagree.
        # "1. x" as 1 may be counted as the texts count, or from 0.
        return by_key if by_key and not _own_keys(options.texts) else by_key | ({value} & numbered)
    if not isinstance(value, str):
        return set()

    if by_key:
        return by_key
    text = value.strip()
    indices = {index for index, option in enumerate(options.texts) if text == option.strip()}
    if text.isdecimal() and len(text) < LONGEST_PLACE and not set(options.keys) & set("0123456789"):
        indices |= {int(text)} & numbered
    return indices or lettered(text, options)


def lettered(text: str, options: Options) -> set[int]:
    """Return the option that "(B)", "B.", "b)" or "B. its text" names; none where it names none."""
    plain = unicodedata.normalize("NFKC", text)
    match = LETTER.match(plain)
    if match is None or match[1].upper() not in options.keys:
        return set()
    index = options.keys.index(match[1].upper())
    rest = plain[match.end() :].strip()

    # What follows the letter must be its own text: "A dog" is no choice of A.
    same = unicodedata.normalize("NFKC", options.texts[index]).strip()
    return {index} if rest in ("", same) else set()
