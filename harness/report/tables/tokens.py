"""Training by token: losses, shares of the gradient, and the weights that methods gave."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.store.schema import TokenWeights, Zone

Line = dict[str, Any]


def token_tables(summary: Summary) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `_zone_shares` and `_weights` of every recipe."""
    zones: list[Line] = []
    weights: list[Line] = []
    for row in summary.recipes:
        steps = list(summary.logs(row.name))
        shares = _zone_shares([step["zones"] for step in steps if step.get("zones")])
        given = _weights([given for step in steps if (given := step.get("weights"))])
        zones += [{"row": row.name} | line for line in shares]
        weights += [{"row": row.name} | line for line in given]
    return (
        pd.DataFrame(zones, columns=["row", "zone", "tokens", "gradient"]),
        pd.DataFrame(weights, columns=["row", "low", "high", "tokens", "weight"]),
    )


def _zone_shares(steps: list[list[Zone]]) -> Iterator[Line]:
    """Return zone, tokens, gradient: mean shares over a row's logged steps."""
    for k in range(max(map(len, steps), default=0)):
        zone = [zones[k] for zones in steps if k < len(zones)]
        yield {"zone": zone_name(zone[0].get("low"), zone[0].get("high"))} | {
            name: _mean([z.get(name) for z in zone]) for name in ("tokens", "gradient")
        }


def _weights(steps: list[TokenWeights]) -> Iterator[Line]:
    """Return low, high, tokens, weight: share of supervised tokens between two losses and the mean weight they were given."""
    if not steps:
        return
    edges = [0.0, *steps[0]["edges"], math.inf]
    tokens = np.array([step["tokens"] for step in steps], float)

    # The mean of a step without such a token is null, here NaN, and weighs nothing.
    given = np.array([step["mean"] for step in steps], float)
    total = tokens.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(tokens * np.nan_to_num(given), axis=0) / total
    for k, count in enumerate(total):
        yield {"low": edges[k], "high": edges[k + 1], "tokens": count / total.sum(), "weight": mean[k]}


def _mean(values: list) -> float:
    # Null becomes NaN.
    numbers = np.array(values, float)
    finite = numbers[np.isfinite(numbers)]
    return float(finite.mean()) if len(finite) else math.nan


def zone_name(low: float | None, high: float | None) -> str:
    """Return the name of the losses between two bounds, in nats; None: no bound."""
    if high is None or not math.isfinite(high):
        return f"over {low or 0:g}"
    return f"{low or 0:g} to {high:g}"
