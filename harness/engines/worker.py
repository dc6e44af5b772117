"""What happens in a run's own process, whoever started it: the same threads and kernels, so the same bits."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from harness.evaluation import Evaluation
from harness.material import Material
from harness.specs import RunSpec
from harness.store import RunStore

Send = Callable[[dict[str, Any]], None]


def steady(threads: int) -> None:
    """Make this process one that computes for a run: it has so many threads, and ends when its parent ends it."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


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
