"""How long what is left of a comparison will take, from what its runs have taken so far. No torch here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean

from harness.runs.events import Ended, Evaluating, Event, Requeued, Started, Stepped

SOON = 0.02
"""Share of a run's budget after which its pace says something."""


@dataclass
class Timed:
    """One run: how far it has come, and when it got there (seconds of one clock)."""

    trains: bool
    begun: float | None = None
    spent: float = 0.0
    """Share of the budget."""
    latest: float = 0.0
    """When it had spent that."""
    scoring: float | None = None
    """When the evaluation of the finished model began."""
    ended: float | None = None

    @property
    def training_seconds(self) -> float | None:
        """Seconds that its whole training takes at its own pace; None where that is not known yet."""
        if not self.trains or self.begun is None:
            return None
        # Training has ended, so its time is known; before that, it is read off the share that is
        # spent.
        if self.scoring is not None:
            return self.scoring - self.begun
        return (self.latest - self.begun) / self.spent if self.spent >= SOON else None

    @property
    def scoring_seconds(self) -> float | None:
        """Seconds that its evaluation took; None where it has not ended."""
        return self.ended - self.scoring if self.ended is not None and self.scoring is not None else None


@dataclass
class Pacing:
    """The runs of a comparison by key, `workers` of them at once."""

    workers: int
    runs: dict[str, Timed] = field(default_factory=dict)

    def note(self, key: str, event: Event, now: float | None = None) -> None:
        """Take down an event of a run; one that is queued again begins again."""
        now = time.monotonic() if now is None else now
        run = self.runs[key]
        match event:
            case Started() | Requeued():
                self.runs[key] = Timed(run.trains, now)
            case Stepped():
                run.spent = event.spent
                run.latest = now
            case Evaluating():
                # The first of several evaluations: what follows training is timed as one.
                run.scoring = run.scoring or now
            case Ended():
                run.ended = now

    def seconds_left(self, now: float | None = None) -> float | None:
        """Return seconds until all runs have ended; None while nothing says how long training or evaluating takes.

        A run that has not shown its own pace is expected to take the others' mean.
        """
        now = time.monotonic() if now is None else now

        # Runs that train are scored more often: their mean is better where it is known.
        scoring = _mean(run.scoring_seconds for run in self.runs.values() if run.trains)
        scoring = scoring or _mean(run.scoring_seconds for run in self.runs.values())
        training = _mean(run.training_seconds for run in self.runs.values())
        left = []
        for run in self.runs.values():
            if run.ended is not None:
                continue

            # A run that has not shown its own pace is expected to take the others' mean.
            pace = run.training_seconds or training
            if scoring is None or (run.trains and pace is None):
                # Nothing to estimate from yet: no number is better than a guess that jumps.
                return None
            if run.scoring is not None:
                left.append(max(0.0, scoring - (now - run.scoring)))
            else:
                left.append((pace or 0.0) * (1 - run.spent) * run.trains + scoring)

        # Neither sooner than all work shared among the workers, nor than the longest run.
        return max(sum(left) / max(1, self.workers), max(left, default=0.0))


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return mean(numbers) if numbers else None


def spoken_time(seconds: float) -> str:
    """Minutes from a minute and a half on, else seconds."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
