"""How long what is left of a comparison will take, from what its runs have taken so far. No torch here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from statistics import mean

from harness.runs.events import Ended, Evaluating, Event, Requeued, Started, Stepped

SOON = 0.02
"""Share of a run's budget after which its pace says something."""


@dataclass
class Timed:
    """One run: how far it has come, and when it got there (seconds of one clock)."""

    trains: bool
    row: str = ""
    """Runs of one row, which differ by their seeds, train at one pace."""
    begun: float | None = None
    first: tuple[float, float] | None = None
    """When its first step here ended, and the share of the budget that was spent then: a run may go on from a checkpoint."""
    spent: float = 0.0
    """Share of the budget."""
    latest: float = 0.0
    """When it had spent that."""
    scoring: float | None = None
    """When the evaluation of the finished model began."""
    ended: float | None = None

    @property
    def starting_seconds(self) -> float | None:
        """Seconds until its first step had ended; None where it has not."""
        return None if self.first is None or self.begun is None else self.first[0] - self.begun

    @property
    def training_seconds(self) -> float | None:
        """Seconds that all of its budget takes at the pace it has trained at; None where that is not known yet."""
        # Measured from the first step on: starting up takes no share of the budget.
        if self.first is not None:
            until, spent = (self.latest, self.spent) if self.scoring is None else (self.scoring, 1.0)
            share = spent - self.first[1]
            if share >= SOON:
                return (until - self.first[0]) / share
        # So few steps that one says nothing: all until the evaluation counts.
        return self.scoring - self.begun if self.trains and self.begun is not None and self.scoring is not None else None

    @property
    def scoring_seconds(self) -> float | None:
        """Seconds that its evaluation took; None where it has not ended."""
        return self.ended - self.scoring if self.ended is not None and self.scoring is not None else None


@dataclass
class Pacing:
    """The runs of a comparison by key, `workers` of them at once."""

    workers: int
    runs: dict[str, Timed] = field(default_factory=dict)
    scored: Sequence[float] = ()
    """Seconds that evaluations of runs took which are stored already: what is expected until one ends here."""

    def note(self, key: str, event: Event, now: float | None = None) -> None:
        """Take down an event of a run; one that is queued again begins again."""
        now = time.monotonic() if now is None else now
        run = self.runs[key]
        match event:
            case Started() | Requeued():
                self.runs[key] = Timed(run.trains, run.row, now)
            case Stepped():
                run.first = run.first or (now, event.spent)
                run.spent = event.spent
                run.latest = now
            case Evaluating():
                # The first of several evaluations: what follows training is timed as one.
                run.scoring = run.scoring or now
            case Ended():
                run.ended = now

    def seconds_left(self, now: float | None = None) -> float | None:
        """Return seconds until all runs have ended; None while nothing says how long training or evaluating takes.

        A run that has not shown its own pace is expected to take its row's mean, or else that of all.
        """
        now = time.monotonic() if now is None else now

        # Runs that train are scored more often: their mean is better where it is known.
        scoring = _mean(run.scoring_seconds for run in self.runs.values() if run.trains)
        scoring = scoring or _mean(run.scoring_seconds for run in self.runs.values()) or _mean(self.scored)
        training = _mean(run.training_seconds for run in self.runs.values())
        starting = _mean(run.starting_seconds for run in self.runs.values()) or 0.0
        rows = self._row_paces()
        under_way, waiting = [], []
        for run in self.runs.values():
            if run.ended is not None:
                continue

            # Nothing to estimate from yet: no number is better than a guess that jumps.
            pace = run.training_seconds or rows.get(run.row) or training
            if scoring is None or (run.trains and run.scoring is None and pace is None):
                return None
            left = waiting if run.begun is None and run.scoring is None else under_way
            if run.scoring is not None:
                left.append(max(0.0, scoring - (now - run.scoring)))
            elif not run.trains:
                left.append(scoring)
            else:
                left.append(_training_left(run, starting, pace or 0.0, now) + scoring)
        return _all_ended(under_way, waiting, self.workers)

    def _row_paces(self) -> dict[str, float]:
        """Return the mean seconds of training of each row that has shown a pace."""
        paces: dict[str, list[float]] = {}
        for run in self.runs.values():
            if run.training_seconds is not None:
                paces.setdefault(run.row, []).append(run.training_seconds)
        return {row: mean(seconds) for row, seconds in paces.items()}


def _all_ended(under_way: Sequence[float], waiting: Sequence[float], workers: int) -> float:
    """Return seconds until all runs have ended: each that waits begins, in its turn, as soon as a worker is free."""
    free = [*under_way, *[0.0] * (max(1, workers) - len(under_way))]
    heapify(free)
    for seconds in waiting:
        heapreplace(free, free[0] + seconds)
    return max(free)


def _training_left(run: Timed, starting: float, pace: float, now: float) -> float:
    """Return seconds until the training of a run ends, at `pace` seconds for all of the budget."""
    if run.begun is None:
        return starting + pace
    if run.first is None:
        return max(0.0, starting - (now - run.begun)) + pace
    return max(0.0, pace * (1 - run.spent) - (now - run.latest))


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return mean(numbers) if numbers else None


def spoken_time(seconds: float) -> str:
    """Return minutes from a minute and a half on, else seconds."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
