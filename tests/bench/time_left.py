"""How right is the time left that a running comparison says? `python -m tests.bench.time_left RESULTS/NAME`

The runs of a finished comparison are played again from their logs, one after the other on a clock of their own, to what says
the time left (`harness/runs/pacing.py`): when each began, when each of its steps had ended, when its evaluation began and
ended. What was said at each of these moments is held against what it took from there. Time between two runs is left out, and
so are runs that another command evaluated later: they are no part of one comparison's time.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.runs.events import Ended, Evaluating, Event, Started, Stepped
from harness.runs.pacing import Pacing, Timed
from harness.store.files import read_json
from harness.vocabulary import EvalKind

NEAR = 0.25
"""What is said may be so much of the time that it took too long or too short."""
AT_ONCE = 600.0
"""Seconds after its training in which a run is evaluated, if the same command evaluates it (a guess)."""
PARTS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.95))
"""Of the comparison's whole time. Its very end is left out: there a second is much."""


@dataclass(frozen=True)
class Moment:
    """An event of a run, at a time in seconds of the comparison's clock."""

    at: float
    key: str
    event: Event


@dataclass(frozen=True)
class Guess:
    """What was said at a time, and what it took (seconds)."""

    at: float
    said: float | None
    took: float

    @property
    def error(self) -> float | None:
        """Share of the time it took; positive where too much was said."""
        return None if self.said is None else self.said / self.took - 1


@dataclass(frozen=True)
class Stored:
    """A stored run, and the time of its training and of its evaluation (seconds since the epoch)."""

    folder: Path
    trains: bool
    row: str
    started: float
    ended: float
    scored: float


def stored_runs(comparison: Path) -> list[Stored]:
    """Return the comparison's runs that were trained and evaluated by one command, in the order in which they began."""
    runs = []
    for row in read_json(comparison / "comparison.json")["rows"]:
        folder = comparison.parent / "runs" / row["key"]
        happened = read_json(folder / "run.json")["happened"]
        started, ended = (datetime.fromisoformat(happened[name]).timestamp() for name in ("started", "ended"))
        scores = [folder / "evals" / f"{kind}-{name}.parquet" for kind, name in row["evals"].items()]
        scored = max(path.stat().st_mtime for path in scores if path.exists())
        if scored - ended < AT_ONCE:
            runs.append(Stored(folder, row["role"] == "recipe", row["row"], started, ended, scored))
    return sorted(runs, key=lambda run: run.started)


def moments_of(run: Stored, begin: float) -> list[Moment]:
    """Return the events of a stored run that begins at `begin`."""
    key = run.folder.name
    moments = [Moment(begin, key, Started())]

    # A step's seconds end with it; what the run took beside its steps came before the first (models, preparation) or after.
    log = run.folder / "log.jsonl"
    steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    steps = [step for step in steps if "spent" in step and "seconds" in step]
    before = max(0.0, (run.ended - run.started) - sum(step["seconds"] for step in steps))
    at = begin + before
    for step in steps:
        at += step["seconds"]
        moments.append(Moment(at, key, Stepped(spent=step["spent"], loss=step["loss"], speed=0.0)))
    moments.append(Moment(at, key, Evaluating(kind=EvalKind.FINAL)))
    moments.append(Moment(at + run.scored - run.ended, key, Ended()))
    return moments


def replayed(comparison: Path) -> list[Guess]:
    """Return what was said at each moment of the comparison."""
    runs = stored_runs(comparison)
    moments: list[Moment] = []
    for run in runs:
        moments += moments_of(run, moments[-1].at if moments else 0.0)
    pacing = Pacing(1, {run.folder.name: Timed(run.trains, run.row) for run in runs})
    guesses = []
    for moment in moments:
        pacing.note(moment.key, moment.event, moment.at)
        took = moments[-1].at - moment.at
        if took > 0:
            guesses.append(Guess(moment.at, pacing.seconds_left(moment.at), took))
    return guesses


def table(guesses: list[Guess]) -> str:
    """Return a line for each part of the comparison: how far off what was said is, and how often it is near."""
    whole = guesses[-1].at + guesses[-1].took
    lines = [f"{whole:,.0f} s in all", "part of the time   moments   silent   middle error   within 25 %"]
    for low, high in PARTS:
        part = [guess for guess in guesses if low * whole <= guess.at < high * whole]
        errors = sorted(guess.error for guess in part if guess.error is not None)
        near = sum(abs(error) <= NEAR for error in errors)
        middle = f"{errors[len(errors) // 2]:+.0%}" if errors else "-"
        share = f"{near / len(errors):.0%}" if errors else "-"
        lines.append(f"{low:4.0%} to {high:4.0%} {len(part):14} {len(part) - len(errors):8} {middle:>14} {share:>13}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(replayed(Path(sys.argv[1]))))
