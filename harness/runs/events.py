"""The events that a run reports while it is made, from any process or machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.vocabulary import EvalKind


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything that a run reports."""

    host: str = ""
    """Name of the machine that makes the run, where there are several."""


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A process begins to make the run."""


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """An optimizer step is done."""

    spent: float
    """Share of the budget, 0 to 1."""
    loss: float
    """Of the step, in nats per token."""
    speed: float
    """Trained tokens per second since the run began or was resumed."""


@dataclass(frozen=True, kw_only=True)
class Evaluating(Event):
    """An evaluation of the finished model begins."""

    kind: EvalKind


@dataclass(frozen=True, kw_only=True)
class Requeued(Event):
    """The run's process was lost: another one goes on from the last checkpoint."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class SetAside(Event):
    """A stored file of the run is damaged: it is set aside and made anew."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The run is over, whatever its status."""

    exitcode: int | None = None
    """Of its process, where it had one of its own here."""


Events = Callable[[Event], None]
"""Receives the events of one run."""
