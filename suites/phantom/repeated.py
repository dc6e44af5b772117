"""The statistics put to the test: many comparisons drawn from many stored seeds of one recipe.

The stored runs and all their items are the population, whose truth is known because all of it is there. Each repetition draws
seeds for A and for B, and the items anew (clusters of them, within families), all with replacement, and asks the ordinary
statistics. A and B are drawn alike, so each alarm is false; and the population's own value should lie in 95 % of the intervals.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from harness.stats.analysis import analyse
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore
from harness.store.schema import NAMES
from suites.phantom.words import stream

QUANTITIES = ("change", "gain")
REPS = 500
"""Bootstrap draws of each repetition."""
T_DRAWS = 20_000
"""Draws of seeds for the reference."""


@dataclass(frozen=True)
class Repeated:
    """What the repetitions came to."""

    seeds: int
    """Seeds of A, and of B."""
    comparisons: int
    alarms: dict
    """Quantity -> share of A/A comparisons that claim a difference: the interval excludes 0, and A and B are compared."""
    coverage: dict
    """Quantity -> share of A's intervals that hold the population's value."""
    apart: dict
    """Quantity -> share of A/A comparisons whose interval excludes 0, whether or not anything is claimed of it."""
    reference: dict
    """Quantity -> share of Student's t intervals over the drawn seeds' own values, of all items, that hold the population's
    value; empty for one seed. Where it is far from 95 %, this population's seeds are too skewed for so few of them."""


class Population:
    """Scores of every stored seed, and what they amount to together."""

    def __init__(self, items: pd.DataFrame, base: np.ndarray, tuned: np.ndarray) -> None:
        """`items`: what is known of each item (columns of the store); `base`: (items,) scores; `tuned`: (items, seeds)."""
        self.items, self.base, self.tuned = items.reset_index(drop=True), base, tuned
        stratum = self.items["group"] + "/" + self.items["family"] + "/"
        cluster = pd.factorize(stratum + self.items["cluster"].fillna(self.items["item"]).astype(str))[0]
        members = pd.Series(range(len(cluster))).groupby(cluster).agg(list)
        by_stratum = pd.Series(stratum.to_numpy()).groupby(cluster).first()
        self.strata = [[np.array(m) for m in members[by_stratum == name]] for name in by_stratum.unique()]
        whole = analyse(self.rows(np.arange(len(base)), self.items["cluster"], A=range(tuned.shape[1])), "base", reps=2)
        self.kept = set(whole.measures.query("kept")[["task", "metric"]].itertuples(index=False, name=None))
        self.truth = {name: whole.estimate(name, "A").value for name in QUANTITIES}

    def values_by_seed(self) -> dict[str, np.ndarray]:
        """Return each quantity's value for each seed, over all items: (seeds,) points."""
        sides = {f"seed {number}": [number] for number in range(self.tuned.shape[1])}
        rows = self.rows(np.arange(len(self.base)), self.items["cluster"], **sides)
        each = analyse(rows, "base", reps=2, kept=self.kept)
        return {name: np.array([each.estimate(name, side).value for side in sides]) for name in QUANTITIES}

    @classmethod
    def read(cls, out: str | Path, name: str) -> Population:
        """All runs of one stored comparison with a single recipe."""
        comparison = read_comparison(Path(out) / name, RunStore(Path(out) / "runs"))
        scores = comparison.scores[comparison.scores["primary"].astype(bool)].astype(dict.fromkeys(NAMES, "str"))
        keys = ["task", "metric", "item"]
        base = scores[scores["row"] == "base"].set_index(keys)
        (recipe,) = {run["row"] for run in comparison.runs if run["role"] == "recipe"}
        tuned = scores[scores["row"] == recipe].pivot_table(index=keys, columns="seed", values="score").loc[base.index]
        return cls(base.reset_index(), base["score"].to_numpy(float), tuned.to_numpy(float))

    def drawn_anew(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Items and their clusters, drawn with replacement, clusters whole, within each stratum."""
        drawn = []
        for group in self.strata:
            drawn += [group[i] for i in rng.integers(0, len(group), len(group))]
        return np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])

    def rows(self, chosen: np.ndarray, clusters: np.ndarray | pd.Series, **sides: Iterable[int]) -> pd.DataFrame:
        """Item scores of the base and of each side's seeds on the chosen items, as the statistics take them."""
        items = self.items.iloc[chosen].assign(item=np.arange(len(chosen)).astype(str), cluster=np.asarray(clusters))
        parts = [items.assign(row="base", seed=-1, score=self.base[chosen])]
        for name, seeds in sides.items():
            parts += [items.assign(row=name, seed=i, score=self.tuned[chosen, seed]) for i, seed in enumerate(seeds)]
        return pd.concat(parts, ignore_index=True)


def once(population: Population, seeds: int, number: int) -> list[bool]:
    """One repetition: for each quantity, a false alarm? does A's interval hold the truth? does the difference's exclude 0?"""
    rng = np.random.default_rng(stream("repeated", seeds, number).randrange(2**32))
    drawn = rng.integers(0, population.tuned.shape[1], 2 * seeds)
    table = population.rows(*population.drawn_anew(rng), A=drawn[:seeds], B=drawn[seeds:])
    analysis = analyse(table, "base", reps=REPS, seed=number, kept=population.kept)
    out = []
    for name in QUANTITIES:
        difference = analysis.difference(name, "A", "B")
        own = analysis.estimate(name, "A")
        apart = not difference.low <= 0 <= difference.high
        out += [apart and bool(np.isfinite(difference.p)), own.low <= population.truth[name] <= own.high, apart]
    return out


def t_coverage(values: np.ndarray, seeds: int) -> float:
    """Return the share of t intervals over `seeds` values, drawn with replacement, that hold the mean of all."""
    rng = np.random.default_rng(stream("reference", seeds).randrange(2**32))
    drawn = values[rng.integers(0, len(values), (T_DRAWS, seeds))]
    half = t.ppf(0.975, seeds - 1) * drawn.std(1, ddof=1) / np.sqrt(seeds)
    return float((np.abs(drawn.mean(1) - values.mean()) <= half).mean())


def _some(out: str | Path, name: str, seeds: int, numbers: Iterable[int]) -> list[list[bool]]:
    population = Population.read(out, name)
    return [once(population, seeds, number) for number in numbers]


def repeat(out: str | Path, name: str, seeds: int, comparisons: int) -> Repeated:
    """`comparisons` repetitions with `seeds` seeds a side, over all cores."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        parts = pool.map(
            _some, *zip(*((out, name, seeds, range(w, comparisons, workers)) for w in range(workers)), strict=True)
        )
        shares = np.array(list(chain.from_iterable(parts))).mean(0)
    # Each repetition answers three questions of each quantity in turn.
    alarms, coverage, apart = (dict(zip(QUANTITIES, map(float, shares[i::3]), strict=True)) for i in range(3))
    reference = {}
    if seeds > 1:  # one seed has no spread to make an interval of
        values = Population.read(out, name).values_by_seed()
        reference = {quantity: t_coverage(values[quantity], seeds) for quantity in QUANTITIES}
    return Repeated(seeds, comparisons, alarms, coverage, apart, reference)
