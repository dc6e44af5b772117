"""Measure what fine-tuning makes a language model forget: `lethe.compare(...)` runs a comparison and returns its table.

The work is done in a process of its own, so nothing here imports torch or depends on what the caller's folder, notebook or
import path holds: a user's own `harness`, `trainers` or `suites` is never taken for Lethe's.
"""

from __future__ import annotations

from lethe.api import compare
from lethe.errors import InternalError, PlanError

__version__ = "0.2.0"

__all__ = ["InternalError", "PlanError", "compare"]
