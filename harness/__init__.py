"""Lethe's referee: plans, charges, trains, evaluates, stores, compares. It knows no method and no suite by name."""

from lethe import compare, measure

__all__ = ["compare", "measure"]
