"""What `lethe plan` says of time: each recipe at its own pace, its evaluations included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs import timing
from harness.runs.run_scores import ALPHAS
from harness.runs.timing import Scored, paces
from harness.training.loop import SIXTHS


def run(recipe: str, role: str = "recipe", kinds: tuple[str, ...] = ("final", "quality", "path")) -> Any:
    return SimpleNamespace(recipe=recipe, role=role, kinds=kinds)


def test_a_run_takes_its_looks_and_its_line_beside_its_final_scores():
    scored = Scored(final=100.0, quality=10.0, curve=1.0, path=0.1)
    assert scored.seconds(run("sft")) == pytest.approx(110 + len(SIXTHS) + 0.1 * len(ALPHAS))
    assert scored.seconds(run("", "base")) == pytest.approx(110.1)
    assert scored.seconds(run("sft", kinds=("final", "quality"))) == pytest.approx(110)
    assert scored.seconds(run("sft", kinds=("dev",))) == 0


@pytest.fixture
def clock(monkeypatch):
    """A made-up clock: plain fine-tuning takes a second a FLOP, everything else two; each timing takes 8 seconds."""
    now = [0.0]

    def pace(material, recipe=None, steps=8):
        now[0] += 8.0
        return 1.0 if recipe is None else 2.0

    monkeypatch.setattr(timing, "seconds_a_flop", pace)
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])


def test_recipes_are_timed_until_it_takes_too_long(clock):
    material: Any = None
    found = paces(material, [run("sft"), run("lora"), run("lora"), run("mix"), run("wd"), run("", "base")])
    assert found == {"": 1.0, "sft": 2.0, "lora": 2.0, "mix": 1.0, "wd": 1.0}  # 24 seconds are gone before mix


def test_a_recipe_that_asks_for_dev_scores_is_taken_to_be_as_fast_as_plain_fine_tuning(clock):
    material: Any = None
    assert paces(material, [run("early_stop")]) == {"": 1.0, "early_stop": 1.0}
