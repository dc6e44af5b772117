"""Names of fields: how they are spelt, and which known one a misspelt one was meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that a field's name was meant to be: the same but for case, blanks and signs, or one letter off."""
    spelt = plain(name)
    for candidate in names:
        if spelt == plain(candidate):
            return candidate

    # Short names are a letter away from words that mean something else: `text` and `test`.
    long = [candidate for candidate in names if len(candidate) > 4]
    return next((candidate for candidate in long if _one_letter_off(spelt, plain(candidate))), None)


@cache
def plain(name: str) -> str:
    """Return a name in small letters, its words apart: `isCorrect` and `Is correct` are `is_correct`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s_-]+", "_", words.casefold())


def _one_letter_off(first: str, second: str) -> bool:
    """Return whether a letter more, less, changed, or two exchanged, makes one the other."""
    if abs(len(first) - len(second)) > 1 or first == second:
        return False

    # Up to here both are the same; what follows must be, too, but for one letter.
    start = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    if len(first) != len(second):
        longer, shorter = (first, second) if len(first) > len(second) else (second, first)
        return longer[start + 1 :] == shorter[start:]
    exchanged = first[start : start + 2] == second[start : start + 2][::-1] and first[start + 2 :] == second[start + 2 :]
    return exchanged or first[start + 1 :] == second[start + 1 :]
