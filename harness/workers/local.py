"""Runs on this machine: a process each, `workers` at a time."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from itertools import count

from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.lease import Watch
from harness.store.runs import RunStore
from harness.workers.fork_server import Server
from harness.workers.process import Events, device_slots, next_free, settle


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec; each ends with a status in the store, whatever happens to its process."""
    waiting, workers, watch = list(specs), material.plan.workers or 1, Watch()
    slots, numbers = device_slots(material.plan, workers), count()
    running: dict[int, tuple[RunSpec, str | None]] = {}
    server: Server | None = None
    try:
        while waiting or running:
            server = server or Server(material, evaluation, store)
            while waiting and len(running) < workers:
                spec, slot, number = next_free(waiting, store, watch), slots.pop(0), next(numbers)
                running[number] = spec, slot
                server.start(number, spec, slot)
                events(spec, {"phase": "starting"})
            try:
                told = [server.receive()]
            except EOFError:  # the server was killed, and its runs end with it
                server.end()
                told = [(number, {"phase": "ended", "exitcode": server.process.exitcode}) for number in running]
                server = None
            for number, event in told:
                spec, slot = running[number]
                if event["phase"] == "ended":
                    del running[number]
                    slots.append(slot)
                    _settle(spec, store, event["exitcode"])
                events(spec, event)
    finally:
        if server:
            server.end()


def _settle(spec: RunSpec, store: RunStore, exitcode: int | None) -> None:
    """A process that ended without leaving a status was killed: say so."""
    if exitcode == 0 and store.run(spec.key).status is not None:
        return
    killed = -exitcode if exitcode is not None and exitcode < 0 else None
    reason = f"its process was ended by signal {killed}" if killed else f"its process ended with exit code {exitcode}"
    status = "out_of_memory" if killed == signal.SIGKILL else "failed"
    if status == "out_of_memory":
        reason += ", which is how Linux ends a process when memory runs out"
    settle(spec, store, status, reason)
