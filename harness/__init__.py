"""The referee: plans, charges, trains, evaluates, stores, compares. It knows no method and no suite by name."""

from typing import Any

PROTOCOL = 3
"""Raised whenever old and new scores may not share a table."""


def compare(**options: Any) -> Any:
    """Run a comparison and return its table (pandas). Options are the fields of `harness.plan.Plan`."""
    from harness.comparison import compare as run

    return run(**options).report.table
