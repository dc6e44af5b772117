"""What a person sees while a comparison runs: each run's state, its scores when it ends, and the time left for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from harness.doing import doing, said
from harness.plan.settings import Settings
from harness.runs.events import Ended, Evaluating, Event, Requeued, SetAside, Started, Stepped
from harness.runs.pacing import Pacing, Timed, spoken_time
from harness.setup.specs import RunSpec
from harness.vocabulary import Role

Result = Callable[[RunSpec], dict[str, float] | None]
"""Gives the mean scores of a run that has ended, from 0 to 1: `domain` and `retention`; None where it has none."""


class Progress:
    """Shows the events of runs: as bars in a terminal, elsewhere as a line every few seconds (harness/doing.py).

    A run that ends has a line of its own, with its scores.
    """

    def __init__(self, specs: Sequence[RunSpec], plan: Settings, quiet: bool = False, result: Result = lambda _: None):
        self.console = Console(stderr=True, quiet=quiet)
        self.plan, self.total, self.result = plan, len(specs), result

        # Only runs that train are timed by the share of the budget that they have spent.
        self.pacing = Pacing(plan.workers or 1, {spec.key: Timed(spec.role == Role.RECIPE) for spec in specs})
        self.now: dict[str, str] = {}
        """What each run that is under way is doing."""
        self.last: dict[str, str] = {}

        # Fixed widths: bars that jump cannot be read.
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

    def event(self, spec: RunSpec, event: Event) -> None:
        """Show an event of a run."""
        name = f"{spec.row} seed {spec.seed}"
        if spec.key not in self.tasks:
            self.tasks[spec.key] = self.bars.add_task(name, total=1.0, what="")
        what = _words(event)
        if isinstance(event, Stepped):
            self.last[spec.key] = what
        if isinstance(event, Requeued):
            self._print(f"{name}: {event.reason}; it is queued again, from its last checkpoint")
        if isinstance(event, SetAside):
            self._print(f"{name}: {event.reason}; it is set aside and made anew")
        if event.host:
            what = f"{what} on {event.host}"
        self.pacing.note(spec.key, event)
        self.now[spec.key] = f"{name}: {what.strip()}"
        self.bars.update(self.tasks[spec.key], completed=self.pacing.runs[spec.key].spent, what=what)

        # The share of the whole is of runs, since their lengths are not known.
        self.bars.update(self.whole, completed=self.ended, what=self.left())
        if isinstance(event, Ended):
            self.bars.remove_task(self.tasks.pop(spec.key))
            self.now.pop(spec.key)
            self._print(f"{self.ended:3d} of {self.total}  {name:24}  {self._scores(spec)}; {self.left()}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        said()

    def _scores(self, spec: RunSpec) -> str:
        """Return a finished run's mean scores in points, and how its training ended."""
        scores, trained = self.result(spec), self.last.get(spec.key, "not trained").strip()
        # A run that failed has no scores: what it said last stands for them.
        if scores is None:
            return trained
        return f"domain {100 * scores['domain']:5.1f}  general {100 * scores['retention']:5.1f}  ({trained})"

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return sum(run.ended is not None for run in self.pacing.runs.values())

    def state(self) -> str:
        """Return all that is under way, in one line."""
        busy = list(self.now.values()) or ["the base and the evaluations are made ready, once for all runs"]
        return "; ".join([f"{self.ended} of {self.total} runs ended", *busy, self.left()])

    def left(self) -> str:
        """Time left for the whole comparison."""
        seconds = self.pacing.seconds_left()
        return "time left not known yet" if seconds is None else f"about {spoken_time(seconds)} left"


def _words(event: Event) -> str:
    """Return what a run is doing, in a few words."""
    match event:
        case Started() | SetAside():
            return "starting"
        case Stepped():
            return f"{event.spent:4.0%} of budget, loss {event.loss:.3f}, {event.speed:,.0f} tokens/s"
        case Evaluating():
            return f"evaluating: {event.kind}"
        case Requeued():
            return "lost"
        case _:
            return "ended"
