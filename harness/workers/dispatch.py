"""Where runs execute: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.runs import RunStore
from harness.workers.process import Events


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec where the plan says; each ends with a status in the store, whatever happens to its process."""
    if material.plan.ray:
        from harness.workers.ray_queue import run_all as run
    else:
        from harness.workers.local import run_all as run
    run(specs, material, evaluation, store, events)
