"""What a person sees while a comparison runs: one line a run, and the time left for all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from harness.material import RunSpec
from harness.plan import Plan

TRAINING_SHARE = 0.7
"""Guess: training's part of a run's time, the rest is evaluation; only the time left depends on it."""


class Progress:
    """Shows the events of runs; as bars in a terminal, as lines elsewhere."""

    def __init__(self, specs: Sequence[RunSpec], plan: Plan, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self.plan, self.total, self.begin = plan, len(specs), time.monotonic()
        self.done: dict[str, float] = {spec.key: 0.0 for spec in specs}
        columns = (
            TextColumn("{task.description:24.24}"),
            BarColumn(20),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[what]}"),
        )
        self.bars = Bars(*columns, TimeElapsedColumn(), console=self.console, disable=not self.console.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.whole = self.bars.add_task("whole comparison", total=1.0, what="") if specs else None

    def __enter__(self) -> Progress:
        self.bars.start()
        if self.total:
            self.console.print(
                f"{self.total} runs, {self.plan.workers} at a time; results go to {self.plan.out}/{self.plan.name}"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def event(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """One event of one run: starting, training (spent, loss, speed), evaluating, ended."""
        label = f"{spec.row} seed {spec.seed}"
        if event["phase"] == "starting":
            self.tasks[spec.key] = self.bars.add_task(label, total=1.0, what="starting")
        share = {"starting": 0.0, "evaluating": TRAINING_SHARE, "ended": 1.0}.get(
            event["phase"], TRAINING_SHARE * event.get("spent", 0.0)
        )
        self.done[spec.key] = min(share, 1.0)
        what = event["phase"]
        if what == "training":
            what = f"loss {event['loss']:.3f}, {event['speed']:,.0f} tokens/s"
        self.bars.update(self.tasks[spec.key], completed=share, what=what)
        if self.whole is not None:
            self.bars.update(self.whole, completed=sum(self.done.values()) / self.total, what=self.left())
        if event["phase"] == "ended":
            self.bars.remove_task(self.tasks[spec.key])
            ended = sum(share >= 1 for share in self.done.values())
            self.console.print(f"{ended:3d} of {self.total}  {label}: ended; {self.left()}")

    def left(self) -> str:
        """Time left, from the share of all work done so far."""
        share = sum(self.done.values()) / max(self.total, 1)
        if share < 0.02:
            return "time left: not known yet"
        seconds = (time.monotonic() - self.begin) * (1 - share) / share
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
