"""Which known name a misspelt one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LIKENESS = 0.6
"""How alike two names must be, 0 to 1, for one to be taken for a misspelling of the other (difflib's ratio and default)."""


def close_names(name: str, names: Iterable[str], most: int = 1, likeness: float = LIKENESS) -> list[str]:
    """Return at most `most` of the names that are like this one, the closest first."""
    return difflib.get_close_matches(name, list(names), most, likeness)


def did_you_mean(name: str, names: Iterable[str], otherwise: str, most: int = 1, likeness: float = LIKENESS) -> str:
    """Return the cure of a misspelt name: the names that come close as a question, or `otherwise` where none does."""
    close = close_names(name, names, most, likeness)
    if not close:
        return otherwise
    quoted = " or ".join(f"'{each}'" for each in close)
    return f"did you mean {quoted}?"
