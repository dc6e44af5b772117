"""Measures of a table of item scores, and the headline numbers: their weighted means. Needs numpy and pandas only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats.above_chance import above_chance, clusters_of, clusters_of_families
from harness.stats.bootstrap import BLOCK, Stratum
from harness.stats.estimate import FEWEST
from harness.stats.quantity_name import (
    GAIN,
    GENERAL,
    Measured,
    QuantityName,
    Scope,
    change_of_area,
    gain_of_task,
    level_of,
    name_of,
)

HEADLINE_CHANNELS = ("likelihood", "choice", "generation")
ABOVE_CHANCE = 0.1
"""A family enters retention where the lower end of the 95 % interval of the base's chance-corrected score is above this: what
stands at chance can neither be forgotten nor retained. A guess: ten points to lose, for sure."""
HELD_OUT_TEXTS = "held_out_texts"
"""The task of texts of held-out families, on which the distance from the base and the loss are measured."""


@dataclass(frozen=True)
class Quantity:
    """A headline number: weights over measures, and what of each measure is averaged."""

    kind: str
    """`points` (tuned minus base, × 100), `form` and `knowledge` (its two parts), `change` (points, chance-corrected),
    `retention` (%, a ratio of means), `score` (the mean itself), `level` (the same over the tasks where a row has it)."""
    weights: np.ndarray
    """(M,), zero where the measure does not enter."""


def measures_of(scores: pd.DataFrame, base: str, kept: set[tuple[str, str]] | None) -> pd.DataFrame:
    """Return one line a (task, metric); `base` is NaN where the base was not scored on it."""
    first = ["family", "group", "seen", "channel", "primary", "higher_better"]
    names = dict.fromkeys(("task", "metric", "family", "group", "channel"), object)
    # What a task declares is the same on every line, so the first stands for all.
    facts = scores[["task", "metric", *first]].drop_duplicates().astype(names).groupby(["task", "metric"], sort=True).first()
    chance = scores.assign(chance=scores["chance"].fillna(0.0)).groupby(["task", "metric"], sort=True)["chance"].mean()
    of_base = scores[scores["row"] == base].drop_duplicates(["task", "metric", "item"]).groupby(["task", "metric"])["score"]
    table = facts.assign(chance=chance, base=of_base.mean(), items=of_base.size()).reset_index()
    table["items"] = table["items"].fillna(0).astype(int)
    table["headline"] = table["primary"].astype(bool) & table["channel"].isin(HEADLINE_CHANNELS) & table["base"].notna()
    table["higher_better"] = table["higher_better"].astype("boolean").fillna(True).astype(bool)  # null: neither, so as read
    general = table["headline"] & (table["group"] == "general")

    # Of the base: a family that the untouched model cannot do has nothing to keep.
    table["above_chance"] = above_chance(scores[scores["row"] == base], table, general)
    table["clusters"] = clusters_of_families(scores[scores["row"] == base], table, general)
    table["near_chance"] = general & ~((table["above_chance"] > ABOVE_CHANCE) & (table["clusters"] >= FEWEST))
    pairs = pd.Series(list(zip(table["task"], table["metric"], strict=True)), index=table.index)
    table["kept"] = general & (~table["near_chance"] if kept is None else pairs.isin(kept))
    return table


def aligned(scores: pd.DataFrame, base: str, measures: pd.DataFrame) -> pd.DataFrame:
    """Return scores beside the base's score of the same item; of headline measures pairs that lack either are dropped.

    Of the others only levels are asked, so every score of a row counts: where the base's answer was too short to repeat
    anything, a tuned model's may be a loop.
    """
    # Numbers instead of names: comparing codes is an order faster than comparing texts.
    item, is_base = numbered(scores, "task", "metric", "item"), (scores["row"] == base).to_numpy(bool)
    score, reference = scores["score"].to_numpy(float), np.full(item.max(initial=-1) + 1, np.nan)
    reference[item[is_base][::-1]] = score[is_base][::-1]  # of an item scored twice the first counts
    pair = numbered(scores, "task", "metric")
    pairs = scores[["task", "metric"]].iloc[np.unique(pair, return_index=True)[1]].astype(object)
    columns = measures.reset_index()[["index", "task", "metric", "headline"]].astype({"task": object, "metric": object})
    number = pairs.merge(columns)
    measure, paired = number["index"].to_numpy(int)[pair], number["headline"].to_numpy(bool)[pair]
    start = np.where(paired, reference[item], np.nan_to_num(reference[item]))
    scored = ~(np.isnan(score) | np.isnan(start))
    part = scores.loc[scored, ["row", "seed", "group", "family", "cluster", "item"]]
    cluster = numbered(part.assign(place=clusters_of(part)), "group", "family", "place")
    numbers = {"measure": measure[scored], "cluster": cluster, "score": score[scored], "start": start[scored]}
    return part[["row", "seed"]].assign(**numbers)


def numbered(table: pd.DataFrame, *columns: str) -> np.ndarray:
    """Return (n,) numbers of the distinct combinations of these columns, in the order in which they first appear."""
    numbers = np.zeros(len(table), int)
    for column in columns:
        codes, values = pd.factorize(table[column], use_na_sentinel=False)
        numbers = numbers * len(values) + codes
    return pd.factorize(numbers)[0]


def _macro(measures: pd.DataFrame, mask: pd.Series, by: str = "family") -> np.ndarray:
    """Return weights of a mean over `by`, each the mean of its tasks; all zero where nothing is in the mask."""
    inside = mask.to_numpy(bool)
    places, names = pd.factorize(measures[by].to_numpy()[inside])
    weights = np.zeros(len(measures))
    if len(names):
        weights[inside] = 1 / (np.bincount(places)[places] * len(names))
    return weights


def quantities_of(
    measures: pd.DataFrame, floor: bool = False, areas: Mapping[str, str] | None = None
) -> dict[QuantityName, Quantity]:
    """Return name -> quantity: gain, retention and change (all, seen, held out, each family and channel), levels.

    `areas`: family -> column group; change of each group is `change:area:<group>`, if there are several.
    `general` is the mean raw score over the families that enter retention, where more is better: a share from 0 to 1. Where no
    family enters, change is over all of them, and there is no retention. `floor`: whether a constant answer is among the rows,
    by which gain has its parts of form and knowledge.
    """
    # A seen family is one of the general training pool; held out is everything else.
    kept, seen = measures["kept"], measures["seen"].astype("boolean").fillna(False).astype(bool)
    domain = measures["headline"] & (measures["group"] == "domain")
    quantities = {GAIN: Quantity("points", _macro(measures, domain, by="task"))}
    parts = domain & measures["higher_better"]
    if floor and (parts == domain).all():
        for part in (Scope.FORM, Scope.KNOWLEDGE):
            quantities[name_of(Measured.GAIN, part)] = Quantity(part.value, quantities[GAIN].weights)

    # Where no family is above chance there is no retention; a change over all of them is still known.
    general = measures["headline"] & (measures["group"] == "general")
    changed = kept if kept.any() else general
    scopes = {(Scope.WHOLE, ""): changed, (Scope.SEEN, ""): changed & seen, (Scope.HELD_OUT, ""): changed & ~seen}
    for scope in (Scope.FAMILY, Scope.CHANNEL):
        for part in measures.loc[changed, scope.value].unique():
            scopes[scope, part] = changed & (measures[scope.value] == part)
    area = measures["family"].astype(object).map(dict(areas or {}))
    for name in area[changed].dropna().unique():
        quantities[change_of_area(name)] = Quantity("change", _macro(measures, changed & (area == name)))
    for (scope, part), mask in scopes.items():
        quantities[name_of(Measured.CHANGE, scope, part)] = Quantity("change", _macro(measures, mask))
        if kept.any():
            quantities[name_of(Measured.RETENTION, scope, part)] = Quantity("retention", _macro(measures, mask))
    quantities[GENERAL] = Quantity("score", _macro(measures, kept & measures["higher_better"]))
    for task in measures.loc[domain, "task"]:
        quantities[gain_of_task(task)] = Quantity("points", _macro(measures, domain & (measures["task"] == task), by="task"))

    # Levels are no change: they are read as they are, row by row.
    quantities |= _levels(measures)
    return {name: quantity for name, quantity in quantities.items() if quantity.weights.any()}


def _levels(measures: pd.DataFrame) -> dict[QuantityName, Quantity]:
    """Return `level:<metric>:<group>`, the mean over a group's tasks; texts of held-out families are a group of their own,
    `level:<metric>:held_out`, since those of `general` are the pool's, which methods may draw on."""
    group = measures["group"].astype(object).mask(measures["task"] == HELD_OUT_TEXTS, "held_out")
    levels = {}
    for metric, name in sorted(set(zip(measures["metric"], group, strict=True))):
        inside = (measures["metric"] == metric) & (group == name)
        levels[level_of(metric, name)] = Quantity("level", _macro(measures, inside, by="task"))
    return levels


@dataclass(frozen=True)
class _Scale:
    """How scores of each measure are read, (M,)."""

    sign: np.ndarray
    chance: np.ndarray
    span: np.ndarray
    inverted: np.ndarray
    """Lower is better, without a chance level: its score is the base's over its own."""

    @classmethod
    def of(cls, measures: pd.DataFrame) -> _Scale:
        higher, chance = measures["higher_better"].to_numpy(bool), measures["chance"].to_numpy(float)
        span = np.where(higher, 1 - chance, np.where(chance > 0, chance, 1.0))
        # An inverted measure has no chance level, so its ability is the base's own score.
        return cls(np.where(higher, 1.0, -1.0), chance, span, ~higher & (chance == 0))

    def parts(self, after: np.ndarray, before: np.ndarray, floor: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return what each kind of quantity averages, (B, R, M); of retention the numerator."""
        moved = 100 * self.sign * (after - before)
        parts = {"points": moved, "change": moved / self.span, "score": after, "level": after}
        ability = np.where(self.inverted, before / after - 1, moved / self.span / 100)
        parts["retention"] = 100 * ability
        if floor is not None:
            parts["form"] = 100 * (np.minimum(after, floor) - np.minimum(before, floor))
            parts["knowledge"] = moved - parts["form"]
        return parts

    def ability(self, before: np.ndarray) -> np.ndarray:
        """Return what can be kept: the base's chance-corrected score, or 1 where the measure has no chance level."""
        return np.where(self.inverted, np.ones_like(before), self.sign * (before - self.chance) / self.span)


def steps_of(
    quantities: dict[QuantityName, Quantity], measures: pd.DataFrame, strata: list[Stratum], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return (R,) for each quantity in points how far a cluster of items moves it, on average over what clusters are worth.

    With a_i the worth of cluster i, Σ a_i² / Σ a_i: of what is lost evenly over all abilities, what one cluster's part is.
    `shape`: rows, seeds, measures. A score is taken to move by 1 at most. Measures that have no such scale move by nothing.
    """
    scale = _Scale.of(measures)
    spans = {"points": np.ones_like(scale.span), "change": scale.span}
    moving = {name: quantity for name, quantity in quantities.items() if quantity.kind in spans}
    worths = {name: np.zeros((2, *shape[:2])) for name in moving}
    for stratum in strata:
        # (K, R, S, m) the share of a measure's items that each cluster holds
        pairs = stratum.sums[:, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.nan_to_num(pairs / pairs.sum(0))
        for name, quantity in moving.items():
            worth = np.where(scale.inverted, 0.0, quantity.weights / spans[quantity.kind])[stratum.measures]
            if worth.any():
                of_clusters = 100 * (shares @ worth)
                worths[name] += np.stack([(of_clusters**2).sum(0), of_clusters.sum(0)])
    steps: dict[str, np.ndarray] = {}
    for name, (squares, whole) in worths.items():
        steps[name] = np.divide(squares, whole, out=np.zeros_like(whole), where=whole > 0).max(-1)
    return steps


def evaluated(
    quantities: dict[QuantityName, Quantity],
    measures: pd.DataFrame,
    tuned: np.ndarray,
    start: np.ndarray,
    floor: int | None = None,
) -> dict[str, np.ndarray]:
    """Return each quantity, (B, R), from mean scores (B, R, M); a row's own lie together in memory.

    Retention is a ratio of means: 100 + 100 · Σ w (tuned - base) / Σ w (base - chance), both chance-corrected, so that it
    falls where the change in points does and a family the base is weak in counts as little as it has to lose.
    `floor`: which row is the constant answer. Of a row's gain its `form` is what it has in common with that.
    """
    scale = _Scale.of(measures)
    values: dict[str, np.ndarray] = {name: np.empty(tuned.shape[1::-1]).T for name in quantities}
    for begin in range(0, len(tuned), BLOCK):
        block = slice(begin, begin + BLOCK)
        after, before = tuned[block], start[block]
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = scale.parts(after, before, None if floor is None else after[:, floor : floor + 1])
            ability = scale.ability(before)
            for name, q in quantities.items():
                use = q.weights > 0
                part, weights = parts[q.kind][..., use], q.weights[use]
                if q.kind == "level":  # over the tasks where a row has it: repetition needs an answer of some length
                    finite = np.isfinite(part)
                    values[name][block] = np.where(finite, part, 0.0) @ weights / (finite @ weights)
                elif q.kind == "retention":
                    values[name][block] = 100.0 + part @ weights / (ability[..., use] @ weights)
                else:
                    values[name][block] = part @ weights
    return values
