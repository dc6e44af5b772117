"""What happens in a run's own process, whoever started it: the same threads and kernels, so the same bits."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from typing import Any

from harness.environment import set_environment
from harness.evaluation import Evaluation
from harness.material import Material
from harness.specs import RunSpec
from harness.store import RunStore

Send = Callable[[dict[str, Any]], None]
PRELOAD = ["harness.execute", "transformers", "lm_eval.evaluator", "torch.utils.tensorboard"]


def forkserver() -> Any:
    """A multiprocessing context whose processes start at once: they fork from one that has imported the libraries."""
    set_environment()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded())
    return context


def preloaded() -> list[str]:
    """What is imported before processes are forked.

    Where there are GPUs peft is not: it imports bitsandbytes, which asks each GPU what it can do; that sets up CUDA, and CUDA
    that was set up before a fork is of no use after it.
    """
    import torch

    return PRELOAD if torch.cuda.is_available() else [*PRELOAD, "peft"]


def steady(threads: int) -> None:
    """Make this process one that computes for a run: it has so many threads, and ends when its parent ends it."""
    import torch

    set_environment()  # on a cluster nobody else did
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = not torch.cuda.is_available()  # with NaN: on a GPU that takes bandwidth


def work(spec: RunSpec, material: Material, evaluation: Evaluation, store: RunStore, send: Send) -> None:
    """Make one run; its events go to `send`."""
    from harness.engines.ranks import perform

    steady(material.plan.threads)
    perform(spec, material, evaluation, store, send)


def settle(spec: RunSpec, store: RunStore, status: str, reason: str) -> None:
    """Say of a run whose process was lost how it ended, where it left no status itself."""
    folder = store.run(spec.key)
    if folder.status != "done":
        folder.write("status", {"status": status, "reason": reason, "traceback": None})
