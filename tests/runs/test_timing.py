"""What `lethe plan` says of time: each recipe at its own pace, its evaluations included."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.contract import Example
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


MATERIAL: Any = SimpleNamespace(plan=SimpleNamespace(device="cpu", threads=1))


@pytest.fixture
def clock(monkeypatch):
    """A made-up clock: plain fine-tuning takes a second per FLOP, everything else two; each timing takes 8 seconds."""
    now = [0.0]

    def pace(material, recipe, steps):
        now[0] += 8.0
        return 2.0 if recipe.text else 1.0

    monkeypatch.setattr(timing, "pace_of", pace)
    monkeypatch.setattr(timing, "few_examples", lambda material: material)
    monkeypatch.setattr(timing, "clock_of", lambda plan: lambda: now[0])
    return now


def test_recipes_are_timed_until_it_takes_too_long(clock):
    found = paces(MATERIAL, [run("sft"), run("lora"), run("lora"), run("mix"), run("wd"), run("", "base")])
    assert found == {"": 1.0, "sft": 2.0, "lora": 2.0, "mix": 1.0, "wd": 1.0}  # 24 seconds are gone before mix


def test_a_recipe_that_asks_for_dev_scores_is_taken_to_be_as_fast_as_plain_fine_tuning(clock):
    assert paces(MATERIAL, [run("early_stop")]) == {"": 1.0, "early_stop": 1.0}


def test_a_pace_is_that_of_the_steps_after_the_first(clock, monkeypatch):
    """The first step of a process takes three times as long as the others; what is prepared before it does not count."""
    monkeypatch.undo()
    spent = {"flops": 0.0}

    def train(made, folder, observe, report, looks):
        for seconds, flops in ((30.0, 4.0), (10.0, 5.0), (10.0, 5.0)):
            clock[0] += seconds
            spent["flops"] += flops
            report({})

    monkeypatch.setattr(timing, "clock_of", lambda plan: lambda: clock[0])
    monkeypatch.setattr(timing, "train", train)
    monkeypatch.setattr(timing, "spec_of", lambda *arguments: timing.RunSpec)
    monkeypatch.setattr(timing.dataclasses, "replace", lambda spec, **changes: spec)
    monkeypatch.setattr(timing, "planned_run", lambda *_: SimpleNamespace(ledger=SimpleNamespace(record=lambda: dict(spent))))
    assert timing.pace_of(MATERIAL, timing.PLAIN, 2) == pytest.approx(20 / 10)


def test_other_work_on_the_machine_does_not_count():
    """Where runs compute on CPUs a pause, as another process's turn is, takes no time; work does."""
    clock = timing.clock_of(MATERIAL.plan)
    begin = clock()
    time.sleep(0.3)
    paused = clock() - begin
    begin = clock()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert paused < 0.1 < clock() - begin
    two: Any = SimpleNamespace(device="cpu", threads=2)
    assert timing.clock_of(two)() == pytest.approx(time.process_time() / 2, abs=0.1)
    assert timing.clock_of(SimpleNamespace(device="cuda:0", threads=1)) is time.monotonic  # type: ignore[arg-type]


def test_timing_computes_as_a_run_does_and_puts_everything_back():
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with timing.as_a_run(MATERIAL.plan):
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, strict)


@dataclass(frozen=True)
class Few:
    """As much of a material as is asked here."""

    training_data: Any
    plan: Any


def example(number: int, stage: int = 1) -> Example:
    return Example(f"x{number}", (1, 2), (False, True), stage=stage)


def test_a_few_examples_are_enough_for_the_steps_that_are_timed():
    """Of each stage some, however few its file has; a stage without examples would never end."""
    size = 3 * (timing.STEPS + 1)
    stages = [example(number, stage=1 if number < 100 else 2) for number in range(102)]
    general = tuple(example(number) for number in range(5))
    whole: Any = Few(timing.TrainingData(tuple(stages), general), SimpleNamespace(batch_size=3))
    few = timing.few_examples(whole).training_data
    assert Counter(one.stage for one in few.domain) == {1: size, 2: 2} and set(few.domain) <= set(stages)
    assert list(few.domain) == sorted(few.domain, key=lambda one: int(one.id[1:])) and few.general == general
    assert few.domain[size - 1] != stages[size - 1]  # drawn, not the first


def test_where_nothing_trains_there_is_nothing_to_time(monkeypatch):
    monkeypatch.setattr(timing, "pace_of", None)
    assert paces(MATERIAL, [run("", "base"), run("", "control")]) == {"": 0.0}


def test_a_line_goes_through_its_timings_and_has_no_negative_part():
    assert timing.Line.through((10, 2.0), (40, 5.0)) == timing.Line(1.0, 0.1)
    assert timing.Line(1.0, 0.1).seconds(100) == pytest.approx(11) and timing.Line(1.0, 0.1).seconds(0) == 0
    assert timing.Line.through((10, 5.0), (40, 4.0)) == timing.Line(0.0, 0.1)
    assert timing.Line.through((10, 0.1), (40, 4.0)) == timing.Line(0.0, 0.1)
    assert timing.Line.through((0, 1.0), (0, 1.0)) == timing.Line(0.0, 0.0)


class Sampled:
    """Items to score: a call takes a second, an item a tenth of one, and the first call five more."""

    calls = 0

    def __init__(self, now: list[float], sizes: dict[str, int]) -> None:
        self.now = now
        self.prompts: list[Any] = []
        self.tasks = [SimpleNamespace(spec=SimpleNamespace(group=part), docs=range(size)) for part, size in sizes.items()]
        self._drift: dict[str, Any] = {}

    def sample(self, domain: int, general: int, drift: int) -> Sampled:
        return Sampled(self.now, {"domain": domain, "general": general})

    def remember_base(self) -> None:
        self.now[0] += 100.0  # what the runs inherit is not their time

    def score(self, model: Any) -> None:
        items = sum(len(task.docs) for task in self.tasks)
        self.now[0] += 1 + 0.1 * items + (0 if Sampled.calls else 5)
        Sampled.calls += 1


def test_an_evaluation_takes_as_long_as_its_items_and_its_calls(monkeypatch):
    monkeypatch.setattr(Sampled, "calls", 0)
    now = [0.0]
    monkeypatch.setattr(timing, "clock_of", lambda plan: lambda: now[0])
    evaluation: Any = SimpleNamespace(
        remembers_base=True,
        material=MATERIAL,
        load=lambda: None,
        evaluator=lambda kind: Sampled(now, {"domain": 500, "general": 3000}),
    )
    found = timing.scored(evaluation)
    assert found.final == pytest.approx(1 + 50 + 1 + 300)
    assert found.curve == pytest.approx(1 + 10 + 1 + 20)
