"""How far above chance the base is in each family, which decides what enters retention."""

from __future__ import annotations

import numpy as np
import pandas as pd

Z = 1.959964
"""Standard deviations of a 95 % interval."""


def corrected(scores: np.ndarray, chance: np.ndarray, higher: np.ndarray) -> np.ndarray:
    """Return scores on the scale where chance is 0 and a perfect answer is 1.

    Where lower is better and there is no chance level (bits per byte) there is no such scale: NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rising = (scores - chance) / (1 - chance)
        falling = np.where(chance > 0, (chance - scores) / chance, np.nan)
    return np.where(higher, rising, falling)


def above_chance(scores: pd.DataFrame, table: pd.DataFrame, general: pd.Series) -> pd.Series:
    """Return the lower end of the 95 % interval of the base's chance-corrected score in each measure's family.

    By row of `table`; `scores`: the base's, item by item. Infinite where there is no chance level. A family is the mean of its
    tasks, and its items resample by cluster.
    """
    lower_ends = pd.Series(np.nan, index=table.index)
    scored = scores.drop_duplicates(["task", "metric", "item"]).dropna(subset=["score"])
    scored = scored.astype({"task": object, "metric": object})
    for _, part in table[general].groupby("family"):
        # No chance level and lower is better: such a measure is read as the base's own score over
        # the row's, so nothing is near chance.
        no_chance = ~part["higher_better"] & (part["chance"] == 0)
        lower_ends[part.index[no_chance]] = np.inf
        scaled = part[~no_chance]
        if len(scaled):
            levels = scaled[["task", "metric", "chance", "higher_better"]].rename(columns={"chance": "level"})
            items = scored[["task", "metric", "item", "cluster", "score"]].merge(levels)
            level = items["level"].to_numpy(float)
            higher = items["higher_better"].to_numpy(bool)
            value = corrected(items["score"].to_numpy(float), level, higher)
            worst = corrected(np.zeros(len(items)), level, higher)
            lower_ends[scaled.index] = lower_end(items.assign(value=value), float(min(np.min(worst, initial=0.0), 0.0)))
    return lower_ends


def clusters_of_families(scores: pd.DataFrame, table: pd.DataFrame, general: pd.Series) -> pd.Series:
    """Return how many clusters of items the base has scores on in each measure's family, by row of `table`."""
    scored = scores.dropna(subset=["score"]).astype({"task": object, "metric": object})
    counts = pd.Series(0, index=table.index)
    for _, part in table[general].groupby("family"):
        items = scored.merge(part[["task", "metric"]])
        # Few clusters decide little: a family with five passages of twenty questions has five
        # answers.
        counts[part.index] = clusters_of(items).nunique()
    return counts


def lower_end(items: pd.DataFrame, worst: float = 0.0) -> float:
    """Return the lower end of the 95 % interval of a mean over tasks.

    `items`: `task`, `cluster`, `item` and `value` (at most 1) of each item.

    Wilson's interval, which holds where all answers are right, with as many items as would give the standard error that
    clusters give. `value` is chance-corrected, so the interval is taken on the share of the way from the `worst` value to 1.
    """
    if items.empty:
        # The bootstrap of a mean of a few cluster sums is too narrow near 0 and 1, so this is
        # Wilson's interval on a share.
        return np.nan
    tasks = items.groupby("task")["value"]
    mean = float(tasks.mean().mean())
    size = tasks.transform("size") * tasks.ngroups
    cluster = clusters_of(items)
    sums = ((items["value"] - tasks.transform("mean")) / size).groupby(cluster.to_numpy()).sum()
    many = len(sums)
    variance = float((sums**2).sum()) * many / max(many - 1, 1)
    low = min(worst, float(items["value"].min()))
    share = (mean - low) / (1 - low)
    spread = variance / (1 - low) ** 2
    n = share * (1 - share) / spread if spread > 0 and 0 < share < 1 else many
    centre = share + Z**2 / (2 * n)
    half = Z * np.sqrt(max(share * (1 - share), 0.0) / n + Z**2 / (4 * n**2))
    return float(low + (1 - low) * (centre - half) / (1 + Z**2 / n))


def clusters_of(items: pd.DataFrame) -> pd.Series:
    """Return the cluster of each item; an item that declares none is one of its own."""
    declared = items["cluster"]
    # Most tables declare all, and a categorical column is an order faster than its texts.
    if not declared.isna().any():
        return declared
    return declared.astype(object).where(declared.notna(), items["item"].astype(object))
