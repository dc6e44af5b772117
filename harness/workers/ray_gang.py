"""The processes of one run on a Ray cluster: an actor a rank, on one node where they all fit, else over several.

Their room is reserved together (a placement group), so no run waits for ever with half of its ranks. The first rank's node
serves the store at which they meet. A process that is lost, or whose node is, ends the others.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness.store.lease import Lost
from harness.store.provenance import where
from harness.store.schema import PROTOCOL
from harness.training.step import Cramped
from harness.workers.process import steady
from harness.workers.ranks import RankInfo
from harness.workers.ray_cluster import Resources

GRACE = 30.0
"""Seconds that ranks have to end after the first of them did: Ray notices within this time that a node is gone (a guess)."""


class Rank:
    """An actor: one process of a run, with its own cores and GPU."""

    def meet(self) -> tuple[str, int]:
        """Serve the store at which ranks meet, and return its address."""
        import torch.distributed as dist

        self.store: Any = dist.TCPStore(_address(), 0, is_master=True, wait_for_workers=False)  # type: ignore  # a free port, held
        return _address(), self.store.port

    def work(self, info: RankInfo, meeting: tuple[str, int], work: Callable[..., Any], *arguments: Any) -> Any:
        """Run `work(info, *arguments)` in the main thread of this process."""
        steady(info.threads)
        if name := interface(_address()):  # gloo takes what the host's name resolves to, which may be 127.0.1.1
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        return work(dataclasses.replace(info, meeting=meeting), *arguments)


def _address() -> str:
    import ray

    return ray.util.get_node_ip_address()


def interface(address: str) -> str | None:
    """Return the network interface with this address."""
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, addresses in interfaces if any(entry.address == address for entry in addresses)), None)


Environment = dict[str, str | int | None]
"""Protocol, commit, versions of packages and the working folder, by name."""


def driver_environment() -> Environment:
    """Return what must be the same on driver and worker for their runs to be comparable, and where relative paths begin."""
    return {"protocol": PROTOCOL, "commit": where()["git"]["commit"], **where()["packages"], "folder": str(Path.cwd())}


def enter_environment(driver: Environment) -> None:
    """Work in the driver's folder; raise RuntimeError where a version here is not the driver's."""
    os.chdir(str(driver["folder"]))
    different = {name: value for name, value in driver_environment().items() if value != driver[name]}
    if different:
        wanted = ", ".join(f"{name} {value} (driver: {driver[name]})" for name, value in different.items())
        raise RuntimeError(f"{socket.gethostname()} has {wanted}; install the same on every node")


class Gang:
    """The ranks of one run, and how they end.

    `work` gives True in the first rank where nothing that others say could matter any more.
    """

    def __init__(self, ray: Any, request: Resources, work: Callable[..., Any], *arguments: Any):
        """Start `work(info, *arguments)` in each as soon as there is room for all."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as Inside

        self.ray = ray

        # Room for all ranks at once: two runs that each hold half of it would wait for ever.
        self.group = placement_group([request.bundle] * request.ranks, strategy="STRICT_PACK" if request.one_node else "PACK")
        actor = ray.remote(num_cpus=request.cpus, num_gpus=request.gpus)(Rank)
        bundles = [Inside(self.group, placement_group_bundle_index=i) for i in range(request.ranks)]
        self.ranks = [actor.options(scheduling_strategy=bundle).remote() for bundle in bundles]
        infos = [RankInfo(i, request.ranks, request.cpus) for i in range(request.ranks)]

        # The first rank serves the store; the others learn its address.
        meeting = self.ranks[0].meet.remote()
        self.parts = [rank.work.remote(info, meeting, work, *arguments) for rank, info in zip(self.ranks, infos, strict=True)]
        self.pending, self.faults, self.since = set(self.parts), [], None

    def note(self, part: Any) -> None:
        """Note that one of `parts` ended."""
        # The others get some time to say what happened to them, then the run is over.
        self.pending.discard(part)
        try:
            answered = self.ray.get(part)
        except self.ray.exceptions.RayError as error:
            self.faults.append(error)
            answered = self.lost or self.cramped is not None
        if answered:
            self.pending.clear()
        elif self.faults or part == self.parts[0]:
            self.since = self.since or time.monotonic()

    @property
    def cramped(self) -> Cramped | None:
        """The error of a rank that ran out of memory; the run is made again with less room."""
        raised = (error.cause for error in self.faults if isinstance(error, self.ray.exceptions.RayTaskError))
        return next((cause for cause in raised if isinstance(cause, Cramped)), None)

    @property
    def lost(self) -> bool:
        """Whether a rank's process or node was lost, so that the run can be made again."""
        return any(self._lost(error) for error in self.faults)

    def _lost(self, error: Any) -> bool:
        """Return whether a rank was lost; what a rank itself raised is no loss, but for the run's lease."""
        raised = isinstance(error, self.ray.exceptions.RayTaskError)
        return isinstance(error.cause, Lost) if raised else True

    @property
    def over(self) -> bool:
        return not self.pending or (self.since is not None and time.monotonic() - self.since > GRACE)

    @property
    def fault(self) -> Any:
        """The error that ended the run, a lost rank before the errors it caused in others; None if there is none."""
        return next((error for error in self.faults if self._lost(error)), next(iter(self.faults), None))

    def end(self) -> None:
        """End every process, and give back what they held."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self.group)
