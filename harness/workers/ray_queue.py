"""Runs on a Ray cluster: fresh processes each, on whichever nodes have the cores and GPUs (or part of one) that a run asks for.

A run that loses a process or node is queued again and goes on from its last checkpoint, which the store holds: so all nodes
must see the store, the model, the suites and the working folder where the driver sees them.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from harness.models.device_memory import ran_out_of_memory
from harness.runs.events import Ended, Event, Requeued, Started, Stepped
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.runs import RunStore
from harness.vocabulary import Status
from harness.workers.perform import take_part, trains_together, work
from harness.workers.process import Events, settle
from harness.workers.ranks import RankInfo
from harness.workers.ray_cluster import Resources, connect, nodes_of, slots_per_node
from harness.workers.ray_gang import Gang, driver_environment, enter_environment

RETRIES = 3
"""How often a run whose worker was lost is tried again: a run that ends its own worker must not do so for ever."""
LOOK = 0.5
"""Seconds between two looks at the cluster, and the least between two reports of a training run."""


class Mailbox:
    """An actor: what the runs at work have said and nobody has read yet."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def put(self, key: str, event: Event) -> None:
        self.events.append((key, event))

    def take(self) -> list[tuple[str, Event]]:
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


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt if Ctrl-C was pressed: Ray's own callbacks swallow it when it is raised there."""
    caught: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        signal.default_int_handler(number, frame)

    def check() -> None:
        if caught:
            raise KeyboardInterrupt

    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread:
        signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        if is_main_thread:
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

        self.ray, self.plan, self.store, self.events = ray, material.plan, store, events
        self.resources = Resources.of(self.plan)
        slots_per_node(self.resources, nodes_of(ray))
        on_this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.waiting, self.lost = list(specs), dict.fromkeys((spec.key for spec in specs), 0)
        self.most = self.plan.workers or len(specs)
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=on_this_node).remote()
        self.shared = [ray.put(part) for part in (material, evaluation, store)]
        self.running: list[tuple[Gang, RunSpec]] = []

    def run(self) -> None:
        with interrupts() as check:
            self.work_off(check)

    def work_off(self, check: Callable[[], None]) -> None:
        """Work until nothing waits or runs; `check` raises KeyboardInterrupt where there was one."""
        try:
            while self.waiting or self.running:
                check()
                while self.waiting and len(self.running) < self.most:
                    spec = self.waiting.pop(0)
                    self.running.append((self.start(spec), spec))

                # Whatever ends first is looked at first.
                at_work = {}
                for gang, _ in self.running:
                    at_work |= dict.fromkeys(gang.pending, gang)
                ended, _ = self.ray.wait(list(at_work), timeout=LOOK)
                self.tell()
                for part in ended:
                    at_work[part].note(part)
                over = [(gang, spec) for gang, spec in self.running if gang.over]
                self.running = [(gang, spec) for gang, spec in self.running if not gang.over]
                for gang, spec in over:
                    self.end(gang, spec)
        finally:
            for gang, _ in self.running:
                gang.end()

    def start(self, spec: RunSpec) -> Gang:
        """Return a run's processes: made anew for each, and tried again here, where the number of times is bounded and
        shown.
        """
        request = self.resources if trains_together(spec, self.plan) else replace(self.resources, ranks=1)
        return Gang(self.ray, request, _work, spec, *self.shared, self.mailbox, driver_environment())

    def tell(self) -> None:
        """Pass on what runs have said since the last look."""
        at_work = {spec.key: spec for _, spec in self.running}
        for key, event in self.ray.get(self.mailbox.take.remote()):
            if key in at_work:
                self.events(at_work[key], event)

    def end(self, gang: Gang, spec: RunSpec) -> None:
        """Note that a run ended, or was lost: then it is queued again, or given up with a status."""
        gang.end()

        # In the order of what may help: less room, another worker, nothing.
        if gang.cramped:  # with less room each time, so not for ever
            self.again(spec, f"out of memory: {gang.cramped}")
            return
        if gang.lost:  # a worker crashed, its node died, memory ran out there
            self.lost[spec.key] += 1
            reason = str(gang.fault).splitlines()[0]
            if self.lost[spec.key] <= RETRIES:
                self.again(spec, reason)
                return
            memory = isinstance(gang.fault, self.ray.exceptions.OutOfMemoryError)
            status = Status.OUT_OF_MEMORY if memory else Status.FAILED
            settle(spec, self.store, status, f"its worker was lost {RETRIES + 1} times: {reason}")
        elif gang.fault is not None:
            raised = gang.fault.cause
            status = Status.OUT_OF_MEMORY if ran_out_of_memory(raised) else Status.FAILED
            settle(spec, self.store, status, str(raised))
        self.events(spec, Ended())

    def again(self, spec: RunSpec, reason: str) -> None:
        """Queue a run before all others."""
        self.events(spec, Requeued(reason=reason))
        self.waiting.insert(0, spec)


def _work(
    info: RankInfo, spec: RunSpec, material: Material, evaluation: EvaluationPlan, store: RunStore, mailbox: Any, driver: Any
) -> bool:
    """Make a run, in each of its own processes, somewhere on the cluster. Returns whether it came to an answer."""
    enter_environment(driver)
    host = socket.gethostname()
    sent_at = 0.0
    held: Event | None = None

    def send(event: Event) -> None:
        nonlocal sent_at, held
        step = isinstance(event, Stepped)
        if step and time.monotonic() - sent_at < LOOK:
            held = event
            return

        # The last step that was held back is sent before what comes after the training.
        if held is not None and not step:
            mailbox.put.remote(spec.key, replace(held, host=host))
        mailbox.put.remote(spec.key, replace(event, host=host))
        sent_at = time.monotonic()
        held = None

    if info.rank == 0:
        send(Started())
    if trains_together(spec, material.plan):
        take_part(info, send, spec, material, evaluation, store)
    else:
        work(spec, material, evaluation.open(material), store, send)
    return info.rank == 0 and store.run(spec.key).status not in (Status.FAILED, None)
