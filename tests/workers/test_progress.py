"""The screen of a running comparison, on a pseudo-terminal of 80 columns, and its plain lines where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import select
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.runs.events import Ended, Evaluating, Requeued, Started, Stepped
from harness.vocabulary import EvalKind
from harness.workers.progress import Progress, shortened

PLAN: Any = SimpleNamespace(workers=2, out="results", name="x", ray=None)
LONG = "lora(lr=5.45e-05,r=64)+nlirg(x0=1.45,scale=nats)+ewc(samples=1234)"


def spec(name: str, role: str = "recipe", seed: int = 0) -> Any:
    return SimpleNamespace(key=f"{name} {seed}", row=name, role=role, seed=seed, kinds=("final",))


def begin(progress: Progress, one: Any, spent: float, loss: float = 5.45e-05) -> None:
    progress.event(one, Started())
    progress.event(one, Stepped(spent=spent, loss=loss, speed=123456.7))


def end(progress: Progress, one: Any) -> None:
    progress.event(one, Evaluating(kind=EvalKind.FINAL))
    progress.event(one, Ended())


def on_terminal(rows: list[Any], columns: int = 80, lines: int = 24) -> tuple[Progress, list[str], str]:
    """Run two of the rows on a pseudo-terminal; return the progress, the screen before the end and all that was written."""
    master, slave = pty.openpty()
    progress = Progress(rows, PLAN, result=lambda _: {"domain": 0.25, "retention": 1.0})
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        progress.console = Console(file=terminal, width=columns, height=lines)
        assert progress.console.is_terminal
        with progress:
            begin(progress, rows[0], 1.0)
            end(progress, rows[0])
            begin(progress, rows[1], 0.54)
            screen = frame(progress, columns)
        terminal.flush()
        written = b""
        while select.select([master], [], [], 0)[0]:
            written += os.read(master, 65536)
    os.close(master)
    return progress, screen, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def frame(progress: Progress, columns: int) -> list[str]:
    """Return the screen's lines as they are now."""
    drawn = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    drawn.print(progress.screen())
    return drawn.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", [80, 120])
def test_one_screen_has_the_whole_and_every_run_and_nothing_wraps(columns: int):
    rows = [spec(LONG), spec("mix"), spec("sft", seed=11)]
    _, screen, written = on_terminal(rows, columns)
    assert len(screen) == 2 + len(rows), "one line for the whole, one for the headings, one a run"
    assert max(map(len, screen)) <= columns
    assert "1 of 3 runs, " in screen[0] and "━" in screen[0] and "left" in screen[0]
    assert "trained, loss 5.45e-05" in screen[2] and screen[2].rstrip().endswith("25.0    100.0"), "the table fills as rows end"
    assert " 54% ━━━━──── loss 5.45e-05" in screen[3]
    assert "waiting" in screen[4] and "11" in screen[4]
    assert max(len(line.rstrip()) for line in written.replace("\r", "\n").splitlines()) <= columns
    assert "1 of 3 runs" in written and "results go to results/x" in written


def test_numbers_are_never_cut():
    for room in range(12, len(LONG) + 2):
        text = shortened(LONG, room)
        assert len(text) <= room or room < len("lora(")
        for number in re.findall(r"[\d.e-]*\d[\d.e-]*", text):
            assert number in re.findall(r"[\d.e-]*\d[\d.e-]*", LONG), f"{number!r} at {room} columns"
    assert shortened(LONG, len(LONG)) == LONG
    assert shortened(LONG, 20) == "lora(lr=5.45e-05,…"


def test_more_runs_than_lines_shows_those_under_way_and_says_how_many_wait():
    rows = [spec(f"recipe{number}") for number in range(40)]
    progress = Progress(rows, PLAN, result=lambda _: {"domain": 0.25, "retention": 1.0})
    progress.console = Console(file=io.StringIO(), width=80, height=12, force_terminal=True)
    with progress:
        for one in rows[:20]:
            end(progress, one)
        begin(progress, rows[39], 0.5)
        screen = frame(progress, 80)
        assert len(screen) <= 12 and "and 32 more" in screen[-1]
        assert any("recipe39" in line for line in screen) and any("recipe19" in line for line in screen)
        assert not any("recipe0 " in line for line in screen)
    written = progress.console.file.getvalue()  # type: ignore[attr-defined]
    assert "recipe0 " in written and "recipe25" in written, "the whole table stays on the terminal"


def test_plain_lines_where_there_is_no_terminal():
    name = "lora(lr=5.45e-05,r=64)+nlirg(x0=1.45,scale=nats)"
    rows = [spec(name), spec("mix")]
    progress = Progress(rows, PLAN, result=lambda _: {"domain": 0.25, "retention": 1.0})
    text = io.StringIO()
    progress.console = Console(file=text, width=80)
    with progress:
        begin(progress, rows[0], 1.0)
        end(progress, rows[0])
        begin(progress, rows[1], 0.5)
        progress.event(rows[1], Requeued(reason="its process was killed by signal 9"))
        state = progress.state()
    lines = text.getvalue().splitlines()
    assert "\x1b" not in text.getvalue() and "━" not in text.getvalue()
    assert lines[1].startswith(f"  1 of 2  {name}") and lines[2].startswith("    domain  25.0  general 100.0; ")
    assert max(len(line) for line in [*lines, *state.splitlines()]) <= 80
    assert state.splitlines()[0].startswith("1 of 2 runs ended; ") and "mix seed 0: lost, queued again" in state


def test_the_bar_of_the_whole_is_the_share_of_time():
    rows = [spec("sft"), spec("mix")]
    progress = Progress(rows, PLAN)
    progress.console = Console(file=io.StringIO(), width=80, force_terminal=True)
    progress.begun -= 30
    progress.pacing.seconds_left = lambda now=None: 10.0  # type: ignore[method-assign]
    bar = frame(progress, 80)[0].split()[0]
    assert abs(bar.count("━") / len(bar) - 0.75) < 0.03 and "about 10 s left" in frame(progress, 80)[0]
