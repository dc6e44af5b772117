"""The form of evidence, as its JSON file holds it: measures with their items, and the runs' scores and exact figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from harness.vocabulary import Role

Figures = dict[str, Any]
"""Exact figures of a run by name: numbers, hashes, and lists of runs; see harness/gate/exact.py."""
ItemScores = list[float | int | None]
"""Scores in the order of a measure's items; None where an item has none."""


class Measure(TypedDict):
    """A metric of a task."""

    task: str
    metric: str
    family: str
    group: str
    seen: bool | None
    """Whether the items stand in training data; None where that is not known."""
    channel: str
    primary: bool
    higher_better: bool | None
    chance: float
    """Mean score of a guess."""
    items: list[str]
    clusters: list[str]
    """The cluster of each item."""


class RunEvidence(TypedDict):
    """One run: how it ended, its exact figures, and its scores by measure."""

    status: str | None
    reason: str | None
    exact: Figures
    scores: dict[str, ItemScores]


class RowEvidence(TypedDict):
    """One row of a comparison: its runs by seed, which JSON holds as text."""

    role: str
    track: str
    seeds: dict[str, RunEvidence]


class Evidence(TypedDict):
    """What a comparison measured."""

    layout: int
    schema_version: int
    protocol: int
    question: Mapping[str, Any]
    where: Mapping[str, Any]
    """The machine, the packages and the commit."""
    device: str
    measures: dict[str, Measure]
    rows: dict[str, RowEvidence]


class Level(TypedDict):
    """What the page of a baseline says of a row's metric: points against the base, or the level itself."""

    value: float
    low: float
    high: float
    floor: float
    """Noise floor in points."""


class Machine(TypedDict):
    """What the bits of a result depend on beside the code."""

    processor: str | None
    cpu_capability: str | None
    torch: str | None
    threads: int | None
    device: str | None


def items_of(evidence: Evidence, measure: str) -> list[str]:
    """Return the items of a measure; none where the evidence lacks it."""
    return evidence["measures"][measure]["items"] if measure in evidence["measures"] else []


def base_of(evidence: Evidence) -> str:
    """Return the name of the base's row."""
    return next(name for name, row in evidence["rows"].items() if row["role"] == Role.BASE)
