"""What a table of item scores measures, and the headline numbers that are weighted means of it. Needs numpy and pandas only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.bootstrap import BLOCK

HEADLINE_CHANNELS = ("likelihood", "choice", "generation")
NEAR_CHANCE = 0.1
"""A task the base answers by less than this above chance can neither be forgotten nor retained."""


@dataclass(frozen=True)
class Quantity:
    """A headline number: weights over measures, and what of each measure is averaged."""

    kind: str
    """`points` (tuned − base, × 100), `change` (the same, chance-corrected), `retention` (%), `level` (the mean itself)."""
    weights: np.ndarray
    """(M,), zero where the measure does not enter."""


def measures_of(scores: pd.DataFrame, base: str, kept: set[tuple[str, str]] | None) -> pd.DataFrame:
    """One line a (task, metric); `base` is NaN where the base was not scored on it."""
    first = ["family", "group", "seen", "channel", "primary", "higher_better"]
    names = dict.fromkeys(("task", "metric", "family", "group", "channel"), object)
    told = scores[["task", "metric", *first]].drop_duplicates().astype(names).groupby(["task", "metric"], sort=True).first()
    chance = scores.assign(chance=scores["chance"].fillna(0.0)).groupby(["task", "metric"], sort=True)["chance"].mean()
    own = scores[scores["row"] == base].drop_duplicates(["task", "metric", "item"]).groupby(["task", "metric"])["score"]
    table = told.assign(chance=chance, base=own.mean(), items=own.size()).reset_index()
    table["items"] = table["items"].fillna(0).astype(int)
    table["headline"] = table["primary"].astype(bool) & table["channel"].isin(HEADLINE_CHANNELS) & table["base"].notna()
    table["higher_better"] = table["higher_better"].astype("boolean").fillna(True).astype(bool)  # null: neither, so as read
    away = (table["base"] - table["chance"]) * np.where(table["higher_better"] | (table["chance"] == 0), 1, -1)
    general = table["headline"] & (table["group"] == "general")
    table["near_chance"] = general & (away < NEAR_CHANCE)
    pairs = pd.Series(list(zip(table["task"], table["metric"], strict=True)), index=table.index)
    table["kept"] = general & (~table["near_chance"] & table["base"].notna() if kept is None else pairs.isin(kept))
    return table


def aligned(scores: pd.DataFrame, base: str, measures: pd.DataFrame) -> pd.DataFrame:
    """Scores beside the base's score of the same item; of headline measures pairs that lack either are dropped.

    Of the others only levels are asked, so every score of a row counts: where the base's answer was too short to repeat
    anything, a tuned model's may be a loop.
    """
    item, own = _numbered(scores, "task", "metric", "item"), (scores["row"] == base).to_numpy(bool)
    score, reference = scores["score"].to_numpy(float), np.full(item.max(initial=-1) + 1, np.nan)
    reference[item[own][::-1]] = score[own][::-1]  # of an item scored twice the first counts
    pair = _numbered(scores, "task", "metric")
    found = scores[["task", "metric"]].iloc[np.unique(pair, return_index=True)[1]].astype(object)
    told = measures.reset_index()[["index", "task", "metric", "headline"]].astype({"task": object, "metric": object})
    number = found.merge(told)
    measure, paired = number["index"].to_numpy(int)[pair], number["headline"].to_numpy(bool)[pair]
    start = np.where(paired, reference[item], np.nan_to_num(reference[item]))
    known = ~(np.isnan(score) | np.isnan(start))
    part = scores.loc[known, ["row", "seed", "group", "family", "cluster", "item"]]
    place = part["cluster"]
    if place.isna().any():
        place = place.astype(object).where(place.notna(), part["item"].astype(object))
    cluster = _numbered(part.assign(place=place), "group", "family", "place")
    numbers = {"measure": measure[known], "cluster": cluster, "score": score[known], "start": start[known]}
    return part[["row", "seed"]].assign(**numbers)


def _numbered(table: pd.DataFrame, *columns: str) -> np.ndarray:
    """(n,) numbers of the distinct combinations of these columns, in the order in which they first appear."""
    numbers = np.zeros(len(table), int)
    for column in columns:
        codes, values = pd.factorize(table[column], use_na_sentinel=False)
        numbers = numbers * len(values) + codes
    return pd.factorize(numbers)[0]


def _macro(measures: pd.DataFrame, mask: pd.Series, by: str = "family") -> np.ndarray:
    """Weights of a mean over `by`, each the mean of its tasks; all zero where nothing is in the mask."""
    inside = measures[mask]
    weights = np.zeros(len(measures))
    if len(inside):
        weights[mask.to_numpy(bool)] = 1 / (inside.groupby(by)[by].transform("size") * inside[by].nunique())
    return weights


def quantities_of(measures: pd.DataFrame) -> dict[str, Quantity]:
    """Name -> quantity: gain, retention and change (all, seen, held out, each family and channel), levels.

    `general` is the mean raw score over the families that enter retention, where more is better: a share from 0 to 1.
    """
    kept, seen = measures["kept"], measures["seen"].astype("boolean").fillna(False).astype(bool)
    domain = measures["headline"] & (measures["group"] == "domain")
    found = {"gain": Quantity("points", _macro(measures, domain, by="task"))}
    scopes = {"": kept, ":seen": kept & seen, ":held_out": kept & ~seen}
    scopes |= {f":family:{name}": kept & (measures["family"] == name) for name in measures.loc[kept, "family"].unique()}
    scopes |= {f":channel:{name}": kept & (measures["channel"] == name) for name in measures.loc[kept, "channel"].unique()}
    for scope, mask in scopes.items():
        weights = _macro(measures, mask)
        found |= {f"retention{scope}": Quantity("retention", weights), f"change{scope}": Quantity("change", weights)}
    found["general"] = Quantity("level", _macro(measures, kept & measures["higher_better"]))
    for task in measures.loc[domain, "task"]:
        found[f"gain:task:{task}"] = Quantity("points", _macro(measures, domain & (measures["task"] == task), by="task"))
    for (metric, group), _ in measures.groupby(["metric", "group"]):
        mask = (measures["metric"] == metric) & (measures["group"] == group)
        found[f"level:{metric}:{group}"] = Quantity("level", _macro(measures, mask, by="task"))
    return {name: quantity for name, quantity in found.items() if quantity.weights.any()}


def evaluated(
    quantities: dict[str, Quantity], measures: pd.DataFrame, tuned: np.ndarray, start: np.ndarray
) -> dict[str, np.ndarray]:
    """Each quantity, (B, R), from mean scores (B, R, M); a row's own lie together in memory."""
    higher, chance = measures["higher_better"].to_numpy(bool), measures["chance"].to_numpy(float)
    sign, inverted = np.where(higher, 1.0, -1.0), ~higher & (chance == 0)
    span = np.where(higher, 1 - chance, np.where(chance > 0, chance, 1.0))
    values = {name: np.empty(tuned.shape[1::-1]).T for name in quantities}
    for begin in range(0, len(tuned), BLOCK):
        block = slice(begin, begin + BLOCK)
        after, before = tuned[block], start[block]
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = 100 * sign * (after - before)
            kept = np.where(inverted, before / after, (after - chance) / (before - chance))
            parts = {"points": moved, "change": moved / span, "retention": 100 * (kept - 1), "level": after}
            for name, q in quantities.items():
                use = q.weights > 0
                part, weights = parts[q.kind][..., use], q.weights[use]
                if q.kind == "level":  # over the tasks where a row has it: repetition needs an answer of some length
                    known = np.isfinite(part)
                    values[name][block] = np.where(known, part, 0.0) @ weights / (known @ weights)
                else:
                    values[name][block] = part @ weights + (100.0 if q.kind == "retention" else 0.0)
    return values
