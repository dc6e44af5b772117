"""A process that has held nothing yet: what another test has freed there would serve what is allocated, and no peak would move."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from harness.engines.worker import forkserver


def fresh(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` gives in a process of its own."""
    with ProcessPoolExecutor(1, forkserver()) as pool:
        return pool.submit(work, *arguments).result()
