"""What happens in a run's own process, whoever started it: the same threads and kernels, so the same bits."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.forkserver import ensure_running
from typing import Any

import torch

from harness.plan.settings import Settings
from harness.plan.values import devices_of
from harness.runs.events import Event
from harness.setup.specs import RunSpec
from harness.store.lease import Watch
from harness.store.runs import RunStore
from harness.vocabulary import Status
from harness.workers.environment import VISIBLE, set_environment

Send = Callable[[Event], None]
"""Passes an event of the run that this process makes to whoever started it."""
PRELOAD = ["harness.runs.execute", "transformers", "lm_eval.evaluator", "torch.utils.tensorboard"]


def forkserver() -> Any:
    """Return a multiprocessing context whose processes start fast: they fork from one that has imported the libraries."""
    start_forkserver()
    return multiprocessing.get_context("forkserver")


def start_forkserver() -> None:
    """Start the process that others fork from, unless it runs: it imports the libraries while this one does something else."""
    # Set before the server forks: later it would be too late for its children.
    set_environment()
    multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded())

    # Ctrl-C reaches us, who end it: in the midst of an import it would print where it was. The tracker of multiprocessing
    # lets the signal through again when it starts, so it starts before.
    resource_tracker.ensure_running()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def preloaded() -> list[str]:
    """Return the modules to import before processes are forked.

    Where there are GPUs, peft is left out: it imports bitsandbytes, whose query of each GPU initialises CUDA, and a forked
    process cannot use CUDA that was initialised before.
    """
    import torch

    return PRELOAD if torch.cuda.is_available() else [*PRELOAD, "peft"]


def steady(threads: int) -> None:
    """Make this process one that computes for a run: with so many threads, ended by its parent alone."""
    from harness.models.kernels import compute_repeatably

    set_environment()  # on a cluster nobody else did
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    compute_repeatably(threads)


def settle(spec: RunSpec, store: RunStore, status: Status, reason: str) -> None:
    """Store how a run ended whose process was lost, unless the run has stored its own end."""
    folder = store.run(spec.key)
    # A process may die after its run is done, and other ranks fail because rank 0 has ended (its memory ran out): its status
    # must stay. A failure alone gives way: rank 0 may have failed because another rank did, whose reason says more.
    if folder.status in (None, Status.FAILED):
        folder.end(status, reason)


Events = Callable[[RunSpec, Event], None]
"""Receives the events of all runs."""


def next_free(waiting: list[RunSpec], store: RunStore, watch: Watch) -> RunSpec:
    """Take the first run that no other process is making out of the queue; the first of all if others make each of them."""
    # Where others make all of them, one is waited for: whoever ends first frees the worker.
    spec = next((spec for spec in waiting if watch.free(store.run(spec.key).path)), waiting[0])
    waiting.remove(spec)
    return spec


def device_slots(plan: Settings, workers: int) -> list[str | None]:
    """Return the GPUs of each of the runs at once, as CUDA_VISIBLE_DEVICES names them; None if there are none.

    GPUs are counted as torch counts them: among those that the environment lets this process see.
    """
    # GPUs that the environment hides from this process are not its to give away.
    visible = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    numbers = devices_of(plan.devices) if plan.devices else range(torch.cuda.device_count())
    names = [visible[number] if visible else str(number) for number in numbers]
    # No GPU: the worker is a slot by itself.
    if not names:
        return [None] * workers
    width = plan.ranks
    return [",".join(names[(run * width + i) % len(names)] for i in range(width)) for run in range(workers)]
