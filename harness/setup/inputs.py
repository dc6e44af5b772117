"""Everything that a plan names, read and free of faults: budget, recipes, model, records, and models tuned elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.split import Dataset
from harness.data.stages import load_stages
from harness.data.tested_only import dataset_of_tests
from harness.decoding.open_model import open_base
from harness.doing import doing
from harness.errors import PlanError, raise_faults
from harness.files.records import Record, read_records
from harness.measured.tuned import Tuned, open_tuned
from harness.models.base_model import BaseModel, architecture_of
from harness.models.kernels import kernels_of
from harness.plan.plan import Plan
from harness.plan.values import Budget, parse_budget
from harness.recipes.optimizer import read_optimizer
from harness.recipes.recipe import Recipe, parse_recipe, unoptimized, unsharded
from harness.setup.machine import meter_of
from harness.setup.recipe_trial import recipe_faults
from harness.tokens.plain_form import plain_form
from harness.vocabulary import Role

SHARED = "runs share a GPU, so a run's seconds depend on what else is there"


@dataclass(frozen=True)
class MeasuredModel:
    """A model that is a row without being trained here."""

    row: str
    role: Role
    """`MEASURED`; `CONTROL` where it is the base, opened as the others are."""
    seed: int
    """Place among the models of its row."""
    tuned: Tuned


@dataclass(frozen=True)
class Inputs:
    """Everything that a plan names, read and free of faults."""

    budget: Budget
    recipes: list[Recipe]
    base: BaseModel
    stages: list[Dataset]
    general: list[Record]
    unread: list[str]
    """Notes on general records that were skipped."""
    kernels: str
    measured: list[MeasuredModel]


def read_inputs(plan: Plan) -> Inputs:
    """Read what the plan names. Raises one PlanError with all faults."""
    faults: list[str] = []

    def attempt(action: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except PlanError as error:
            faults.extend(error.faults)
            return None

    # Every part is read, however many of them have faults.
    budget = attempt(parse_budget, plan.budget)
    recipes = []
    for text in plan.recipe_texts:
        recipes += filter(None, [attempt(parse_recipe, text)])
    doing(f"reading and hashing the model {plan.model}")

    # A plain form of the user's own stands for the model's template.
    base = attempt(open_base, plan.model)
    if base and plan.template:
        base.tokenizer.chat_template = plain_form(plan.template)
    stages = attempt(_read_stages, plan)

    # General data is read with the domain's form: replay of texts for training on texts.
    general: list[Record] = []
    unread: list[str] = []
    if plan.general:
        accept = "both" if plan.mode == "cpt" else "chat"
        general = attempt(read_records, plan.general, accept, unread)

    kernels = ""
    if base:
        kernels = attempt(kernels_of, plan.kernels, plan.device, architecture_of(base.path))
    faults += _unfit(plan, budget, recipes)

    # Recipes are tried on the model, and models held against it, only where everything else can be read.
    measured = [] if faults else _open_measured(plan, base, faults)
    raise_faults(faults or recipe_faults(base, recipes))
    return Inputs(budget, recipes, base, stages, general, unread, kernels, measured)


def _unfit(plan: Plan, budget: Budget | None, recipes: Sequence[Recipe]) -> list[str]:
    """Return what is refused although each part can be read."""
    faults = []

    # Seconds cannot be compared where runs share a GPU, so such a budget would be unfair.
    if budget and plan.gpus_per_run < 1 and meter_of(plan, budget) == "seconds":
        cure = "bind another meter, as --meter flops, or give a run a whole GPU"
        faults.append(f"with gpus_per_run {plan.gpus_per_run:g}, {SHARED}; {cure}")

    # What moves the weights must suit the methods, and parts of weights where these are sharded.
    optimizer = read_optimizer(plan.optimizer)
    faults += [fault for recipe in recipes if (fault := unoptimized(recipe, optimizer))]
    if plan.deepspeed and optimizer.unsharded:
        faults.append(f"{optimizer.text} cannot be sharded by DeepSpeed: {optimizer.unsharded}; take adamw, or leave deepspeed")
    if plan.deepspeed:
        for recipe in recipes:
            fault = unsharded(recipe, len(plan.sources) > 1)
            if fault:
                faults.append(fault)
    return faults


def _read_stages(plan: Plan) -> list[Dataset]:
    """Return the plan's data files, split; where it has none, its test records alone."""
    accept = "text" if plan.mode == "cpt" else "chat"
    # Nothing is trained: the tests alone are the data.
    if not plan.sources:
        return [dataset_of_tests(plan.test, accept)]
    doing(f"reading {plan.data}, and looking for records that are alike")
    return load_stages(plan.sources, plan.tests, accept=accept)


CONTROL = "zero budget"
"""Row of the control."""


def _open_measured(plan: Plan, base: BaseModel, faults: list[str]) -> list[MeasuredModel]:
    """Return the models tuned elsewhere; the base too where nothing is trained, since there is no other control then.

    What is wrong with them is added to `faults`.
    """
    models: list[MeasuredModel] = []
    # A comparison of finished models needs a control too: the base, opened as they are.
    if not plan.recipe_texts:
        models.append(MeasuredModel(CONTROL, Role.CONTROL, 0, open_tuned(base.path, base)))
    for requested in plan.measured_models:
        for seed, path in enumerate(requested.places):
            doing(f"reading and hashing {path}")
            try:
                models.append(MeasuredModel(requested.row, Role.MEASURED, seed, open_tuned(path, base)))
            except PlanError as error:
                faults.extend(error.faults)
    return models
