"""Lethe's referee: plans, charges, trains, evaluates, stores, compares. It knows no method and no suite by name."""

from lethe import compare

__all__ = ["compare"]
