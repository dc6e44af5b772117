"""What a person sees while a comparison runs: one screen with every run, its scores when it ends, and the time left for all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.doing import doing, said
from harness.plan.settings import Settings
from harness.runs.events import Ended, Evaluating, Event, Requeued, SetAside, Started, Stepped
from harness.runs.pacing import Pacing, Timed, spoken_time
from harness.setup.specs import RunSpec
from harness.vocabulary import Role

Result = Callable[[RunSpec], dict[str, float] | None]
"""Gives the mean scores of a run that has ended, from 0 to 1: `domain` and `retention`; None where it has none."""

LINE = 79
"""Characters of a plain line at most, where its words allow it."""
WIDE = 104
"""Columns of a terminal from which speeds and machines are shown too."""
STATE = {False: 27, True: 51}
"""Columns for what a run is doing, on a narrow screen and on a wide one; what is left is for its name."""
BESIDE = 4 + 6 + 7 + 4 * 2
"""Columns that seed, scores and the gaps between columns take."""


@dataclass
class _Run:
    """One run's line of the screen."""

    row: str
    seed: int
    state: str = "waiting"
    """What it is doing, in a few words; empty while it trains, since the bar says so."""
    loss: float | None = None
    speed: float | None = None
    """Trained tokens per second."""
    host: str = ""
    scores: dict[str, float] | None = None
    waits: bool = True

    @property
    def name(self) -> str:
        return f"{self.row} seed {self.seed}"


class Progress:
    """Shows the events of runs: as a screen in a terminal, elsewhere as plain lines every few seconds (harness/doing.py)."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        plan: Settings,
        quiet: bool = False,
        result: Result = lambda _: None,
        scored: Sequence[float] = (),
    ):
        """`scored`: seconds that the evaluations of stored runs took."""
        self.console = Console(stderr=True, quiet=quiet)
        self.plan, self.result = plan, result
        self.runs = {spec.key: _Run(spec.row, spec.seed) for spec in specs}
        self.pacing = Pacing(plan.workers or 1, {spec.key: Timed(spec.role == Role.RECIPE, spec.row) for spec in specs}, scored)
        self.begun = time.monotonic()
        self.live: Live | None = None

    def __enter__(self) -> Progress:
        on_screen = self.console.is_terminal
        doing("" if on_screen else self.state)
        self.begun = time.monotonic()
        if not self.runs:
            return self
        at_once = f"{self.plan.workers} at a time" if self.plan.workers else f"as many at once as {self.plan.ray} holds"
        self._print(f"{self.total} runs, {at_once}; ", f"results go to {self.plan.out}/{self.plan.name}")
        if on_screen:
            self.live = Live(get_renderable=self.screen, console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        doing("")
        if self.live is not None:
            # What stays on the terminal is the whole table, however long it is.
            self.live.vertical_overflow = "visible"
            self.live.stop()
            self.live = None

    def event(self, spec: RunSpec, event: Event) -> None:
        """Show an event of a run."""
        run = self.runs[spec.key]
        run.waits = False
        run.host = event.host or run.host
        self.pacing.note(spec.key, event)
        match event:
            case Started():
                run.state = "starting"
            case Stepped():
                run.state, run.loss, run.speed = "", event.loss, event.speed
            case Evaluating():
                run.state = f"evaluating: {event.kind}"
            case Requeued():
                run.state = "lost, queued again"
                self._print(f"{run.name}: {event.reason}; ", "it is queued again, from its last checkpoint")
            case SetAside():
                run.state = "starting"
                self._print(f"{run.name}: {event.reason}; ", "it is set aside and made anew")
            case Ended():
                run.state = "done" if run.loss is None else "trained"
                run.scores = self.result(spec)
                # A live screen shows it already.
                if self.live is None:
                    self._print(f"{self.ended:3d} of {self.total}  {run.name:24}", f"  {_said_scores(run)}; {self.left()}")

    # --- what is shown ---------------------------------------------------------------------------------------------------

    def screen(self) -> Group:
        """Return the screen as it is now: the whole comparison's bar, then a line for each run."""
        width = self.console.width
        wide = width >= WIDE
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for head in ("run", "seed", "state", "domain", "general"):
            right = head not in ("run", "state")
            table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
        shown, waiting = self._shown()
        # Names are cut to what the numbers leave of the line.
        room = max(12, width - BESIDE - STATE[wide])
        for key in shown:
            run = self.runs[key]
            scores = run.scores or {}
            cells = [shortened(run.row, room), str(run.seed), self._state(key, wide), *_points(scores)]
            table.add_row(*(Text(cell, style="dim" if run.waits else "") for cell in cells))
        more = [Text(f"and {waiting} more")] if waiting else []
        return Group(Text(self._whole(width)), table, *more)

    def _whole(self, width: int) -> str:
        """Return the bar of the whole comparison, with the time left."""
        # By time where it is known, since runs differ in length; by the number of ended runs before.
        spent = time.monotonic() - self.begun
        left = self.pacing.seconds_left()
        share = self.ended / max(1, self.total) if left is None else spent / max(1e-9, spent + left)
        if self.ended == self.total:
            share = 1.0
        text = f"{self.ended} of {self.total} runs, {self.left()}, {spoken_time(spent)} so far"
        return f"{self._bar(share, max(8, min(30, width - len(text) - 2)))} {text}"

    def _state(self, key: str, wide: bool) -> str:
        """Return what a run is doing: a bar and its loss while it trains."""
        run = self.runs[key]
        loss = "" if run.loss is None else f"loss {_loss(run.loss)}"
        if self._has_ended(key):
            return f"{run.state}, {loss}" if loss else run.state
        extra = f" {run.speed:,.0f} tokens/s" if wide and run.speed is not None and not run.state else ""
        extra += f" on {run.host}" if wide and run.host else ""
        if run.state:
            return run.state + extra
        spent = self.pacing.runs[key].spent
        return f"{spent:4.0%} {self._bar(spent, 8)} {loss}{extra}"

    def _bar(self, share: float, width: int) -> str:
        full, empty = ("#", "-") if self.console.options.ascii_only else ("━", "─")
        done = round(width * min(1.0, max(0.0, share)))
        return full * done + empty * (width - done)

    def _shown(self) -> tuple[list[str], int]:
        """Return the runs there is room for, in their order, and how many are left out: waiting ones first, then the oldest."""
        everything = list(self.runs)
        # At the end every run is shown; while it goes on, only what the screen has room for.
        finished = self.live is None or self.live.vertical_overflow == "visible"
        room = len(everything) if finished else max(3, self.console.height - 4)
        # In this order they get the room there is: what runs now, the newest that ended, what waits.
        under_way = [key for key in everything if not self.runs[key].waits and not self._has_ended(key)]
        ended = [key for key in everything if self._has_ended(key)]
        waiting = [key for key in everything if self.runs[key].waits]
        kept = set([*under_way, *reversed(ended), *waiting][:room])
        return [key for key in everything if key in kept], len(everything) - len(kept)

    def state(self) -> str:
        """Return all that is under way: a line for the whole, and one for each run."""
        lines = [f"{self.ended} of {self.total} runs ended; {self.left()}"]
        for key, run in self.runs.items():
            if self._has_ended(key) or run.waits:
                continue
            what = (
                run.state or f"{self.pacing.runs[key].spent:.0%} of budget, loss {_loss(run.loss)}, {run.speed:,.0f} tokens/s"
            )
            where = f" on {run.host}" if run.host else ""
            lines.append(_joined(f"  {run.name}: ", f"{what}{where}"))
        if len(lines) == 1:
            lines.append("  the base and the evaluations are made ready, once for all runs")
        return "\n".join(lines)

    def left(self) -> str:
        """Time left for the whole comparison."""
        seconds = self.pacing.seconds_left()
        return "time left not known yet" if seconds is None else f"about {spoken_time(seconds)} left"

    @property
    def total(self) -> int:
        return len(self.runs)

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return sum(map(self._has_ended, self.runs))

    def _has_ended(self, key: str) -> bool:
        return self.pacing.runs[key].ended is not None

    def _print(self, head: str, tail: str = "") -> None:
        text = _joined(head, tail)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        said()


def shortened(name: str, room: int) -> str:
    """Return a recipe's name in `room` characters: cut between its parts, so that no number is ever cut."""
    if len(name) <= room:
        return name
    text = ""
    for part in re.findall(r"[^(),+]+|[(),+]", name):
        if text and len(text) + len(part) + 1 > room:
            break
        text += part
    return f"{text}…"


def _joined(head: str, tail: str) -> str:
    """Return both on one line, or on two where that would be too long."""
    line = f"{head}{tail}"
    return line if len(line) <= LINE else f"{head.rstrip()}\n    {tail.strip()}"


def _points(scores: dict[str, float]) -> tuple[str, str]:
    """Return a run's mean scores in points; empty where there are none yet."""
    if not scores:
        return "", ""
    return f"{100 * scores['domain']:.1f}", f"{100 * scores['retention']:.1f}"


def _said_scores(run: _Run) -> str:
    """Return a finished run's mean scores in points, or how its training ended."""
    if run.scores is None:
        return "not trained" if run.loss is None else f"loss {_loss(run.loss)}"
    domain, general = _points(run.scores)
    return f"domain {domain:>5}  general {general:>5}"


def _loss(loss: float | None) -> str:
    return "not known" if loss is None else f"{loss:.3f}" if 0.0005 <= abs(loss) < 1000 else f"{loss:.2e}"
