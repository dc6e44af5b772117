"""A process that has held nothing yet: where another test has freed memory, what is allocated would move no peak."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from harness.workers.process import forkserver


def fresh(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` gives in a process of its own."""
    with ProcessPoolExecutor(1, forkserver()) as pool:
        return pool.submit(work, *arguments).result()
