"""A process that loads the base and makes the evaluations ready once, and forks a process for each run.

A run's process inherits both, copied only where it writes: however many runs there are, nothing is loaded or tokenised again.
Its memory peak and random state are its own, and a kill or a crash ends that run only. Neither threads nor a CUDA context
survive a fork, so the server has none: models are held in the host's memory, and a run copies them to its device.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.interruption import end_processes_below
from harness.runs.events import Ended, Event
from harness.setup.evaluations import Evaluation, EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.runs import RunStore
from harness.workers.environment import VISIBLE
from harness.workers.perform import work
from harness.workers.process import forkserver

PATIENCE = 1.0
"""Seconds in which the server ends by itself, unless it is in the middle of a computation."""


class Server:
    """The conductor's end of it: runs are numbered by whoever starts them."""

    def __init__(self, material: Material, evaluation: EvaluationPlan, store: RunStore):
        # The server is a process of its own: this one may hold threads and a CUDA context, which no
        # fork survives.
        context = forkserver()
        self._connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, material, evaluation, store))
        self.process.start()
        theirs.close()

    def start(self, number: int, spec: RunSpec, slot: str | None) -> None:
        """Make a run in a process of its own, which sees the GPUs of `slot`."""
        with contextlib.suppress(OSError):  # the server has ended: `receive` says so
            self._connection.send((number, spec, slot))

    def receive(self) -> tuple[int, Event]:
        """Return (number, event) of whichever run reports something first; its last event is `Ended`.

        Raises EOFError where the server itself has ended.
        """
        try:
            return self._connection.recv()
        except OSError as error:
            raise EOFError from error

    def end(self) -> None:
        """End the server and all its runs, by force if they do not end soon."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.pid and self.process.exitcode is None:
            end_processes_below(self.process.pid)
            self.process.kill()
            self.process.join()
        self._connection.close()


def _serve(requests: Connection, material: Material, evaluation: EvaluationPlan, store: RunStore) -> None:
    """Fork as asked, in the server, until nobody can ask any more."""
    import torch
    from tqdm import tqdm

    # One thread each: a forked process would keep only the one that forked.
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # else it starts a thread
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system's, which a killed process leaves there
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the conductor, which ends us
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing runs yet; what is raised here a library might swallow

    # Loaded once, before any fork, so that all runs share these pages.
    running = _Running((material, evaluation.open(material).prepare(), store), requests)
    signal.signal(signal.SIGTERM, lambda *_: running.end_all())
    gc.freeze()  # what all runs share is never copied for the collector's marks, nor searched
    try:
        while True:
            for connection in wait([requests, *running.all]):
                if connection is requests:
                    running.start(*requests.recv())
                elif isinstance(connection, Connection):
                    requests.send(running.hear(connection))
    except (EOFError, OSError):  # the conductor is gone
        return
    finally:
        running.end()


class _Running:
    """The runs that the server has forked and that have not ended."""

    def __init__(self, inherited: tuple[Material, Evaluation, RunStore], requests: Connection):
        self.inherited, self.requests = inherited, requests
        self.all: dict[Connection, tuple[int, BaseProcess]] = {}

    def start(self, number: int, spec: RunSpec, slot: str | None) -> None:
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)

        # A run must not hold the ends of others' pipes: their end would not be noticed.
        not_its = (self.requests, ours, *self.all)
        process = fork.Process(target=_run, args=(spec, *self.inherited, theirs, slot, not_its))
        process.start()
        theirs.close()
        self.all[ours] = number, process

    def hear(self, connection: Connection) -> tuple[int, Event]:
        """Return the next event of a run; an end if its process is gone."""
        # A run reports by its pipe, whose end is the end of its process.
        number, process = self.all[connection]
        try:
            return number, connection.recv()
        except EOFError:
            process.join()
            del self.all[connection]
            connection.close()
            return number, Ended(exitcode=process.exitcode)

    def end(self) -> None:
        """End all runs."""
        for _, process in self.all.values():
            process.terminate()
        for _, process in self.all.values():
            process.join()

    def end_all(self) -> None:
        """End all runs, and the server with them."""
        self.end()
        os._exit(0)


def _run(
    spec: RunSpec,
    material: Material,
    evaluation: Evaluation,
    store: RunStore,
    connection: Connection,
    slot: str | None,
    not_its: Sequence[Connection],
) -> None:
    """Run in the run's own process."""
    # The server's own handling of signals is not the run's.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in not_its:
        other.close()
    if slot is not None:
        os.environ[VISIBLE] = slot

    def send(event: Event) -> None:
        try:
            connection.send(event)
        except OSError:  # nobody listens any more: end here, the run goes on from its checkpoint next time
            os._exit(1)

    work(spec, material, evaluation, store, send)
    connection.close()
