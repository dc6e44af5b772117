"""The resources of a Ray cluster: what a run needs, and whether the cluster has it. No torch here."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from harness.bundled import ROOT
from harness.errors import PlanError
from harness.plan.settings import Settings
from harness.store.files import is_local, place

OBJECT_STORE = (
    " (all ranks on one node, as out is an object store, whose runs work in a copy on that node's scratch:"
    " with out on a file system that all nodes share they spread over nodes)"
)


@dataclass(frozen=True)
class Resources:
    """What a run asks for: so many ranks, each with its cores and its GPU, or a part of one."""

    ranks: int
    cpus: int
    gpus: float = 0.0
    """Of each rank: 1, a part of one, or 0 on CPUs."""
    one_node: bool = False
    """Whether ranks must share a node: they do not where all nodes see the run's folder."""

    @classmethod
    def of(cls, plan: Settings) -> Resources:
        gpus = min(1.0, plan.gpus_per_run) if plan.device.startswith("cuda") else 0.0
        return cls(plan.ranks, plan.threads, gpus, not is_local(place(plan.out)))

    @property
    def bundle(self) -> dict[str, float]:
        """One rank's share of a node, as Ray takes it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def __str__(self) -> str:
        each = f"{self.cpus} cores and {self.gpus:g} GPUs"
        return each if self.ranks == 1 else f"{self.ranks} times {each}"


def connect(address: str) -> Any:
    """Return Ray, connected. Raises PlanError where it is not installed or no cluster answers."""
    try:
        import ray
    except ModuleNotFoundError:
        raise PlanError("ray is not installed, which --ray needs; install it: pip install 'lethe[ray]'") from None

    # Workers import the same checkout as the driver.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        ray.init(address=address, runtime_env={"env_vars": environment}, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        cure = "start one with `ray start --head`, or leave --ray out to use this machine alone"
        raise PlanError(f"no Ray cluster answers at '{address}' ({str(error).splitlines()[0]}); {cure}") from error
    return ray


def nodes_of(ray: Any) -> list[dict[str, float]]:
    """Return the resources of the nodes that are there, whatever is in use."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def slots_per_node(request: Resources, nodes: list[dict[str, float]]) -> list[int]:
    """Return how many ranks each node holds, most first. Raises PlanError where a run would wait for ever."""
    # As many ranks as the scarcest resource of a node allows.
    room = [min(_times(node.get(kind, 0.0), each) for kind, each in request.bundle.items()) for node in nodes]
    if (max(room, default=0) if request.one_node else sum(room)) < request.ranks:
        most = "; ".join(f"{node.get('CPU', 0):g} cores, {node.get('GPU', 0):g} GPUs" for node in nodes)
        why = OBJECT_STORE if request.one_node and sum(room) >= request.ranks else ""
        raise PlanError(
            f"a run asks for {request}, and the cluster's nodes have no room for that ({most}){why};"
            " lower --threads or --gpus-per-run, or add nodes"
        )
    return sorted(room, reverse=True)


def _times(available: float, each: float) -> int:
    return int(available / each + 1e-6)


def describe(plan: Settings) -> tuple[str, int]:
    """Return (the cluster and a run's place in it in words, runs at once). Raises PlanError where a run has no place."""
    request, ray = Resources.of(plan), connect(str(plan.ray))
    try:
        nodes = nodes_of(ray)
    finally:
        ray.shutdown()
    room = slots_per_node(request, nodes)
    at_once = sum(each // request.ranks for each in room) if request.one_node else sum(room) // request.ranks
    needed = next(n for n in range(1, len(room) + 1) if sum(room[:n]) >= request.ranks)
    where = "one node" if needed == 1 else f"{needed} nodes"
    sentence = f"cluster at {plan.ray}: {len(nodes)} nodes; a run takes {request}, on {where}"
    return sentence, min(at_once, plan.workers or at_once)
