"""The referee: plans, charges, trains, evaluates, stores, compares. It knows no method and no suite by name."""

from lethe import compare

PROTOCOL = 3
"""Raised whenever old and new scores may not share a table."""

__all__ = ["PROTOCOL", "compare"]
