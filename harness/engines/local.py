"""Runs on this machine: a process each, `workers` at a time.

A process of its own gives a run a clean memory peak and random state, and lets a kill or a crash end that run only. Processes
fork from a server that has imported the libraries, so a start costs little.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.engines import Events, next_free
from harness.engines.worker import settle, work
from harness.evaluation import EvaluationPlan
from harness.lease import Watch
from harness.material import Material
from harness.plan import Plan
from harness.sharding import devices_of
from harness.specs import RunSpec
from harness.store import RunStore

PRELOAD = ["harness.wrapping", "transformers", "peft", "lm_eval.evaluator", "torch.utils.tensorboard", "harness.execute"]


def run_all(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, events: Events) -> None:
    """Execute every spec; each ends with a status in the store, whatever happens to its process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads halve the speed of a shared machine
    waiting, workers, watch = list(specs), material.plan.workers or 1, Watch()
    slots = device_slots(material.plan, workers)
    running: dict[Connection, tuple[BaseProcess, RunSpec, str | None]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                spec = next_free(waiting, store, watch)
                ours, theirs = context.Pipe(duplex=False)
                slot = slots.pop(0)
                process = context.Process(target=_work, args=(spec, material, evaluation, store, theirs, slot))
                process.start()
                theirs.close()
                running[ours] = process, spec, slot
                events(spec, {"phase": "starting"})
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, spec, slot = running[connection]
                try:
                    events(spec, connection.recv())
                except EOFError:
                    process.join()
                    del running[connection]
                    slots.append(slot)
                    _settle(spec, store, process.exitcode)
                    events(spec, {"phase": "ended"})
    finally:
        for process, *_ in running.values():
            process.terminate()
            process.join()


def device_slots(plan: Plan, workers: int) -> list[str | None]:
    """The GPUs of each of the runs at once, as CUDA_VISIBLE_DEVICES has it; None: whatever is seen."""
    width = plan.ranks
    if plan.devices is None and width == 1:
        return [None] * workers
    seen = devices_of(plan.devices) if plan.devices else list(range(width * workers))
    return [",".join(str(seen[(run * width + i) % len(seen)]) for i in range(width)) for run in range(workers)]


def _work(
    spec: RunSpec,
    material: Material,
    evaluation: EvaluationPlan,
    store: RunStore,
    connection: Connection,
    slot: str | None = None,
) -> None:
    """In the run's own process."""
    if slot is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot

    def send(event: dict[str, Any]) -> None:
        try:
            connection.send(event)
        except OSError:  # the parent is gone: end here, the run goes on from its checkpoint next time
            os._exit(1)

    work(spec, material, evaluation, store, send)
    connection.close()


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
