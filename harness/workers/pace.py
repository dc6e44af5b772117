"""The pace of plain fine-tuning: device-seconds per FLOP, measured by a few steps where runs will be computed."""

from __future__ import annotations

from harness.errors import PlanError
from harness.plan.deepspeed import sharding_of
from harness.setup.material import Material
from harness.setup.specs import seconds_a_flop
from harness.workers.process import device_slots
from harness.workers.ranks import RankInfo, Send, launch
from harness.workers.ray_cluster import Resources, connect, nodes_of, slots_per_node
from harness.workers.ray_gang import Environment, Gang, driver_environment, enter_environment


def pace(material: Material) -> float:
    """Return device-seconds per FLOP, in as many processes as a run of the plan has.

    Never measured in this process, which would go on holding a GPU's memory.
    """
    return _pace_on_cluster(material) if material.plan.ray else _pace_here(material)


def calibrate(info: RankInfo, material: Material) -> float:
    """Return the pace as one rank sees it, or the only process."""
    # A run of several ranks is timed as such: communication is part of its pace.
    plan = material.plan
    engine = info.join(plan.device, sharding_of(plan)) if plan.has_ranks else None
    return seconds_a_flop(material, engine)


def _pace_here(material: Material) -> float:
    plan = material.plan
    measured: list[float] = []
    (slot,) = device_slots(plan, 1)

    fault = launch(_calibrate_and_send, plan.ranks, (material,), measured.append, plan.threads, slot)
    if fault is not None:
        raise PlanError(f"plain fine-tuning cannot be timed: {fault.message.splitlines()[0]}")
    return measured[0]


def _calibrate_and_send(info: RankInfo, send: Send, material: Material) -> None:
    send(calibrate(info, material))


def _pace_on_cluster(material: Material) -> float:
    ray = connect(str(material.plan.ray))
    try:
        bundle = Resources.of(material.plan)
        slots_per_node(bundle, nodes_of(ray))
        return ray.get(Gang(ray, bundle, _calibrate_on_node, material, driver_environment()).parts)[0]
    except ray.exceptions.RayError as error:
        raise PlanError(f"plain fine-tuning cannot be timed: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


def _calibrate_on_node(info: RankInfo, material: Material, driver: Environment) -> float:
    enter_environment(driver)
    return calibrate(info, material)
