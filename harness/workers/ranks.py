"""The processes of one run on this machine: started together, ended together, each with its own device.

On a cluster `harness/workers/ray_gang.py` starts them; what they do is the same.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.workers.environment import VISIBLE
from harness.workers.process import forkserver, steady

Send = Callable[[dict[str, Any]], None]
MEMORY = "out of memory"
"""Part of the reason of a rank that ran out of memory."""
GRACE = 5.0
"""Seconds in which the end of a killed process is looked for, once another process has reported a fault."""


@dataclass(frozen=True)
class Place:
    """One rank's position among the ranks of a run, and the device that is its own."""

    rank: int
    size: int
    threads: int = 1
    gpu: int = 0
    """Index of its own GPU among those that this process sees."""
    meeting: tuple[str, int] = ("127.0.0.1", 0)
    """Address and port of the store at which ranks meet."""

    def join(self, device: str, config: dict[str, Any] | None) -> Any:
        """Return the engine of this rank, a sharded one if `config` configures DeepSpeed. Waits for the other ranks."""
        import torch

        own = torch.device("cuda", self.gpu) if device.startswith("cuda") else torch.device("cpu")
        if own.type == "cuda":
            torch.cuda.set_device(own)
        if config is None:
            from harness.training.data_parallel import Together

            return Together(self.rank, self.size, self.meeting, own)
        from harness.training.zero import Zero

        return Zero(self.rank, self.size, self.meeting, own, config)


def launch(
    work: Callable[..., None], size: int, arguments: Sequence[Any], receive: Send, threads: int = 1, slot: str | None = None
) -> str:
    """Run `work(place, send, *arguments)` in `size` processes; return why it failed, empty if all ended well.

    `receive` is called with what rank 0 sends. A rank that fails ends all ranks, and all end when rank 0 has. They see the
    GPUs of `slot`, or those that this process sees.
    """
    import torch.distributed as dist

    context = forkserver()
    store: Any = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore  # a free port, held
    processes: list[BaseProcess] = []
    running: dict[Connection, int] = {}
    reason, slot = "", slot or os.environ.get(VISIBLE)
    try:
        for rank in range(size):
            ours, theirs = context.Pipe()
            place = Place(rank, size, threads, rank, ("127.0.0.1", store.port))
            process = context.Process(target=_work, args=(work, place, theirs, slot, arguments))
            process.start()
            theirs.close()
            processes.append(process)
            running[ours] = rank
        while running and not reason:
            ready = [one for one in wait(list(running)) if isinstance(one, Connection)]
            for connection in sorted(ready, key=lambda one: -running[one]):  # rank 0 last: it often ends because of another
                rank = running[connection]
                try:
                    event = connection.recv()
                except EOFError:
                    processes[rank].join()
                    del running[connection]
                    reason = reason or _fault(rank, processes[rank].exitcode)
                    if rank == 0 and not reason:
                        return ""
                    continue
                reason = reason or event.get("fault", "")
                if rank == 0 and "fault" not in event:
                    receive(event)
        return reason if MEMORY in reason else _killed(processes) or reason
    finally:
        for process in processes:
            process.kill()
            process.join()


def _killed(processes: Sequence[BaseProcess]) -> str:
    """Return how a signal ended one of the processes, if any: others may have reported only that it no longer answers."""
    deadline = time.monotonic() + GRACE
    for rank, process in enumerate(processes):
        process.join(max(0.0, deadline - time.monotonic()))
        if (process.exitcode or 0) < 0:
            return _fault(rank, process.exitcode)
    return ""


def _fault(rank: int, exitcode: int | None) -> str:
    if not exitcode:
        return ""
    if exitcode > 0:
        return f"process {rank} of the run ended with exit code {exitcode}"
    memory = ", which is how Linux ends a process when memory runs out" if -exitcode == signal.SIGKILL else ""
    return f"process {rank} of the run was ended by signal {-exitcode}{memory}"


def _work(work: Callable[..., None], place: Place, connection: Connection, slot: str | None, arguments: Sequence[Any]) -> None:
    """Run `work` in a rank's own process, and send what it raises to the parent."""
    import torch

    if slot is not None:
        os.environ[VISIBLE] = slot  # its environment is the forkserver's, whoever asked for it
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    steady(place.threads)
    try:
        work(place, connection.send, *arguments)
    except BaseException as error:
        memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        told = f"process {place.rank}: {type(error).__name__}: {f'{MEMORY}: ' if memory else ''}{error}"
        connection.send({"fault": told, "traceback": traceback.format_exc()})
        os._exit(1)  # at once: a collective of the other ranks could hold a regular exit back
    connection.close()
    os._exit(0)


def _end_with_parent(connection: Connection) -> None:
    """End this process when its parent ends. Nothing is ever sent to a rank, so `recv` returns only then."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)
