"""A plan with everything decided: what all that follows a plan reads. harness/setup/resolve.py makes it, in one function."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from harness.plan.plan import Plan


def default_rate(parameters: int) -> float:
    """Return the peak rate of plain fine-tuning: 2e-5 at 1e9 parameters, falling with their square root, at most 1e-3.

    A guess anchored on common practice (1e-5 at 7-8 B, 2e-5 at 1 B); untuned, and every table says so.
    """
    return min(2e-5 * math.sqrt(1e9 / parameters), 1e-3)


@dataclass(frozen=True, kw_only=True)
class Settings(Plan):
    """Every option of a comparison, decided.

    An option that may still be None is a thing that this comparison does not have: no general pool, padded rows instead of
    packed ones (`pack_length`), no DeepSpeed, every item (`limit`), no named GPU, all runs at once that a cluster holds
    (`workers` with `ray`).
    """

    # `field()`, because a field without it would inherit the default of Plan, which is None.
    max_length: int = field()
    model: str = field()
    budget: str = field()
    meter: str = field()
    seeds: int = field()
    learning_rate: float = field()
    micro_tokens: int = field()
    precision: str = field()
    kernels: str = field()
    gradient_checkpointing: bool = field()
    suites: str = field()
    scoring: str = field()
    device: str = field()
    name: str = field()
