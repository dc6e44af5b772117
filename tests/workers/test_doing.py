"""What is said while something lasts: at once, again every few seconds, and not at all where nobody listens."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness import doing as module
from harness.commands.compare import in_turn
from harness.doing import counted, doing, said, spoken
from harness.runs.events import Ended, Evaluating, Requeued, Started, Stepped
from harness.runs.pacing import Pacing, Timed
from harness.vocabulary import EvalKind
from harness.workers.progress import Progress


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.3)


def test_what_begins_is_said_at_once_and_again_while_it_lasts(capsys):
    with spoken():
        doing("reading")
        time.sleep(1.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading" and len(lines) >= 3
    assert all(line.startswith("reading, ") and line.endswith("s so far") for line in lines[1:])


def test_things_that_are_counted_say_how_many_are_done(capsys):
    with spoken():
        for _ in counted(["a", "b", "c"], "tokenising"):
            time.sleep(0.6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tokenising"
    assert any(": 1 of 3" in line for line in lines) and any(": 2 of 3" in line for line in lines)


def test_nothing_is_said_outside_or_where_it_is_quiet(capsys):
    doing("reading")
    with spoken(quiet=True):
        doing("reading")
        time.sleep(0.6)
    assert list(counted([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_line_of_another_puts_off_the_next_one(capsys):
    with spoken():
        doing(lambda: "state")
        for _ in range(6):
            time.sleep(0.15)
            said()
    assert capsys.readouterr().err == ""


def spec(name: str, role: str) -> Any:
    return SimpleNamespace(key=name, row=name, role=role, seed=0, kinds=("final",))


def test_the_base_runs_first_and_the_control_last():
    rows = [spec("base", "base"), spec("zero budget", "control"), spec("sft", "recipe"), spec("ewc", "recipe")]
    assert [one.row for one in in_turn(rows)] == ["base", "sft", "ewc", "zero budget"]


def test_progress_shows_a_finished_row_and_says_what_runs_where_there_is_no_terminal(capsys):
    rows = [spec("base", "base"), spec("sft", "recipe")]
    plan: Any = SimpleNamespace(workers=1, out="results", name="x", ray=None)
    progress = Progress(rows, plan, result=lambda _: {"domain": 0.25, "retention": 0.5})
    text = io.StringIO()
    progress.console = Console(file=text, width=200)
    with spoken(), progress:
        progress.event(rows[0], Started())
        progress.event(rows[0], Evaluating(kind=EvalKind.FINAL))
        progress.event(rows[0], Ended())
        progress.event(rows[1], Started())
        progress.event(rows[1], Stepped(spent=0.5, loss=1.25, speed=1000.0))
        time.sleep(0.7)
    assert "1 of 2  base seed 0" in text.getvalue() and "domain  25.0  general  50.0" in text.getvalue()
    lines = capsys.readouterr().err
    assert "1 of 2 runs ended; " in lines and "  sft seed 0: 50% of budget, loss 1.250, 1,000 tokens/s" in lines


# --- time left ---------------------------------------------------------------------------------------------------------


def pacing(workers: int = 1) -> Pacing:
    return Pacing(workers, {"base": Timed(False), "sft": Timed(True), "ewc": Timed(True), "control": Timed(False)})


def test_time_left_is_not_known_before_anything_was_scored():
    runs = pacing()
    assert runs.seconds_left(0.0) is None
    runs.note("base", Started(), now=0.0)
    runs.note("base", Evaluating(kind=EvalKind.FINAL), now=1.0)
    assert runs.seconds_left(5.0) is None


def test_time_left_is_training_at_the_present_pace_and_evaluation_as_measured():
    runs = pacing()
    runs.note("base", Started(), now=0.0)
    runs.note("base", Evaluating(kind=EvalKind.FINAL), now=0.0)
    runs.note("base", Ended(), now=10.0)
    runs.note("sft", Started(), now=10.0)
    runs.note("sft", Stepped(spent=0.05, loss=1.0, speed=1.0), now=15.0)  # 5 s to start up
    assert runs.seconds_left(15.0) is None, "one step says nothing"
    runs.note("sft", Stepped(spent=0.25, loss=1.0, speed=1.0), now=23.0)  # 40 s for all of the budget
    # sft: 30 of training and 10 of scoring; ewc: 5, 40 and 10; control: 10
    assert runs.seconds_left(23.0) == pytest.approx(105.0)
    assert runs.seconds_left(27.0) == pytest.approx(101.0), "less is left while a step lasts"
    runs.workers = 2
    assert runs.seconds_left(23.0) == pytest.approx(55.0), "no sooner than the longest run"


def test_a_run_that_goes_on_from_its_checkpoint_is_not_taken_for_a_fast_one():
    runs = pacing()
    runs.scored = [10.0, 30.0]  # stored runs: nothing was scored here yet
    runs.note("sft", Started(), now=0.0)
    runs.note("sft", Stepped(spent=0.5, loss=1.0, speed=1.0), now=2.0)
    runs.note("sft", Stepped(spent=0.75, loss=1.0, speed=1.0), now=12.0)  # 40 s for all of the budget
    assert runs.seconds_left(12.0) == pytest.approx(20 + 10 + 20 + 2 + 40 + 20 + 20)


def test_a_scored_recipe_tells_more_of_the_next_than_the_base_does():
    runs = pacing()
    for key, begin, scoring, end in (("base", 0, 0, 10), ("sft", 10, 50, 80)):
        runs.note(key, Started(), now=begin)
        runs.note(key, Evaluating(kind=EvalKind.FINAL), now=scoring)
        runs.note(key, Evaluating(kind=EvalKind.FINAL), now=scoring + 5)  # its next kind
        runs.note(key, Ended(), now=end)
    runs.note("ewc", Started(), now=80.0)
    assert runs.seconds_left(80.0) == pytest.approx(40 + 30 + 30)


def test_a_run_that_is_lost_begins_again():
    runs = pacing()
    runs.note("sft", Started(), now=0.0)
    runs.note("sft", Stepped(spent=0.5, loss=1.0, speed=1.0), now=10.0)
    runs.note("sft", Requeued(reason="killed"), now=11.0)
    assert runs.runs["sft"].spent == 0.0 and runs.runs["sft"].begun == 11.0
