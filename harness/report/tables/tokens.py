"""What was trained on, token by token: losses, where the gradient came from, and what weight methods gave."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary

Line = dict[str, Any]


def token_tables(summary: Summary) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`_zone_shares` and `_weights` of every recipe."""
    found: tuple[list[Line], list[Line]] = [], []
    for row in summary.recipes:
        steps = [(step.get("zones"), step.get("weights")) for step in summary.logs(row.name)]
        found[0].extend({"row": row.name} | line for line in _zone_shares([zones for zones, _ in steps if zones]))
        found[1].extend({"row": row.name} | line for line in _weights([weights for _, weights in steps if weights]))
    zones, weights = ["row", "zone", "tokens", "gradient"], ["row", "low", "high", "tokens", "weight"]
    return pd.DataFrame(found[0], columns=zones), pd.DataFrame(found[1], columns=weights)


def _zone_shares(steps: list[list[dict[str, Any]]]) -> Iterator[Line]:
    """zone, tokens, gradient: mean shares over a row's logged steps."""
    for k in range(max(map(len, steps), default=0)):
        zone = [zones[k] for zones in steps if k < len(zones)]
        yield {"zone": zone_name(zone[0])} | {name: _mean([z.get(name) for z in zone]) for name in ("tokens", "gradient")}


def _weights(steps: list[dict[str, Any]]) -> Iterator[Line]:
    """low, high, tokens, weight: share of supervised tokens between two losses and the mean weight they were given."""
    if not steps:
        return
    edges = [0.0, *steps[0]["edges"], math.inf]
    tokens = np.array([step["tokens"] for step in steps], float)
    given = np.array([step["mean"] for step in steps], float)  # null, where no token was: NaN
    total = tokens.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(tokens * np.nan_to_num(given), axis=0) / total
    for k, count in enumerate(total):
        yield {"low": edges[k], "high": edges[k + 1], "tokens": count / total.sum(), "weight": mean[k]}


def _mean(values: list) -> float:
    found = np.array(values, float)  # null: NaN
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else math.nan


def zone_name(zone: dict) -> str:
    low, high = zone.get("low"), zone.get("high")
    if high is None or not math.isfinite(high):
        return f"over {low or 0:g}"
    return f"{low or 0:g} to {high:g}"
