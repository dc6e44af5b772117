"""What a person sees while a comparison runs: each run's state, its scores when it ends, and the time left for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from harness.doing import doing, said
from harness.plan.plan import Plan
from harness.runs.pacing import Pacing, Timed, spoken_time
from harness.setup.specs import RunSpec

Result = Callable[[RunSpec], dict[str, float] | None]
"""Gives the mean scores of a run that has ended, from 0 to 1: `domain` and `retention`; None where it has none."""


class Progress:
    """Shows the events of runs: as bars in a terminal, elsewhere as a line every few seconds (harness/doing.py).

    A run that ends has a line of its own, with its scores.
    """

    def __init__(self, specs: Sequence[RunSpec], plan: Plan, quiet: bool = False, result: Result = lambda _: None):
        self.console = Console(stderr=True, quiet=quiet)
        self.plan, self.total, self.result = plan, len(specs), result
        self.pacing = Pacing(plan.workers or 1, {spec.key: Timed(spec.role == "recipe") for spec in specs})
        self.now: dict[str, str] = {}
        """What each run that is under way is doing."""
        self.last: dict[str, str] = {}
        columns = ("{task.description:24.24}", "{task.percentage:3.0f} %", "{task.fields[what]}")
        texts = [TextColumn(column) for column in columns]
        bars = (texts[0], BarColumn(20), *texts[1:], TimeElapsedColumn())
        self.bars = Bars(*bars, console=self.console, disable=not self.console.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.whole = self.bars.add_task("whole comparison", total=max(1, self.total), what="", visible=bool(specs))

    def __enter__(self) -> Progress:
        doing("" if self.console.is_terminal else self.state)
        self.bars.start()
        if self.total:
            where = f"{self.plan.out}/{self.plan.name}"
            at_once = f"{self.plan.workers} at a time" if self.plan.workers else f"as many at once as {self.plan.ray} holds"
            self._print(f"{self.total} runs, {at_once}; results go to {where}")
        return self

    def __exit__(self, *_: object) -> None:
        doing("")
        self.bars.stop()

    def event(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """One event of a run: starting, training (spent, loss, speed), evaluating (what), lost, damaged (reason), ended; `host`."""
        phase, name = event["phase"], f"{spec.row} seed {spec.seed}"
        if spec.key not in self.tasks:
            self.tasks[spec.key] = self.bars.add_task(name, total=1.0, what="")
        what = f"evaluating: {event['what']}" if "what" in event else phase
        if phase == "training":
            what = f"{event['spent']:4.0%} of budget, loss {event['loss']:.3f}, {event['speed']:,.0f} tokens/s"
            self.last[spec.key] = what
        if phase == "lost":
            self._print(f"{name}: {event['reason']}; it is queued again, from its last checkpoint")
        if phase == "damaged":
            self._print(f"{name}: {event['reason']}; it is set aside, and made anew")
        what = f"{what} on {event['host']}" if "host" in event else what
        self.pacing.note(spec.key, phase, event.get("spent", 0.0))
        self.now[spec.key] = f"{name}: {what.strip()}"
        self.bars.update(self.tasks[spec.key], completed=self.pacing.runs[spec.key].spent, what=what)
        self.bars.update(self.whole, completed=self.ended, what=self.left())
        if phase == "ended":
            self.bars.remove_task(self.tasks.pop(spec.key))
            self.now.pop(spec.key)
            self._print(f"{self.ended:3d} of {self.total}  {name:24}  {self._scores(spec)}; {self.left()}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        said()

    def _scores(self, spec: RunSpec) -> str:
        """A finished run's mean scores in points, and how its training ended."""
        scores, trained = self.result(spec), self.last.get(spec.key, "not trained").strip()
        if scores is None:
            return trained
        return f"domain {100 * scores['domain']:5.1f}  general {100 * scores['retention']:5.1f}  ({trained})"

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return sum(run.ended is not None for run in self.pacing.runs.values())

    def state(self) -> str:
        """All that is under way, in one line."""
        busy = list(self.now.values()) or ["the base and the evaluations are made ready, once for all runs"]
        return "; ".join([f"{self.ended} of {self.total} runs ended", *busy, self.left()])

    def left(self) -> str:
        """Time left for the whole comparison."""
        seconds = self.pacing.seconds_left()
        return "time left not known yet" if seconds is None else f"about {spoken_time(seconds)} left"
