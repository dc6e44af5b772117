"""The dev items by which a method may decide on a model that was tuned elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plan.load import make_plan
from harness.plan.measured import plan_options
from harness.setup.evaluations import Evaluation, EvaluationPlan
from harness.setup.material import gather
from harness.training.protocol import OpenDev


@dataclass(frozen=True)
class DevItems:
    """General items to decide by, and how models are asked them."""

    open: OpenDev
    device: str
    precision: str


def dev_items(base: str, tuned: str, general: str) -> DevItems:
    """Return the dev items of a file of general records, as every comparison takes them from GENERAL.

    Raises PlanError where the file, a model or the machine cannot be used.
    """
    plan = make_plan(plan_options(base, [tuned], {"general": general}))
    material = gather(plan)
    evaluation = Evaluation(EvaluationPlan({}, [], (), keep=False), material)
    return DevItems(evaluation.open_dev, material.plan.device, material.plan.precision)
