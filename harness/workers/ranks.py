"""The processes of one run on this machine: started together, ended together, each with its own device.

On a cluster `harness/workers/ray_gang.py` starts them; what they do is the same.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.plan.deepspeed import DeepSpeedConfig
from harness.workers.environment import VISIBLE, MemoryKills
from harness.workers.process import forkserver, steady

Send = Callable[[Any], None]
"""Sends anything that can be pickled to the process that launched the ranks."""
GRACE = 5.0
"""Seconds in which the end of a killed process is looked for, once another process has reported a fault."""


class FaultKind(StrEnum):
    """The kinds of ends of a rank that decide what becomes of its run."""

    LOST = "lost"
    """Another process took over the run's lease."""
    CRAMPED = "cramped"
    """Memory ran out, and the run can begin again with less room."""
    OUT_OF_MEMORY = "out of memory"
    """Memory ran out, and the run cannot go on."""
    KILLED = "killed"
    """Somebody ended it by SIGKILL; where Linux did as memory ran out, that is the kind."""
    OTHER = "other"
    """Any other exception, exit code or signal."""

    @classmethod
    def of(cls, error: BaseException) -> FaultKind:
        """Return the kind of an exception that a rank raised."""
        from harness.models.device_memory import ran_out_of_memory
        from harness.store.lease import Lost
        from harness.training.step import Cramped

        # By class, never by the words of a message.
        if isinstance(error, Lost):
            return cls.LOST
        if isinstance(error, Cramped):
            return cls.CRAMPED
        return cls.OUT_OF_MEMORY if ran_out_of_memory(error) else cls.OTHER


MEMORY = (FaultKind.CRAMPED, FaultKind.OUT_OF_MEMORY)
"""Kinds of faults whose cause is known: memory ran out."""


@dataclass(frozen=True)
class Fault:
    """The end of a rank that failed."""

    kind: FaultKind
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class RankInfo:
    """One rank's position among the ranks of a run, and the device that is its own."""

    rank: int
    size: int
    threads: int = 1
    gpu: int = 0
    """Index of its own GPU among those that this process sees."""
    meeting: tuple[str, int] = ("127.0.0.1", 0)
    """Address and port of the store at which ranks meet."""

    def join(self, device: str, config: DeepSpeedConfig | None) -> Any:
        """Return the engine of this rank, a sharded one if `config` configures DeepSpeed. Waits for the other ranks."""
        import torch

        device_of_rank = torch.device("cuda", self.gpu) if device.startswith("cuda") else torch.device("cpu")
        if device_of_rank.type == "cuda":
            torch.cuda.set_device(device_of_rank)

        # DeepSpeed shards where its configuration is given; else each rank holds the whole model.
        if config is None:
            from harness.training.data_parallel import Together

            return Together(self.rank, self.size, self.meeting, device_of_rank)
        from harness.training.zero import Zero

        return Zero(self.rank, self.size, self.meeting, device_of_rank, config)


def _listen(
    running: dict[Connection, int], processes: Sequence[BaseProcess], receive: Send, kills: MemoryKills
) -> Fault | None:
    """Receive what the ranks send until rank 0 has ended, or one fails; return its fault, None if all is well."""
    fault: Fault | None = None
    while running and fault is None:
        ready = [connection for connection in wait(list(running)) if isinstance(connection, Connection)]
        # Read failing ranks before rank 0, which often ends because of them.
        for connection in sorted(ready, key=lambda connection: -running[connection]):
            rank = running[connection]
            try:
                event = connection.recv()
            except EOFError:
                processes[rank].join()
                del running[connection]
                fault = _cause(fault, _exit_fault(rank, processes[rank].exitcode, kills))
                if rank == 0 and fault is None:
                    return None
                continue
            if isinstance(event, Fault):
                fault = _cause(fault, event)
            elif rank == 0:
                receive(event)
    return fault


def launch(
    work: Callable[..., None], size: int, arguments: Sequence[Any], receive: Send, threads: int = 1, slot: str | None = None
) -> Fault | None:
    """Run `work(info, send, *arguments)` in `size` processes; return why it failed, None if all ended well.

    `receive` is called with what rank 0 sends. A rank that fails ends all ranks, and all end when rank 0 has. They see the
    GPUs of `slot`, or those that this process sees.
    """
    import torch.distributed as dist

    context = forkserver()
    kills = MemoryKills()
    # Port 0 takes a free port, and holds it.
    store: Any = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore
    processes: list[BaseProcess] = []
    running: dict[Connection, int] = {}
    slot = slot or os.environ.get(VISIBLE)
    try:
        # The parent's copy of the child's end is closed, or the child's end would never be noticed.
        for rank in range(size):
            ours, theirs = context.Pipe()
            info = RankInfo(rank, size, threads, rank, ("127.0.0.1", store.port))
            process = context.Process(target=_work, args=(work, info, theirs, slot, arguments))
            process.start()
            theirs.close()
            processes.append(process)
            running[ours] = rank
        fault = _listen(running, processes, receive, kills)
        if fault is None:
            return None

        # A rank may have reported only that a killed one no longer answers. Memory that ran out is a cause of its own.
        if fault.kind in MEMORY:
            return fault
        return _killed(processes, kills) or fault
    finally:
        for process in processes:
            process.kill()
            process.join()


def _cause(first: Fault | None, second: Fault | None) -> Fault | None:
    """Return that of two faults which caused the other: memory that ran out, else the first.

    A rank whose memory ran out says so before it ends, and others fail because of it; what both say may be read at once.
    """
    if first is None or (second is not None and second.kind in MEMORY and first.kind not in MEMORY):
        return second
    return first


def _killed(processes: Sequence[BaseProcess], kills: MemoryKills) -> Fault | None:
    """Return the fault of the first process that a signal ended, None if there is none within `GRACE`."""
    # A kill may be noticed a little later than what it caused in other ranks.
    deadline = time.monotonic() + GRACE
    for rank, process in enumerate(processes):
        process.join(max(0.0, deadline - time.monotonic()))
        if (process.exitcode or 0) < 0:
            return _exit_fault(rank, process.exitcode, kills)
    return None


def _exit_fault(rank: int, exitcode: int | None, kills: MemoryKills) -> Fault | None:
    """Return what a rank's exit code means, None if it ended well."""
    # Nothing, or 0: it ended well.
    if not exitcode:
        return None
    if exitcode > 0:
        return Fault(FaultKind.OTHER, f"process {rank} of the run ended with exit code {exitcode}")
    message = f"process {rank} of the run was ended by signal {-exitcode}"
    if -exitcode == signal.SIGKILL:
        return Fault(FaultKind.OUT_OF_MEMORY if kills.any else FaultKind.KILLED, f"{message}: {kills.why}")
    return Fault(FaultKind.OTHER, message)


def _work(
    work: Callable[..., None], info: RankInfo, connection: Connection, slot: str | None, arguments: Sequence[Any]
) -> None:
    """Run `work` in a rank's own process, and send what it raises to the parent."""
    if slot is not None:
        os.environ[VISIBLE] = slot  # its environment is the forkserver's, whoever asked for it
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    steady(info.threads)
    try:
        work(info, connection.send, *arguments)
    except BaseException as error:
        kind = FaultKind.of(error)
        memory = "out of memory: " if kind in MEMORY else ""
        connection.send(Fault(kind, f"process {info.rank}: {type(error).__name__}: {memory}{error}"))
        os._exit(1)  # at once: a collective of the other ranks could hold a regular exit back
    # The connection is left open: a watching thread that only begins now would take its end for that of the parent.
    os._exit(0)


def _end_with_parent(connection: Connection) -> None:
    """End this process when its parent ends. Nothing is ever sent to a rank, so `recv` returns only then."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)
