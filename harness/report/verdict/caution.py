"""One warning of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NAMED = 6
"""Rows named in one warning; of more their number."""


@dataclass(frozen=True)
class Caution:
    """One warning."""

    text: str
    rows: tuple[str, ...] = ()
    """The rows it is about; none: the whole comparison."""


def first_of(texts: Sequence[str]) -> str:
    """Return the first of the names, and how many more there are."""
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
