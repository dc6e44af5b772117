"""The rows of a comparison: a recipe over its seeds, how it ended and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TRACKS = {"free": "without general data", "general": "with general data"}


@dataclass(frozen=True)
class Row:
    """One line of the table: a recipe over its seeds."""

    name: str
    role: str
    track: str
    status: str
    reasons: tuple[str, ...]
    """Why seeds did not end well, one sentence each."""
    seeds: tuple[int, ...]
    """Seeds that ended well."""
    keys: tuple[str, ...]
    runs: tuple[dict[str, Any], ...] = field(repr=False)
    """The entries of `Comparison.runs`, failed ones too."""

    @property
    def recipe(self) -> str:
        """The recipe as it ran, with the settings that tuning selected."""
        return str(self.runs[0].get("recipe") or self.name)

    @property
    def done(self) -> bool:
        return bool(self.seeds)

    @property
    def finished(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["status"] == "done"]

    def cost(self, *names: str) -> float:
        """Mean over finished seeds of a number in `ledger` or `run`; NaN where none has it."""
        found = [dig(run, *names) for run in self.finished]
        known = [float(value) for value in found if isinstance(value, (int, float))]
        return float(np.mean(known)) if known else np.nan

    def shares(self, *names: str) -> dict[str, float]:
        """The same for a mapping: {name: mean}."""
        names_found = sorted({key for run in self.finished for key in dig(run, *names) or {}})
        return {key: self.cost(*names, key) for key in names_found}


def base_of(rows: list[Row]) -> str:
    return next((row.name for row in rows if row.role == "base"), "base")


def constant_of(rows: list[Row]) -> str | None:
    """The row of the constant answer, where there is one."""
    return next((row.name for row in rows if row.role == "constant" and row.done), None)


def dig(value: Any, *names: str) -> Any:
    """A value deep in nested dictionaries, or None."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def rows_of(runs: Iterable[dict[str, Any]]) -> list[Row]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        grouped.setdefault(run["row"], []).append(run)
    order = {"base": 0, "constant": 1, "guess": 1, "control": 1, "untrained": 1}
    rows = [_row(name, entries) for name, entries in grouped.items()]
    return sorted(rows, key=lambda row: (order.get(row.role, 2), list(TRACKS).index(row.track)))


def _row(name: str, runs: list[dict[str, Any]]) -> Row:
    first, done = runs[0], [run for run in runs if run["status"] == "done"]
    bad = [run for run in runs if run["status"] != "done"]
    words = Counter(str(run["status"] or "not run").replace("_", " ") for run in bad)
    if not bad:
        status = "done"
    elif done:
        status = f"done {len(done)} of {len(runs)}: " + ", ".join(words)
    else:
        status = ", ".join(words)
    reasons = [
        f"seed {run['seed']}: {dig(run, 'status_record', 'reason') or 'no reason was recorded'}" for run in bad
    ]  # fmt: skip
    track = first.get("track") if first.get("track") in TRACKS else "free"
    seeds, keys = tuple(run["seed"] for run in done), tuple(run["key"] for run in runs)
    return Row(name, first.get("role", "recipe"), str(track), status, tuple(reasons), seeds, keys, tuple(runs))
