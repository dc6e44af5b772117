"""How long runs will take on this machine: a few steps of each recipe and a few items of the evaluation, timed here.

On this machine's CPU or GPU. Where runs compute elsewhere, or a GPU is only named, harness/commands/plan.py estimates from the
GPU's peak.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.contract import Example, Need
from harness.doing import counted, doing
from harness.models.kernels import compute_repeatably
from harness.models.placement import placed
from harness.plan.settings import Settings
from harness.recipes.recipe import PLAIN, Recipe, parse_recipe
from harness.runs.run_scores import ALPHAS
from harness.setup.evaluations import CURVE, Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec, planned_run, spec_of
from harness.store.schema import LogLine
from harness.training.loop import SIXTHS, train
from harness.training.protocol import TrainingData
from harness.training.step import Diverged
from harness.vocabulary import EvalKind, Role

STEPS, FEWER = 4, 2
"""Optimizer steps of plain fine-tuning that are timed, and of every other recipe."""
ENOUGH = 20.0
"""Seconds after which no further recipe is timed: the others are taken to be as fast as plain fine-tuning."""
FREE = 2.0
"""What a free answer of `quality` costs in domain items: it may be longer (measured on the embedded model)."""


def paces(material: Material, specs: Sequence[RunSpec]) -> dict[str, float]:
    """Return the seconds per FLOP of each recipe of these runs, by its text."""
    # Where nothing trains there is nothing to time.
    texts = dict.fromkeys(spec.recipe for spec in specs if spec.role == Role.RECIPE)
    if not texts:
        return {PLAIN.text: 0.0}

    # Each recipe is timed while there is patience; the others are taken to be as fast as plain.
    clock = clock_of(material.plan)
    begin = clock()
    doing("timing plain fine-tuning")
    few = few_examples(material)
    plain = pace_of(few, PLAIN, STEPS)
    pace_of_recipe = {PLAIN.text: plain}
    for text in counted([text for text in texts if text != PLAIN.text], "timing a few steps of each recipe"):
        pace_of_recipe[text] = plain
        recipe = parse_recipe(text)

        # A recipe that asks for dev scores cannot train outside of a comparison.
        if clock() - begin < ENOUGH and Need.DEV_SCORES not in recipe.needs:
            pace_of_recipe[text] = pace_of(few, recipe, FEWER) or plain
    return pace_of_recipe


def few_examples(material: Material) -> Material:
    """Return the material with so few examples that what a recipe prepares of them takes no longer than its steps.

    Some of each stage: each goes with its own steps.
    """
    data = material.training_data
    size = (STEPS + 1) * material.plan.batch_size
    generator = torch.Generator().manual_seed(0)

    def few(examples: Sequence[Example]) -> tuple[Example, ...]:
        chosen = torch.randperm(len(examples), generator=generator).tolist()[:size]
        return tuple(examples[index] for index in sorted(chosen))

    stages: dict[int, list[Example]] = {}
    for example in data.domain:
        stages.setdefault(example.stage, []).append(example)
    domain: list[Example] = []
    for _, examples in sorted(stages.items()):
        domain += few(examples)
    return dataclasses.replace(material, training_data=TrainingData(tuple(domain), few(data.general)))


def pace_of(material: Material, recipe: Recipe, steps: int) -> float:
    """Return the seconds per FLOP of a recipe's optimizer steps, the first left out: it is slower than all others.

    0 where it diverges on so little.
    """
    spec = spec_of(material, "plain", Role.RECIPE, recipe, 0, float(steps + 1))
    run = planned_run(material, dataclasses.replace(spec, meter="steps"))
    clock = clock_of(material.plan)
    marks: list[tuple[float, float]] = []

    def mark(entry: LogLine) -> None:
        marks.append((clock(), run.ledger.record()["flops"]))

    with tempfile.TemporaryDirectory() as folder:
        try:
            train(run, Path(folder), lambda *_: None, mark, looks=())
        except Diverged:
            return 0.0
    if len(marks) < 2:
        return 0.0
    (began, before), (ended, after) = marks[0], marks[-1]
    return (ended - began) / (after - before)


def clock_of(plan: Settings) -> Callable[[], float]:
    """Return a clock of the time that a run takes here.

    On CPUs it counts the CPU time of this process, so that other work on this machine does not count.
    """
    if plan.device != "cpu":
        return time.monotonic
    threads = plan.threads
    return lambda: time.process_time() / threads


@contextmanager
def as_a_run(plan: Settings) -> Iterator[None]:
    """Compute as a run's own process does: with its threads, in the same way every time."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    compute_repeatably(plan.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        memory.fill_uninitialized_memory = filled


@dataclass(frozen=True)
class Scored:
    """Seconds of each evaluation of one model."""

    final: float
    quality: float
    curve: float
    """One look at a fraction of the budget."""
    path: float
    """One point of the line from the base."""

    def seconds(self, spec: RunSpec) -> float:
        """Return those of all evaluations of a run."""
        total = 0.0
        if EvalKind.FINAL in spec.kinds:
            total += self.final
        if EvalKind.QUALITY in spec.kinds:
            total += self.quality
        if EvalKind.PATH not in spec.kinds:
            return total
        if spec.role != Role.RECIPE:  # a model that is not trained has one point of the line, and no curve
            return total + self.path
        return total + len(SIXTHS) * self.curve + len(ALPHAS) * self.path


@dataclass(frozen=True)
class Line:
    """Seconds of scoring items of one part: some for the call, and some for each item."""

    call: float
    item: float

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> Line:
        """Return the line through two timings, (items, seconds) each."""
        (fewer, short), (more, long) = few, many
        item = (long - short) / (more - fewer) if more > fewer else 0.0
        call = short - item * fewer

        # Timings are noisy: no part of the line is negative.
        if item <= 0 or call < 0:
            return cls(0.0, long / more if more else 0.0)
        return cls(call, item)

    def seconds(self, items: int) -> float:
        """Return the seconds of so many items."""
        return self.call + self.item * items if items else 0.0


def scored(evaluation: Evaluation) -> Scored:
    """Time the base on two samples of each part of the evaluation, and go on to all items."""
    final = evaluation.evaluator(EvalKind.FINAL)
    path = evaluation.evaluator(EvalKind.PATH)
    plan = evaluation.material.plan
    model = placed(evaluation.load(), plan.device)
    clock = clock_of(plan)

    def timed(sizes: dict[str, int]) -> tuple[int, float]:
        sample = final.sample(**(dict.fromkeys(CURVE, 0) | sizes))
        if evaluation.remembers_base:
            sample.remember_base()
        begin = clock()
        sample.score(model)
        return sum(_sizes(sample).values()), clock() - begin

    # What a process does once (trying what the model can do, importing scorers) is done before.
    lines: dict[str, Line] = {}
    timed(dict.fromkeys(CURVE, 1))
    for part in counted(tuple(CURVE), "timing the evaluation of a few items"):
        # One part at a time, so that each has its own pace.
        lines[part] = Line.through(timed({part: CURVE[part] // 4}), timed({part: CURVE[part]}))

    # Every prompt is answered greedily, half of them sampled too, and each rewording once.
    prompts = evaluation.evaluator(EvalKind.QUALITY).prompts
    answers = sum(1 + len(prompt.reworded) for prompt in prompts) + len(prompts) // 2
    return Scored(
        final=_cost(_sizes(final), lines),
        quality=FREE * lines["domain"].item * answers,
        curve=_cost(_sizes(final.sample(**CURVE)), lines),
        path=_cost(_sizes(path), lines),
    )


def _sizes(evaluator: Any) -> dict[str, int]:
    """Return items of each part that an evaluator scores."""
    sizes = {"domain": 0, "general": 0, "drift": sum(len(drift.examples) for drift in evaluator._drift.values())}
    for task in evaluator.tasks:
        sizes[task.spec.group] += len(task.docs)
    return sizes


def _cost(sizes: dict[str, int], lines: dict[str, Line]) -> float:
    return sum(lines[part].seconds(number) for part, number in sizes.items())
