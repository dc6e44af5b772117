"""Which models tuned elsewhere a plan measures: `name=folder`, several seeds of one recipe as `name=a,b,c`. No torch here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.store.opening import exists

NAMED = re.compile(r"(?P<name>[^=/\\]+)=(?P<places>.*)", re.DOTALL)
TAKEN = ("base", "zero budget", "constant answer", "random choice")
"""Rows that every table has."""


@dataclass(frozen=True)
class MeasuredRow:
    """A row of models tuned elsewhere."""

    row: str
    places: tuple[str, ...]
    """Folders or hub ids, one for each seed of the same recipe."""


def read_measured(text: str) -> tuple[MeasuredRow, ...]:
    """Return the rows that an option `measured` names, separated by spaces; quotes keep a place with a space together.

    Without a name a row is called like its folder. Raises PlanError with all faults.
    """
    # As a shell would, so that a place with a blank can be quoted.
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise PlanError(f"measured {text!r} cannot be read ({error}); close the quotes") from None
    rows = [_row_of(word) for word in words]
    faults = []
    for row in rows:
        if not all(row.places):
            faults.append(f"measured: '{row.row}' names an empty place; give name=folder, or name=a,b for two seeds")
        if row.row in TAKEN:
            faults.append(f"measured: '{row.row}' is a row of every table; give another name, as tuned={row.places[0]}")
    names = [row.row for row in rows]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            cure = f"give each a name of its own, as a=... b=..., or {name}=first,second where they are seeds of one recipe"
            faults.append(f"measured: two rows are called '{name}'; {cure}")
    raise_faults(faults)
    return tuple(rows)


def _row_of(word: str) -> MeasuredRow:
    """Read `name=places` or a place alone; a folder that has `=` in its name is itself."""
    # A folder with an equals sign in its name is itself.
    match = None if exists(Path(word)) else NAMED.fullmatch(word)
    if match:
        return MeasuredRow(match["name"].strip(), _places(match["places"]))
    places = _places(word)
    return MeasuredRow(Path(places[0].rstrip("/")).name or places[0], places)


def _places(text: str) -> tuple[str, ...]:
    """Read places joined by commas; a folder that has one in its name is itself."""
    if exists(Path(text)):
        return (text,)
    return tuple(part.strip() for part in text.split(","))


def plan_options(base: str, tuned: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a plan that measures `tuned` against `base` and trains nothing."""
    return {"data": "", **options, "model": base, "measured": shlex.join(tuned), "recipes": ""}
