"""A plan with everything decided: what all that follows a plan reads. harness/setup/resolve.py makes it, in one function."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plan.plan import Plan


# A field that narrows one of `Plan` has no default here, on purpose: pyright sees no order of fields that allows it, though
# fields that are given by name only may stand in any.
# pyright: reportGeneralTypeIssues=false
@dataclass(frozen=True, kw_only=True)
class Settings(Plan):
    """Every option of a comparison, decided.

    An option that may still be None is a thing that this comparison does not have: no general pool, padded rows instead of
    packed ones (`pack_length`), no DeepSpeed, every item (`limit`), no named GPU, all runs at once that a cluster holds
    (`workers` with `ray`).
    """

    max_length: int
    model: str
    meter: str
    seeds: int
    learning_rate: float
    micro_tokens: int
    precision: str
    kernels: str
    gradient_checkpointing: bool
    suites: str
    scoring: str
    device: str
    name: str
