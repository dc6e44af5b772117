"""What a number or a word given by a user may be: intervals in the usual notation, or a list of words. No torch.

`(0, inf)` is above 0, `[0, 1]` from 0 to 1, `[1, inf)` 1 or more. An open end at `inf` excludes infinity. NaN is never inside.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

Bound = str | tuple[str, ...]
"""An interval, or the words among which one is chosen."""
_INTERVAL = re.compile(r"([\[(])\s*(-?[\d.]+|-inf)\s*,\s*(-?[\d.]+|inf)\s*([\])])")


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; an end is inside where it is closed."""

    low: float
    high: float
    low_closed: bool
    high_closed: bool

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.low_closed else value > self.low
        below = value <= self.high if self.high_closed else value < self.high
        return above and below

    def __str__(self) -> str:
        # Said as a person would: an end at infinity is no end.
        if self.low == float("-inf"):
            return "any number" if self.high == float("inf") else f"{'at most' if self.high_closed else 'below'} {self.high:g}"
        if self.high == float("inf"):
            return f"{self.low:g} or more" if self.low_closed else f"above {self.low:g}"
        above = f"from {self.low:g}" if self.low_closed else f"above {self.low:g}"
        joined = "to" if self.low_closed else "and up to"
        return f"{above} {joined} {self.high:g}" if self.high_closed else f"{above} {joined} below {self.high:g}"


@cache
def read_interval(text: str) -> Interval:
    """Return the interval of this notation. Raises ValueError."""
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no interval; write it as (0, inf) or [0, 1]")
    return Interval(float(match[2]), float(match[3]), match[1] == "[", match[4] == "]")


def as_float(number: float) -> float:
    """Return a number as a float; a whole number beyond all floats is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def describe_bound(bound: Bound) -> str:
    """Return a bound as a cell of a Markdown table."""
    return ", ".join(f"`{word}`" for word in bound) if isinstance(bound, tuple) else str(read_interval(bound))


def bound_fault(name: str, value: Any, bound: Bound) -> str:
    """Return what is wrong with a value, in words; empty where nothing is. Words are not held against an interval, nor numbers
    against a list of words: of which type a value is, is another rule."""
    if isinstance(bound, tuple):
        if isinstance(value, str) and value not in bound:
            listed = ", ".join(bound[:-1])
            return f"{name} is {listed} or {bound[-1]}, not {value!r}" if listed else f"{name} is {bound[0]}, not {value!r}"
        return ""

    # True and False are ints to Python, and no numbers to a user.
    if isinstance(value, int | float) and not isinstance(value, bool):
        interval = read_interval(bound)
        number = as_float(value)
        if number not in interval:
            finite = "" if math.isfinite(number) or interval.high_closed else " and finite"
            shown = value if math.isfinite(number) or isinstance(value, float) else "a number of so many digits"
            return f"{name} must be {interval}{finite}, not {shown}"
    return ""
