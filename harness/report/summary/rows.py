"""The rows of a comparison: a recipe over its seeds, how it ended and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.store.schema import RunEntry
from harness.vocabulary import Role, Status, Track

TRACKS = {track: track.title for track in Track if track.is_ranked}
FIRST = {Role.BASE: 0, Role.CONSTANT: 1, Role.GUESS: 1, Role.CONTROL: 1, Role.UNTRAINED: 1, Role.RECIPE: 2, Role.MEASURED: 3}
"""The order of rows in the table: what recipes are read against stands above them."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a recipe over its seeds."""

    name: str
    role: Role
    track: Track
    status: str
    """`done`, or in words what became of the seeds that did not end well."""
    reasons: tuple[str, ...]
    """Why seeds did not end well, one sentence each."""
    seeds: tuple[int, ...]
    """Seeds that ended well."""
    keys: tuple[str, ...]
    runs: tuple[RunEntry, ...] = field(repr=False)
    """The entries of `Comparison.runs`, failed ones too."""

    @property
    def recipe(self) -> str:
        """The recipe as it ran, with the settings that tuning selected."""
        return str(self.runs[0].get("recipe") or self.name)

    @property
    def done(self) -> bool:
        return bool(self.seeds)

    @property
    def finished(self) -> list[RunEntry]:
        return [run for run in self.runs if run["status"] == Status.DONE]

    def cost(self, *names: str) -> float:
        """Return the mean over finished seeds of a number in `ledger` or `run`; NaN where none has it."""
        # Records of older versions lack some numbers: a mean is over the seeds that have it.
        values = [dig(run, *names) for run in self.finished]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return float(np.mean(numbers)) if numbers else np.nan

    def shares(self, *names: str) -> dict[str, float]:
        """Return the same for a mapping: {name: mean}."""
        keys: set[str] = set()
        for run in self.finished:
            keys.update(dig(run, *names) or {})
        return {key: self.cost(*names, key) for key in sorted(keys)}


def share_names(rows: Iterable[Row], *names: str) -> list[str]:
    """Return the names that these rows have shares of (`Row.shares`), in the order in which they first come."""
    seen: dict[str, None] = {}
    for row in rows:
        seen |= dict.fromkeys(row.shares(*names))
    return list(seen)


def base_of(rows: list[Row]) -> str:
    """Return the name of the base's row."""
    return next((row.name for row in rows if row.role == Role.BASE), "base")


def constant_of(rows: list[Row]) -> str | None:
    """Return the row of the constant answer, None where there is none."""
    return next((row.name for row in rows if row.role == Role.CONSTANT and row.done), None)


def dig(value: Any, *names: str) -> Any:
    """Return a value deep in nested dictionaries, or None."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def rows_of(runs: Iterable[RunEntry]) -> list[Row]:
    """Return the rows of these runs in the order of the table."""
    # The seeds of a recipe are one row, also where some of them did not end.
    grouped: dict[str, list[RunEntry]] = {}
    for run in runs:
        grouped.setdefault(run["row"], []).append(run)
    rows = [_row(name, entries) for name, entries in grouped.items()]
    tracks = list(Track)
    return sorted(rows, key=lambda row: (FIRST[row.role], tracks.index(row.track)))


def _row(name: str, runs: list[RunEntry]) -> Row:
    """Return the row of one recipe's runs."""
    done = [run for run in runs if run["status"] == Status.DONE]
    bad = [run for run in runs if run["status"] != Status.DONE]
    words = Counter(str(run["status"] or "not run").replace("_", " ") for run in bad)
    # One word where all seeds ended alike, else how many did.
    if not bad:
        status = str(Status.DONE)
    elif done:
        status = f"done {len(done)} of {len(runs)}: " + ", ".join(words)
    else:
        status = ", ".join(words)
    reasons = []
    for run in bad:
        reason = dig(run, "status_record", "reason") or "no reason was recorded"
        reasons.append(f"seed {run['seed']}: {reason}")
    first = runs[0]
    return Row(
        name=name,
        role=Role(first.get("role", Role.RECIPE)),
        track=Track(first.get("track") or Track.FREE),
        status=status,
        reasons=tuple(reasons),
        seeds=tuple(run["seed"] for run in done),
        keys=tuple(run["key"] for run in runs),
        runs=tuple(runs),
    )


REFERENCES = ("sft", "low_lr")
"""The two that superiority is claimed over, with Holm's correction over all such comparisons of the table."""


def references_of(rows: list[Row]) -> list[str]:
    """Return the names of the finished rows that others are compared with."""
    plain = {row.name.split("(")[0]: row.name for row in rows if row.role == Role.RECIPE and row.done}
    return [plain[name] for name in REFERENCES if name in plain]
