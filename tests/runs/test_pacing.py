"""The time left that is said while a comparison runs, held against the time that it then takes, on a clock of its own."""

from __future__ import annotations

import random

from harness.runs.events import Ended, Evaluating, Event, Started, Stepped
from harness.runs.pacing import Pacing, Timed
from harness.vocabulary import EvalKind

RECIPES, SEEDS, STEPS, WORKERS = 8, 3, 20, 2
NEAR = 0.25


def played() -> list[tuple[float, str, Event]]:
    """Return the events of all runs in time: a recipe may take twice as long as another, a step differs by a fifth."""
    rng = random.Random(0)
    free = [0.0] * WORKERS
    events: list[tuple[float, str, Event]] = []
    for recipe in range(RECIPES):
        pace = rng.uniform(60, 120)
        for seed in range(SEEDS):
            at, key = min(free), f"recipe {recipe} seed {seed}"
            free.remove(at)
            events.append((at, key, Started()))
            at += rng.uniform(4, 8)
            for step in range(1, STEPS + 1):
                at += pace / STEPS * rng.uniform(0.8, 1.2)
                events.append((at, key, Stepped(spent=step / STEPS, loss=1.0, speed=1.0)))
            events.append((at, key, Evaluating(kind=EvalKind.FINAL)))
            at += rng.uniform(90, 130)
            events.append((at, key, Ended()))
            free.append(at)
    return sorted(events, key=lambda event: event[0])


def test_time_left_is_right_within_a_quarter_once_a_row_has_ended():
    events = played()
    pacing = Pacing(WORKERS, {key: Timed(True, key.split(" seed ")[0]) for key in dict.fromkeys(key for _, key, _ in events)})
    whole = events[-1][0]
    said = 0
    for at, key, event in events:
        pacing.note(key, event, at)
        left = pacing.seconds_left(at)
        if left is None:
            assert not any(run.ended for run in pacing.runs.values()), "silent before the first row only"
        elif at < 0.95 * whole:
            said += 1
            assert abs(left / (whole - at) - 1) <= NEAR, f"at {at:.0f} s of {whole:.0f} s: {left:.0f} s left"
    assert said > 0.8 * len(events)


def test_a_run_that_waits_is_expected_to_take_as_long_as_its_rows_other_seed():
    pacing = Pacing(1, {f"{row} {seed}": Timed(True, row) for seed in (0, 1) for row in ("sft", "ewc")}, scored=[10.0])
    at = 0.0
    for row, seconds in (("sft", 40.0), ("ewc", 80.0)):
        for event, length in ((Started(), 0.0), (Evaluating(kind=EvalKind.FINAL), seconds), (Ended(), 10.0)):
            at += length
            pacing.note(f"{row} 0", event, at)
    pacing.note("sft 1", Started(), at)
    assert pacing.seconds_left(at) == (40 + 10) + (80 + 10)
    del pacing.runs["ewc 1"]
    assert pacing.seconds_left(at) == 40 + 10
