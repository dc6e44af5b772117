"""Runs on this machine: a process each, `workers` at a time."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from itertools import count

from harness.runs.events import Ended, Event, Started
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.lease import Watch
from harness.store.runs import RunStore
from harness.vocabulary import Status
from harness.workers.environment import MemoryKills
from harness.workers.fork_server import Server
from harness.workers.process import Events, device_slots, next_free, settle


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec; each ends with a status in the store, whatever happens to its process."""
    waiting = list(specs)
    workers = material.plan.workers or 1
    watch = Watch()
    # GPUs are given out by slot, so that two runs never share one.
    slots = device_slots(material.plan, workers)
    numbers = count()
    running: dict[int, tuple[RunSpec, str | None, MemoryKills]] = {}
    server: Server | None = None
    try:
        while waiting or running:
            server = server or Server(material, evaluation, store)
            while waiting and len(running) < workers:
                # Runs that another command is making are left to it as long as others wait.
                spec = next_free(waiting, store, watch)
                slot = slots.pop(0)
                number = next(numbers)
                running[number] = spec, slot, MemoryKills()
                server.start(number, spec, slot)
                events(spec, Started())

            # Where the server was killed, its runs have ended with it; the next round starts another one.
            received: list[tuple[int, Event]]
            try:
                received = [server.receive()]
            except EOFError:
                server.end()
                received = [(number, Ended(exitcode=server.process.exitcode)) for number in running]
                server = None
            for number, event in received:
                spec, slot, kills = running[number]
                if isinstance(event, Ended):
                    del running[number]
                    slots.append(slot)
                    settle_killed(spec, store, event.exitcode, kills)
                events(spec, event)
    finally:
        if server:
            server.end()


def settle_killed(spec: RunSpec, store: RunStore, exitcode: int | None, kills: MemoryKills) -> None:
    """Store a status for a process that ended without leaving one: it was killed."""
    # It ended well, and left a status of its own.
    if exitcode == 0 and store.run(spec.key).status is not None:
        return
    killed = -exitcode if exitcode is not None and exitcode < 0 else None
    # Signal 9 alone says nothing: the system's counters tell whether memory ran out.
    reason = f"its process was ended by signal {killed}" if killed else f"its process ended with exit code {exitcode}"
    if killed == signal.SIGKILL:
        reason += f": {kills.why}"
    memory = killed == signal.SIGKILL and kills.any
    settle(spec, store, Status.OUT_OF_MEMORY if memory else Status.FAILED, reason)
