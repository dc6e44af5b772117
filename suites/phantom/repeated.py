"""The statistics put to the test: many comparisons drawn from many stored seeds of one recipe.

The stored runs and all their items are the population, whose truth is known because all of it is there. Each repetition draws
some seeds for A, others for B, and the items anew (clusters of them, within families), and asks the ordinary statistics. There
is no difference between A and B, so each alarm is false; and the population's own value should lie in 95 % of the intervals.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.stats import analyse
from harness.store import RunStore, read_comparison
from suites.phantom.words import stream

QUANTITIES = ("change", "gain")
REPS = 1000
"""Bootstrap draws of each repetition."""


@dataclass(frozen=True)
class Repeated:
    """What the repetitions came to."""

    seeds: int
    """Seeds of A, and of B."""
    comparisons: int
    alarms: dict
    """Quantity -> share of A/A comparisons whose interval excludes 0."""
    coverage: dict
    """Quantity -> share of A's intervals that hold the population's value."""


class Population:
    """Scores of every stored seed as arrays, and what they amount to together."""

    def __init__(self, out, name):
        folder = Path(out) / name
        scores = read_comparison(folder, RunStore(Path(out) / "runs")).scores
        scores = scores[scores["primary"].astype(bool) & scores["row"].map(lambda row: not row.startswith("control"))]
        keys = ["task", "metric", "item"]
        wide = scores[scores["row"] != "base"].pivot_table(index=keys, columns="seed", values="score")
        facts = scores[scores["row"] == "base"].set_index(keys).loc[wide.index].reset_index()
        self.items, self.start, self.tuned = facts, facts["score"].to_numpy(), wide.to_numpy()
        pieces = facts["group"] + "/" + facts["family"] + "/"
        strata = pd.factorize(pieces)[0]
        clusters = pd.factorize(pieces + facts["cluster"].fillna(facts["item"]).astype(str))[0]
        self.strata = [[np.flatnonzero(clusters == c) for c in np.unique(clusters[strata == s])] for s in np.unique(strata)]
        everything = analyse(self.table(range(self.tuned.shape[1]), [], None), "base", reps=2)
        self.kept = set(everything.measures.query("kept")[["task", "metric"]].itertuples(index=False, name=None))
        self.truth = {name: everything.estimate(name, "A").value for name in QUANTITIES}

    def table(self, a, b, rng):
        """Item scores of the base, of A's seeds and of B's, on items drawn anew (all of them without `rng`)."""
        if rng is None:
            rows, copy = np.arange(len(self.items)), np.zeros(len(self.items), int)
        else:
            drawn = [group[i] for group in self.strata for i in rng.integers(0, len(group), len(group))]
            rows, copy = np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])
        facts = self.items.iloc[rows].assign(item=[f"{i}" for i in range(len(rows))], cluster=copy if rng is not None else None)
        if rng is None:
            facts["cluster"] = self.items["cluster"]
        parts = [facts.assign(row="base", seed=-1, score=self.start[rows])]
        for name, seeds in (("A", a), ("B", b)):
            parts += [facts.assign(row=name, seed=i, score=self.tuned[rows, s]) for i, s in enumerate(seeds)]
        return pd.concat(parts, ignore_index=True)


def once(population, seeds, number):
    """One repetition: for each quantity, a false alarm? and does A's interval hold the truth?"""
    rng = np.random.default_rng(stream("repeated", seeds, number).randrange(2**32))
    drawn = rng.permutation(population.tuned.shape[1])[: 2 * seeds]
    table = population.table(drawn[:seeds], drawn[seeds:], rng)
    found = analyse(table, "base", reps=REPS, seed=number, kept=population.kept)
    out = []
    for name in QUANTITIES:
        difference, own = found.difference(name, "A", "B"), found.estimate(name, "A")
        out += [not difference.low <= 0 <= difference.high, own.low <= population.truth[name] <= own.high]
    return out


def _some(out, name, seeds, numbers):
    population = Population(out, name)
    return [once(population, seeds, number) for number in numbers]


def repeat(out, name, seeds, comparisons):
    """`comparisons` repetitions with `seeds` seeds a side, over all cores."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        parts = pool.map(
            _some, *zip(*((out, name, seeds, range(w, comparisons, workers)) for w in range(workers)), strict=True)
        )
        shares = np.array([line for part in parts for line in part]).mean(0)
    alarms, coverage = shares[::2], shares[1::2]
    return Repeated(
        seeds,
        comparisons,
        {name: float(share) for name, share in zip(QUANTITIES, alarms, strict=True)},
        {name: float(share) for name, share in zip(QUANTITIES, coverage, strict=True)},
    )
