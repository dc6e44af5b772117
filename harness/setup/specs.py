"""The runs of a plan: one per row of the table and seed, each named by a hash of the question it answers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.contract import Example
from harness.plan.deepspeed import deepspeed_config
from harness.plan.plan import Plan
from harness.recipes.recipe import PLAIN, Recipe, parse_recipe, unlike_base
from harness.setup.material import Material
from harness.store.schema import PROTOCOL, key_of
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.protocol import Training
from harness.training.run import TrainingRun

REPORTED = ("final", "quality", "path")
"""The evaluations of a row of the table; the last is left out where the plan is `final_only`."""


@dataclass(frozen=True)
class RunSpec:
    """A run to make: one row of the table with one seed."""

    row: str
    role: str
    """`base`, `control` (zero budget), `untrained` (zero budget, wrapped) or `recipe`."""
    track: str
    seed: int
    recipe: str
    """As `parse_recipe` reads it."""
    training: Training
    meter: str
    allowed: float
    question: dict[str, Any]
    """The training question: equal questions are one run."""
    kinds: tuple[str, ...]
    """The evaluations it must have: `REPORTED`, or `dev` for a trial of a tuning, which never sees a test item."""
    models: tuple[float, ...]
    """Fractions of the budget at which it saves a model."""

    @property
    def key(self) -> str:
        return key_of(self.question)


def run_specs(material: Material, allowed: float, tuned: Mapping[str, str] | None = None) -> list[RunSpec]:
    """Return the specs of a plan's runs; `tuned`: row -> text of the recipe to run.

    First the untouched base and the zero-budget control. Then an untrained run for each recipe that does not begin as the
    base: what quantisation loses before training must not count as forgetting. Then every recipe with every seed.
    """
    plan = material.plan
    assert plan.seeds is not None
    specs = [spec_of(material, "base", "base", PLAIN, 0, 0.0), spec_of(material, "zero budget", "control", PLAIN, 0, 0.0)]
    for text in dict.fromkeys(filter(None, map(unlike_base, material.recipes))):
        specs.append(spec_of(material, f"{text}, untrained", "untrained", parse_recipe(text), 0, 0.0))
    for recipe in material.recipes:
        chosen = parse_recipe((tuned or {}).get(recipe.row, recipe.text))
        specs += [spec_of(material, recipe.row, "recipe", chosen, seed, allowed) for seed in range(plan.seeds)]
    return specs


def rate_of(material: Material, recipe: Recipe) -> float:
    """Return the peak learning rate: the recipe's own, else plain fine-tuning's times its methods' `lr_scale`."""
    scale = math.prod(method.lr_scale for method in recipe.methods)
    return recipe.learning_rate or material.training.learning_rate * scale


def spec_of(
    material: Material, row: str, role: str, recipe: Recipe, seed: int, allowed: float, kinds: tuple[str, ...] = ()
) -> RunSpec:
    """Return the spec of one run, with the question that names it.

    `kinds`: its evaluations; if none are given, those of a row of the table.
    """
    plan, data = material.plan, material.training_data
    reported = not kinds
    kinds = kinds or (REPORTED[:-1] if plan.final_only else REPORTED)
    packed = material.training.pack_length if recipe.packs else None
    training = dataclasses.replace(material.training, learning_rate=rate_of(material, recipe), pack_length=packed)
    question: dict[str, Any] = {"protocol": PROTOCOL, "role": role, "model": material.base.hash}
    if role != "base" and len(material.stages) > 1:
        question["stages"] = [sum(e.stage == number for e in data.domain) for number, _ in enumerate(material.stages, 1)]
        kinds = (*kinds, "stages") if reported else kinds
    if plan.probe and reported and recipe.folds and role in ("base", "recipe"):
        kinds = (*kinds, "probe")
    if role != "base":
        question |= {
            "methods": recipe.question,
            "training": training.question,
            "data": fingerprint(data.domain),
            "general": fingerprint(data.general) if "general_data" in recipe.needs else None,
            "budget": {"meter": plan.meter, "allowed": allowed},
            "seed": seed,
            "threads": plan.threads,
            "device": plan.device,
            "torch": torch.__version__,
        }
        question |= ranks_of(plan)
        if "dev_scores" in recipe.needs:
            question["general_dev"] = [record.id for record in material.general_dev]
    assert plan.meter is not None
    models = plan.checkpoint_fractions if role == "recipe" and reported and recipe.folds else ()
    return RunSpec(row, role, recipe.track, seed, recipe.text, training, plan.meter, allowed, question, kinds, models)


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash of tokenised examples: template, truncation and supervision included."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr((example.id, example.tokens, example.supervised, example.source)).encode())
    return digest.hexdigest()[:16]


def sharding_of(plan: Plan) -> dict[str, Any] | None:
    """Return DeepSpeed's configuration for a run of this plan; None if every process holds the whole model."""
    return deepspeed_config(plan.deepspeed, str(plan.precision)) if plan.deepspeed else None


def ranks_of(plan: Plan) -> dict[str, Any]:
    """Return a question's entries on a run's processes: how many, and how DeepSpeed shards it; none for one process."""
    return {"ranks": plan.ranks, "deepspeed": sharding_of(plan)} if plan.has_ranks else {}


def training_run(material: Material, spec: RunSpec) -> TrainingRun:
    """Return the run that answers a spec's question."""
    recipe = parse_recipe(spec.recipe)
    ledger = Ledger(spec.meter, spec.allowed)
    device = material.plan.device or "cpu"
    return TrainingRun(material.base, material.training_data, recipe.methods, spec.training, ledger, spec.seed, device)


def allowed_amount(material: Material) -> float:
    """Return the budget in the binding meter's unit: as given, or the price of so many epochs of plain fine-tuning."""
    budget, meter = material.budget, material.plan.meter
    if budget.unit != "epochs":
        return budget.amount
    spec = spec_of(material, "plain", "recipe", PLAIN, 0, math.inf)
    run = training_run(material, spec)
    steps = []
    for stage, _ in enumerate(run.ends, 1):
        run.enter(stage)
        an_epoch = math.ceil(len(run.domain) / material.plan.batch_size)
        steps += [step for step, _ in zip(run.steps(), range(round(budget.amount * an_epoch)), strict=False)]
    if meter == "steps":
        return float(len(steps))
    if meter == "tokens":
        return float(sum(len(example) for step in steps for example in step))
    flops = sum(run.step_price(step)[0] for step in steps)
    return flops if meter == "flops" else flops * seconds_a_flop(material)


def seconds_a_flop(material: Material, engine: Alone | None = None, recipe: Recipe = PLAIN, steps: int = 8) -> float:
    """Return the seconds per FLOP of a recipe on this device, measured over what it prepares and a few optimizer steps."""
    from harness.training.loop import train

    spec = spec_of(material, "plain", "recipe", recipe, 0, float(steps))
    run = training_run(material, dataclasses.replace(spec, meter="steps"))
    run.engine = engine or run.engine
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, lambda _: None)
    return run.ledger.pace
