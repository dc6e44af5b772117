"""What one process does for a run: train, score, or take part in a run of several processes."""

from __future__ import annotations

from typing import Any

from harness.plan.deepspeed import sharding_of
from harness.plan.settings import Settings
from harness.runs.events import Requeued
from harness.setup.evaluations import Evaluation, EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.runs import RunStore
from harness.vocabulary import Role, Status
from harness.workers.process import Send, settle, steady
from harness.workers.ranks import FaultKind, RankInfo, launch


def trains_together(spec: RunSpec, plan: Settings) -> bool:
    """Return whether several ranks make the run; base and controls train nothing."""
    return spec.role == Role.RECIPE and plan.has_ranks


def perform(spec: RunSpec, material: Material, evaluation: Evaluation, store: RunStore, send: Send) -> None:
    """Make a run and its evaluations: here, or in as many processes as the plan gives a run."""
    from harness.runs.execute import execute

    plan = material.plan
    # Nothing to train together: one process does it all.
    if not trains_together(spec, plan):
        execute(spec, material, store, evaluation, send)
        return
    fault = launch(take_part, plan.ranks, (spec, material, evaluation.plan, store), send, plan.threads)
    if fault is None:
        return
    reason = fault.message.splitlines()[0]
    match fault.kind:
        case FaultKind.LOST:  # another process took the run over: wait for it
            perform(spec, material, evaluation, store, send)
        case FaultKind.CRAMPED:  # there is less room each time, so not for ever
            send(Requeued(reason=reason))
            perform(spec, material, evaluation, store, send)
        case FaultKind.OUT_OF_MEMORY:
            settle(spec, store, Status.OUT_OF_MEMORY, reason)
        case FaultKind.KILLED | FaultKind.OTHER:
            settle(spec, store, Status.FAILED, reason)


def take_part(
    info: RankInfo, send: Send, spec: RunSpec, material: Material, evaluation: EvaluationPlan, store: RunStore
) -> None:
    """Do one rank's part of a run: rank 0 does everything, the others train with it.

    Where memory runs out on one rank alone, `room.json` says with how much less room all ranks are to begin again.
    """
    from harness.runs.execute import execute, follow
    from harness.training.step import Cramped

    def join() -> Any:
        return info.join(material.plan.device, sharding_of(material.plan))

    try:
        if info.rank == 0:
            execute(spec, material, store, evaluation.open(material), send, join)
        else:
            follow(spec, material, join)
    except Cramped as error:
        # The room is written before all ranks end, since they begin again from the store.
        store.run(spec.key).write("room", {"room": error.room, "notes": error.notes})
        raise


def work(spec: RunSpec, material: Material, evaluation: Evaluation, store: RunStore, send: Send) -> None:
    """Make one run; its events go to `send`."""

    steady(material.plan.threads)
    perform(spec, material, evaluation, store, send)
