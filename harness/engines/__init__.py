"""Where runs execute: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.evaluation import EvaluationPlan
from harness.lease import Watch
from harness.material import Material
from harness.specs import RunSpec
from harness.store import RunStore

Events = Callable[[RunSpec, dict[str, Any]], None]


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec where the plan says; each ends with a status in the store, whatever happens to its process."""
    if material.plan.ray:
        from harness.engines.ray import run_all as run
    else:
        from harness.engines.local import run_all as run
    run(specs, material, evaluation, store, events)


def next_free(waiting: list[RunSpec], store: RunStore, watch: Watch) -> RunSpec:
    """Take out of the queue the first run that no other process is at; where others are at all of them, the first."""
    spec = next((spec for spec in waiting if watch.free(store.run(spec.key).path)), waiting[0])
    waiting.remove(spec)
    return spec
