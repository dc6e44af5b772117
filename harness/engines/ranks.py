"""The processes of one run on this machine: started together, ended together, each with its own device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.engines.worker import settle
from harness.errors import PlanError
from harness.evaluation import EvaluationPlan
from harness.material import Material
from harness.specs import RunSpec, seconds_a_flop, sharding_of
from harness.store import RunStore

Send = Callable[[dict[str, Any]], None]
PRELOAD = ["harness.execute", "peft", "lm_eval.evaluator"]


@dataclass(frozen=True)
class Place:
    """Where one rank stands among the others."""

    rank: int
    size: int
    port: int
    """Of the store, on this machine, at which ranks meet."""
    threads: int = 1

    def join(self, device: str, config: dict[str, Any] | None) -> Any:
        """The engine of this rank; with a configuration of DeepSpeed's, a sharded one. Waits for the others."""
        import torch

        own = torch.device("cuda", self.rank) if device.startswith("cuda") else torch.device("cpu")
        if own.type == "cuda":
            torch.cuda.set_device(own)
        if config is None:
            from harness.parallel.together import Together

            return Together(self.rank, self.size, self.port, own)
        from harness.parallel.zero import Zero

        return Zero(self.rank, self.size, self.port, own, config)


def launch(work: Callable[..., None], size: int, arguments: Sequence[Any], receive: Send, threads: int = 1) -> str:
    """Run `work(place, send, *arguments)` in `size` processes; why it failed, empty where all ended well.

    What the first rank sends is received here. One that fails ends them all, and all end when the first one has.
    """
    import torch.distributed as dist

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    meeting: Any = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore  # a free port, held
    running: dict[Connection, tuple[BaseProcess, int]] = {}
    reason = ""
    try:
        for rank in range(size):
            ours, theirs = context.Pipe()
            place = Place(rank, size, meeting.port, threads)
            process = context.Process(target=_work, args=(work, place, theirs, arguments))
            process.start()
            theirs.close()
            running[ours] = process, rank
        while running and not reason:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, rank = running[connection]
                try:
                    event = connection.recv()
                except EOFError:
                    process.join()
                    del running[connection]
                    reason = reason or _fault(rank, process.exitcode)
                    if rank == 0:
                        return reason
                    continue
                reason = reason or event.get("fault", "")
                if rank == 0 and "fault" not in event:
                    receive(event)
        return reason
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


def _fault(rank: int, exitcode: int | None) -> str:
    if not exitcode:
        return ""
    if exitcode > 0:
        return f"process {rank} of the run ended with exit code {exitcode}"
    memory = ", which is how Linux ends a process when memory runs out" if -exitcode == signal.SIGKILL else ""
    return f"process {rank} of the run was ended by signal {-exitcode}{memory}"


def _work(work: Callable[..., None], place: Place, connection: Connection, arguments: Sequence[Any]) -> None:
    """In a rank's own process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    torch.set_num_threads(place.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        work(place, connection.send, *arguments)
    except BaseException as error:
        memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        told = f"process {place.rank}: {type(error).__name__}: {'out of memory: ' if memory else ''}{error}"
        connection.send({"fault": told, "traceback": traceback.format_exc()})
        os._exit(1)  # no collective may hold us back
    connection.close()
    os._exit(0)


def _end_with_parent(connection: Connection) -> None:
    """Nothing is ever sent to a rank: what comes is the parent's end."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def perform(spec: RunSpec, material: Material, evaluation: EvaluationPlan, store: RunStore, send: Send) -> None:
    """Make a run and its evaluations: here, or in as many processes as the plan gives a run."""
    from harness.execute import execute

    plan = material.plan
    if spec.role != "recipe" or not plan.has_ranks:
        execute(spec, material, store, evaluation.open(material), send)
        return
    reason = launch(_take_part, plan.gpus_per_run, (spec, material, evaluation, store), send, plan.threads)
    if reason.startswith("process 0: Lost:"):  # another process took the run over: wait for it
        perform(spec, material, evaluation, store, send)
    elif reason:
        status = "out_of_memory" if "out of memory" in reason or "memory runs out" in reason else "failed"
        settle(spec, store, status, reason.splitlines()[0])


def _take_part(
    place: Place, send: Send, spec: RunSpec, material: Material, evaluation: EvaluationPlan, store: RunStore
) -> None:
    """One rank of a run: the first does everything, the others train with it."""
    from harness.execute import execute, follow

    def join() -> Any:
        return place.join(material.plan.device or "cpu", sharding_of(material.plan))

    if place.rank == 0:
        execute(spec, material, store, evaluation.open(material), send, join)
    else:
        follow(spec, material, join)


def pace(material: Material) -> float:
    """Device-seconds a FLOP of plain fine-tuning: a few steps in as many processes as a run of the plan has."""
    plan, found = material.plan, []
    if not plan.has_ranks:
        return seconds_a_flop(material)
    if reason := launch(_calibrate, plan.gpus_per_run, (material,), lambda event: found.append(event["pace"]), plan.threads):
        raise PlanError(f"plain fine-tuning cannot be timed: {reason.splitlines()[0]}")
    return found[0]


def _calibrate(place: Place, send: Send, material: Material) -> None:
    send({"pace": seconds_a_flop(material, place.join(material.plan.device or "cpu", sharding_of(material.plan)))})
