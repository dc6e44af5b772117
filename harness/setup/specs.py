"""The runs of a plan: one per row of the table and seed.

Each is named by a hash of the question that it answers.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from harness.contract import Need, Step
from harness.measured.tuned import Tuned
from harness.plan.deepspeed import ranks_of
from harness.recipes.recipe import PLAIN, Recipe, parse_recipe, unlike_base
from harness.setup.inputs import CONTROL, MeasuredModel
from harness.setup.material import Material
from harness.store.question import Question
from harness.store.schema import PROTOCOL
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.protocol import OpenDev, Training, no_dev_items
from harness.training.run import PlannedRun
from harness.vocabulary import EvalKind, Role, Track

REPORTED = (EvalKind.FINAL, EvalKind.QUALITY, EvalKind.PATH)
"""The evaluations of a row of the table; a plan that is `final_only` leaves out the last."""


@dataclass(frozen=True)
class RunSpec:
    """A run to make: one row of the table with one seed."""

    row: str
    role: Role
    track: Track
    seed: int
    recipe: str
    """Its text, as `parse_recipe` reads it."""
    training: Training
    meter: str
    allowed: float
    question: Question
    """What is trained: equal questions are one run."""
    kinds: tuple[EvalKind, ...]
    """The evaluations it must have.

    `REPORTED`, or `DEV` for a trial of a tuning, which never sees a test item.
    """
    models: tuple[float, ...]
    """Fractions of the budget at which it saves a model."""
    tuned: Tuned | None = None
    """What is scored, where nothing is trained: a model tuned elsewhere."""

    @property
    def key(self) -> str:
        """The name of its folder in the run store."""
        return self.question.key


def run_specs(
    material: Material,
    allowed: float,
    tuned: Mapping[str, str] | None = None,
) -> list[RunSpec]:
    """Return the specs of a plan's runs; `tuned`: row -> text of the recipe to run.

    First the untouched base and the zero-budget control. Then an untrained run for each recipe that
    does not begin as the base: what quantisation loses before training must not count as
    forgetting. Then every recipe with every seed.
    """
    plan = material.plan
    specs = [spec_of(material, "base", Role.BASE, PLAIN, 0, 0.0)]

    # Nothing is trained in a comparison of finished models, so the base itself stands as the
    # control.
    if material.recipes:
        specs.append(spec_of(material, CONTROL, Role.CONTROL, PLAIN, 0, 0.0))

    # Recipes that begin alike share one untrained run.
    beginnings = [unlike_base(recipe) for recipe in material.recipes]
    for text in dict.fromkeys(beginnings):
        if text:
            row = f"{text}, untrained"
            specs.append(spec_of(material, row, Role.UNTRAINED, parse_recipe(text), 0, 0.0))

    # The row keeps the name of what was asked; the recipe that runs may be the tuned one.
    for row_recipe in material.recipes:
        text = (tuned or {}).get(row_recipe.row, row_recipe.text)
        recipe = parse_recipe(text)
        for seed in range(plan.seeds):
            specs.append(spec_of(material, row_recipe.row, Role.RECIPE, recipe, seed, allowed))
    return [*specs, *(measured_spec(material, model) for model in material.measured)]


def measured_spec(material: Material, model: MeasuredModel) -> RunSpec:
    """Return the spec of a model that is scored, not trained; its question is which model it is."""
    # Scored as the base is, which is not trained either; the hash of its files makes it a question
    # of its own.
    spec = spec_of(material, model.row, Role.BASE, PLAIN, model.seed, 0.0, REPORTED[:-1])
    question = Question({**spec.question.fields, "role": model.role, "measured": model.tuned.hash})
    return dataclasses.replace(
        spec,
        role=model.role,
        track=Track.MEASURED,
        question=question,
        tuned=model.tuned,
    )


def rate_of(material: Material, recipe: Recipe) -> float:
    """Return the peak learning rate.

    It is the recipe's own, else plain fine-tuning's times its methods' `lr_scale`.
    """
    # A method may need another rate than plain fine-tuning; a recipe that gives one overrules both.
    scale = math.prod(method.lr_scale for method in recipe.methods)
    return recipe.learning_rate or material.training.learning_rate * scale


def spec_of(
    material: Material,
    row: str,
    role: Role,
    recipe: Recipe,
    seed: int,
    allowed: float,
    kinds: tuple[EvalKind, ...] = (),
) -> RunSpec:
    """Return the spec of one run, with the question that names it; `kinds`: its evaluations."""
    plan = material.plan
    # A trial of a tuning names its evaluations; whatever enters the table has those of the table.
    reported = not kinds
    training = dataclasses.replace(
        material.training,
        learning_rate=rate_of(material, recipe),
        pack_length=material.training.pack_length if recipe.packs else None,
    )

    # The base answers the same question whatever is trained.
    fields: dict[str, Any] = {"protocol": PROTOCOL, "role": role, "model": material.base.hash}
    if role != Role.BASE:
        fields |= _trained_fields(material, recipe, training, seed, allowed)

    # What does not fold into the base's own weights cannot be saved as a model.
    saves_models = role == Role.RECIPE and reported and recipe.folds
    models = plan.checkpoint_fractions if saves_models else ()
    return RunSpec(
        row=row,
        role=role,
        track=recipe.track,
        seed=seed,
        recipe=recipe.text,
        training=training,
        meter=plan.meter,
        allowed=allowed,
        question=Question(fields),
        kinds=kinds or _reported_kinds(material, role, recipe),
        models=models,
    )


def _reported_kinds(material: Material, role: Role, recipe: Recipe) -> tuple[EvalKind, ...]:
    """Return the evaluations of a run that enters the table."""
    plan = material.plan
    kinds = REPORTED[:-1] if plan.final_only or not material.recipes else REPORTED
    if role != Role.BASE and len(material.stages) > 1:
        kinds = (*kinds, EvalKind.STAGES)

    # The probe trains the plain model again, so that what was trained must fold into it.
    if plan.probe and recipe.folds and role in (Role.BASE, Role.RECIPE):
        kinds = (*kinds, EvalKind.PROBE)
    return kinds


def _trained_fields(
    material: Material,
    recipe: Recipe,
    training: Training,
    seed: int,
    allowed: float,
) -> dict[str, Any]:
    """Return everything that changes a trained run, for its question."""
    plan = material.plan
    data = material.training_data
    fields: dict[str, Any] = {
        "methods": recipe.question,
        "training": training.question,
        "data": data.domain_fingerprint,
        "general": data.general_fingerprint if Need.GENERAL_DATA in recipe.needs else None,
        "budget": {"meter": plan.meter, "allowed": allowed},
        "seed": seed,
        "threads": plan.threads,
        "device": plan.device,
        "torch": torch.__version__,
    }

    # The number of examples of each stage, where there are several.
    if len(material.stages) > 1:
        sizes = Counter(example.stage for example in data.domain)
        fields["stages"] = [sizes[number] for number in range(1, len(material.stages) + 1)]

    # Only where a run has several processes: the names of older runs do not mention them.
    fields |= ranks_of(plan)
    if Need.DEV_SCORES in recipe.needs:
        fields["general_dev"] = [record.id for record in material.general_dev]
    return fields


def planned_run(
    material: Material,
    spec: RunSpec,
    engine: Alone | None = None,
    open_dev: OpenDev = no_dev_items,
) -> PlannedRun:
    """Return the run that answers a spec's question, in one process unless an engine is given."""
    recipe = parse_recipe(spec.recipe)
    ledger = Ledger(spec.meter, spec.allowed)
    return PlannedRun(
        base=material.base,
        data=material.training_data,
        methods=recipe.methods,
        training=spec.training,
        ledger=ledger,
        seed=spec.seed,
        device=material.plan.device,
        engine=engine,
        open_dev=open_dev,
    )


def allowed_amount(material: Material) -> float:
    """Return the budget in the binding meter's unit.

    It is as given, or the price of so many epochs of plain fine-tuning.
    """
    # A budget in its own unit is taken as it stands; only epochs have to be priced.
    budget = material.budget
    meter = material.plan.meter
    if budget.unit != "epochs":
        return budget.amount

    # The steps that plain fine-tuning would take, stage by stage.
    spec = spec_of(material, "plain", Role.RECIPE, PLAIN, 0, math.inf)
    run = planned_run(material, spec)
    steps: list[Step] = []
    for stage in range(1, len(run.ends) + 1):
        run.enter(stage)
        steps_per_epoch = math.ceil(len(run.domain) / material.plan.batch_size)
        steps += islice(run.steps(), round(budget.amount * steps_per_epoch))

    # What they cost; seconds are FLOPs at the pace that is measured here.
    if meter == "steps":
        return float(len(steps))
    # Tokens are what the examples hold, padding not counted.
    if meter == "tokens":
        return float(sum(map(len, chain.from_iterable(steps))))
    flops = sum(run.step_price(step)[0] for step in steps)
    if meter == "flops":
        return flops
    return flops * seconds_a_flop(material)


PACE_STEPS = 8
"""Optimizer steps over which the pace of plain fine-tuning is measured."""


def seconds_a_flop(material: Material, engine: Alone | None = None) -> float:
    """Return the seconds per FLOP of plain fine-tuning on this device, over a few steps."""
    from harness.training.loop import train

    # In steps, so that the budget does not depend on the pace that is being measured.
    spec = spec_of(material, "plain", Role.RECIPE, PLAIN, 0, float(PACE_STEPS))
    run = planned_run(material, dataclasses.replace(spec, meter="steps"), engine)
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, lambda _: None)
    return run.ledger.pace
