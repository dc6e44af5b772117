"""What a person sees while a comparison runs: one line a run, and the time left for all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from harness.plan import Plan
from harness.specs import RunSpec

TRAINING_SHARE = 0.7
"""Guess: training's part of a run's time, the rest is evaluation; only the time left depends on it."""


class Progress:
    """Shows the events of runs; as bars in a terminal, as a line a run elsewhere."""

    def __init__(self, specs: Sequence[RunSpec], plan: Plan, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self.plan, self.total, self.begin = plan, len(specs), time.monotonic()
        self.weight = {spec.key: 1.0 if spec.role == "recipe" else 1 - TRAINING_SHARE for spec in specs}
        self.done = dict.fromkeys(self.weight, 0.0)
        self.last: dict[str, str] = {}
        columns = ("{task.description:24.24}", "{task.percentage:3.0f} %", "{task.fields[what]}")
        texts = [TextColumn(column) for column in columns]
        bars = (texts[0], BarColumn(20), *texts[1:], TimeElapsedColumn())
        self.bars = Bars(*bars, console=self.console, disable=not self.console.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.whole = self.bars.add_task("whole comparison", total=1.0, what="", visible=bool(specs))

    def __enter__(self) -> Progress:
        self.bars.start()
        if self.total:
            where = f"{self.plan.out}/{self.plan.name}"
            at_once = f"{self.plan.workers} at a time" if self.plan.workers else f"as many at once as {self.plan.ray} holds"
            self.console.print(f"{self.total} runs, {at_once}; results go to {where}")
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def event(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """One event of one run: starting, training (spent, loss, speed), evaluating, lost (reason), ended; `host`: where."""
        phase, what = event["phase"], event["phase"]
        if spec.key not in self.tasks:
            self.tasks[spec.key] = self.bars.add_task(f"{spec.row} seed {spec.seed}", total=1.0, what="")
        if phase == "training":
            what = f"{event['spent']:4.0%} of budget, loss {event['loss']:.3f}, {event['speed']:,.0f} tokens/s"
            self.last[spec.key] = what
        if phase == "lost":
            self.console.print(f"{spec.row} seed {spec.seed}: {event['reason']}; it is queued again, from its last checkpoint")
        what = f"{what} on {event['host']}" if "host" in event else what
        shares = {"training": TRAINING_SHARE * event.get("spent", 0.0), "evaluating": TRAINING_SHARE, "ended": 1.0}
        self.done[spec.key] = shares.get(phase, 0.0)
        self.bars.update(self.tasks[spec.key], completed=self.done[spec.key], what=what)
        self.bars.update(self.whole, completed=self.share, what=self.left())
        if phase == "ended":
            self.bars.remove_task(self.tasks.pop(spec.key))
            ended = sum(share >= 1 for share in self.done.values())
            what = self.last.get(spec.key, "not trained")
            self.console.print(f"{ended:3d} of {self.total}  {spec.row} seed {spec.seed}: {what}; {self.left()}")

    @property
    def share(self) -> float:
        """Of all work, done so far."""
        return sum(self.weight[key] * done for key, done in self.done.items()) / sum(self.weight.values())

    def left(self) -> str:
        """Time left for the whole comparison."""
        if self.share < 0.02:
            return "time left not known yet"
        seconds = (time.monotonic() - self.begin) * (1 - self.share) / self.share
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
