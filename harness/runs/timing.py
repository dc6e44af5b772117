"""How long runs will take on this machine: a few steps of each recipe and a few items of the evaluation, timed here.

On this machine's CPU or GPU. Where runs compute elsewhere, or a GPU is only named, harness/commands/plan.py estimates from the
GPU's peak.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.contract import Need
from harness.doing import counted, doing
from harness.recipes.recipe import PLAIN, parse_recipe
from harness.runs.run_scores import ALPHAS
from harness.setup.evaluations import CURVE, Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec, seconds_a_flop
from harness.training.loop import SIXTHS
from harness.vocabulary import EvalKind, Role

STEPS, FEWER = 4, 2
"""Optimizer steps of plain fine-tuning that are timed, and of every other recipe."""
ENOUGH = 20.0
"""Seconds after which no further recipe is timed: the others are taken to be as fast as plain fine-tuning."""
FREE = 2.0
"""What a free answer of `quality` costs in domain items: it may be longer (measured on the embedded model)."""


def paces(material: Material, specs: Sequence[RunSpec]) -> dict[str, float]:
    """Return the seconds per FLOP of each recipe of these runs, by its text."""
    # Each recipe is timed while there is patience; the others are taken to be as fast as plain.
    begin = time.monotonic()
    doing("timing plain fine-tuning")
    plain = seconds_a_flop(material, steps=STEPS)
    by_recipe = {PLAIN.text: plain}
    texts = dict.fromkeys(spec.recipe for spec in specs if spec.role == Role.RECIPE and spec.recipe != PLAIN.text)
    for text in counted(list(texts), "timing a few steps of each recipe"):
        by_recipe[text] = plain
        if time.monotonic() - begin < ENOUGH:
            by_recipe[text] = _pace_of(material, text, plain)
    return by_recipe


def _pace_of(material: Material, text: str, plain: float) -> float:
    """Return a recipe's own pace.

    Plain fine-tuning's for one that cannot train outside of a comparison (it asks for dev scores).
    """
    recipe = parse_recipe(text)
    # Such a recipe asks for dev scores in training, which only a comparison has.
    return plain if Need.DEV_SCORES in recipe.needs else seconds_a_flop(material, recipe=recipe, steps=FEWER)


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
        """Of all evaluations of a run."""
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


def scored(evaluation: Evaluation) -> Scored:
    """Time the base on a sample of each part of the evaluation, and scale it to all items."""
    final = evaluation.evaluator(EvalKind.FINAL)
    path = evaluation.evaluator(EvalKind.PATH)
    model = evaluation.load()
    rates: dict[str, float] = {}
    for part in counted(("domain", "general", "drift"), "timing the evaluation of a few items"):
        # One part at a time, so that each has its own pace.
        sizes = {"domain": 0, "general": 0, "drift": 0} | {part: CURVE[part]}
        sample = final.sample(**sizes)
        items = sum(_sizes(sample).values())
        rates[part] = _timed(sample, model) / items if items else 0.0

    # Every prompt is answered greedily, half of them sampled too, and each rewording once.
    prompts = evaluation.evaluator(EvalKind.QUALITY).prompts
    answers = sum(1 + len(prompt.reworded) for prompt in prompts) + len(prompts) // 2
    return Scored(
        final=_cost(_sizes(final), rates),
        quality=FREE * rates["domain"] * answers,
        curve=_cost(_sizes(final.sample(**CURVE)), rates),
        path=_cost(_sizes(path), rates),
    )


def _timed(evaluator: Any, model: Any) -> float:
    begin = time.monotonic()
    evaluator.score(model)
    return time.monotonic() - begin


def _sizes(evaluator: Any) -> dict[str, int]:
    """Return items of each part that an evaluator scores."""
    sizes = {"domain": 0, "general": 0, "drift": sum(len(drift.examples) for drift in evaluator._drift.values())}
    for task in evaluator.tasks:
        sizes[task.spec.group] += len(task.docs)
    return sizes


def _cost(sizes: dict[str, int], rates: dict[str, float]) -> float:
    return sum(rates[part] * number for part, number in sizes.items())
