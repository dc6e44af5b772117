"""Runs on a Ray cluster: a fresh process each, on whichever node has the cores and the share of GPUs that a run asks for.

A run whose worker or node is lost is queued again and goes on from its last checkpoint, which the store holds: so all nodes
must see the store, the model, the suites and the working folder where the driver sees them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import PROTOCOL
from harness.engines import Events
from harness.engines.worker import settle, work
from harness.errors import PlanError
from harness.evaluation import EvaluationPlan
from harness.material import Material
from harness.specs import RunSpec
from harness.store import RunStore
from harness.where import ROOT, where

RETRIES = 3
"""How often a run whose worker was lost is tried again: a run that ends its own worker must not do so for ever."""
LOOK = 0.5
"""Seconds between two looks at the cluster, and the least between two reports of a training run."""


class Mailbox:
    """An actor: what the runs at work have said and nobody has read yet."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def put(self, key: str, event: dict[str, Any]) -> None:
        self.events.append((key, event))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        events, self.events = self.events, []
        return events


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec on the cluster at `plan.ray`; each ends with a status in the store, whatever happens to its worker."""
    if not specs:
        return
    ray = connect(str(material.plan.ray))
    try:
        _Queue(ray, specs, material, evaluation, store, events).run()
    finally:
        ray.shutdown()  # ends the workers of this job, and only those


def connect(address: str) -> Any:
    """Ray, connected. Raises PlanError where it is not installed or no cluster answers."""
    try:
        import ray
    except ModuleNotFoundError:
        raise PlanError("ray is not installed, which --ray needs; install it: pip install 'lethe[ray]'") from None
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        ray.init(address=address, runtime_env={"env_vars": environment}, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        cure = "start one with `ray start --head`, or leave --ray out to use this machine alone"
        raise PlanError(f"no Ray cluster answers at '{address}' ({str(error).splitlines()[0]}); {cure}") from error
    return ray


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Inside, what is given raises KeyboardInterrupt where there was one: raised within Ray's own callbacks it is swallowed."""
    caught: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        signal.default_int_handler(number, frame)

    def check() -> None:
        if caught:
            raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    if here:
        signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


class _Queue:
    """The runs that wait for the cluster, are at work, or were lost."""

    def __init__(
        self,
        ray: Any,
        specs: Sequence[RunSpec],
        material: Material,
        evaluation: EvaluationPlan,
        store: RunStore,
        events: Events,
    ):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        plan = material.plan
        gpus = plan.gpus_per_run if str(plan.device).startswith("cuda") else 0
        asked = {"num_cpus": plan.threads * plan.gpus_per_run, "num_gpus": gpus}
        _refuse_too_large(ray, asked)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.ray, self.store, self.events = ray, store, events
        self.waiting, self.lost = list(specs), dict.fromkeys((spec.key for spec in specs), 0)
        self.most = plan.workers or len(specs)
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self.shared = [ray.put(part) for part in (material, evaluation, store)]
        # a worker makes one run and ends; it is tried again here, where the number of times is bounded and shown
        self.task = ray.remote(**asked, max_calls=1, max_retries=0)(_work)
        self.running: dict[Any, RunSpec] = {}

    def run(self) -> None:
        with interrupts() as check:
            self.work_off(check)

    def work_off(self, check: Callable[[], None]) -> None:
        """Until nothing waits or runs; `check` raises KeyboardInterrupt where there was one."""
        try:
            while self.waiting or self.running:
                check()
                while self.waiting and len(self.running) < self.most:
                    spec = self.waiting.pop(0)
                    self.running[self.task.remote(spec, *self.shared, self.mailbox, _driver())] = spec
                ended, _ = self.ray.wait(list(self.running), timeout=LOOK)
                self.tell()
                for reference in ended:
                    self.end(reference, self.running.pop(reference))
        finally:
            for reference in self.running:
                self.ray.cancel(reference, force=True)

    def tell(self) -> None:
        """Pass on what runs have said since the last look."""
        at_work = {spec.key: spec for spec in self.running.values()}
        for key, event in self.ray.get(self.mailbox.take.remote()):
            if key in at_work:
                self.events(at_work[key], event)

    def end(self, reference: Any, spec: RunSpec) -> None:
        """A run ended, or its worker did: then it is queued again, or given up with a status."""
        lost = self.ray.exceptions
        try:
            self.ray.get(reference)
        except lost.RayTaskError as error:
            settle(spec, self.store, "failed", str(error.cause))
        except lost.RayError as error:  # the worker crashed, its node died, memory ran out there
            self.lost[spec.key] += 1
            reason = str(error).splitlines()[0]
            if self.lost[spec.key] <= RETRIES:
                self.events(spec, {"phase": "lost", "reason": reason})
                self.waiting.insert(0, spec)
                return
            memory = isinstance(error, lost.OutOfMemoryError)
            status = "out_of_memory" if memory else "failed"
            settle(spec, self.store, status, f"its worker was lost {RETRIES + 1} times: {reason}")
        self.events(spec, {"phase": "ended"})


def _refuse_too_large(ray: Any, asked: dict[str, Any]) -> None:
    """A run that fits no node would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= asked["num_cpus"] and node.get("GPU", 0) >= asked["num_gpus"] for node in nodes):
        most = "; ".join(f"{node.get('CPU', 0):g} cores, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise PlanError(
            f"a run asks for {asked['num_cpus']} cores and {asked['num_gpus']:g} GPUs, and no node of the cluster has them"
            f" ({most}); lower --threads or --gpus-per-run, or add nodes"
        )


def _driver() -> dict[str, Any]:
    """What must be the same on driver and worker for their runs to be comparable, and where relative paths begin."""
    return {"protocol": PROTOCOL, "commit": where()["git"]["commit"], **where()["packages"], "folder": str(Path.cwd())}


def _work(
    spec: RunSpec, material: Material, evaluation: EvaluationPlan, store: RunStore, mailbox: Any, driver: dict[str, Any]
) -> None:
    """In the run's own process, somewhere on the cluster."""
    host, told, held = socket.gethostname(), 0.0, None
    os.chdir(driver["folder"])
    other = {name: found for name, found in _driver().items() if found != driver[name]}
    if other:
        wanted = ", ".join(f"{name} {found} (driver: {driver[name]})" for name, found in other.items())
        raise RuntimeError(f"{host} has {wanted}; install the same on every node")

    def send(event: dict[str, Any]) -> None:
        nonlocal told, held
        training = event["phase"] == "training"
        if training and time.monotonic() - told < LOOK:
            held = event  # the last of them is told before what comes after the training
            return
        for one in (event,) if training or held is None else (held, event):
            mailbox.put.remote(spec.key, one | {"host": host})
        told, held = time.monotonic(), None

    send({"phase": "starting"})
    work(spec, material, evaluation, store, send)
