"""How many items are behind a number, and how many are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.stats.measures import Quantity
from harness.stats.quantity_name import QuantityName


def counts_of(
    quantities: dict[QuantityName, Quantity],
    pairs: np.ndarray,
    available: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return (R,) paired items behind each quantity.

    The mean over a row's seeds, summed over the measures that enter.
    """
    # Means over seeds: items are the same for each, so summing them would count them twice.
    items = pairs.sum(1) / np.maximum(available.sum(1), 1)
    counts = {}
    for name, quantity in quantities.items():
        counts[name] = items[:, quantity.weights > 0].sum(-1).round().astype(int)
    return counts


def answered_shares(
    scores: pd.DataFrame,
    quantities: dict[QuantityName, Quantity],
    measures: pd.DataFrame,
    rows: list[str],
) -> dict[str, np.ndarray]:
    """Return (R,) share of the answers behind each level that have a score."""
    # Answers of one token have no repetition, so a level is over fewer answers than there are.
    table = scores.assign(scored=scores["score"].notna())
    groups = table.groupby(["task", "metric", "row"], observed=True)["scored"]
    pairs = pd.MultiIndex.from_frame(measures[["task", "metric"]])
    scored = groups.sum().unstack("row").reindex(columns=rows).reindex(pairs).to_numpy(float)
    every = groups.size().unstack("row").reindex(columns=rows).reindex(pairs).to_numpy(float)
    shares = {}
    for name, quantity in quantities.items():
        if quantity.kind == "level":
            use = quantity.weights > 0
            with np.errstate(invalid="ignore", divide="ignore"):
                shares[name] = np.nansum(scored[use], 0) / np.nansum(every[use], 0)
    return shares


def missing_of(
    measures: pd.DataFrame,
    pairs: np.ndarray,
    available: np.ndarray,
    rows: list[str],
) -> dict[str, int]:
    """Return row -> headline items without a pair, over all of its seeds."""
    headline = measures["headline"].to_numpy(bool)
    # What every row should have, were nothing missing.
    expected = measures["items"].to_numpy(int)[headline].sum()
    seeds = np.maximum(available.any(-1).sum(-1), 1)
    missing = {}
    for r, row in enumerate(rows):
        missing[row] = int(expected * seeds[r] - pairs[r][:, headline].sum())
    return missing
