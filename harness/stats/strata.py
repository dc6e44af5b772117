"""A table of item scores as the bootstrap takes it: sums by cluster, of measures whose items share clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from harness.stats.bootstrap import Stratum


def strata_of(table: pd.DataFrame, rows: Sequence[str]) -> list[Stratum]:
    """Return the connected sets of measures, with their sums by cluster, row and seed."""
    cluster = table["cluster"].to_numpy()
    measure = table["measure"].to_numpy(int)
    row = pd.Categorical(table["row"], categories=list(rows)).codes.astype(int)
    seed, seeds = pd.factorize(table["seed"], sort=True)
    score = table["score"].to_numpy(float)
    start = table["start"].to_numpy(float)
    component = _components(measure, cluster)
    strata: list[Stratum] = []

    # Each component is resampled by itself; together, clusters of different tests would be one
    # stratum.
    for number in np.unique(component):
        part = np.flatnonzero(component == number)
        measures, m = np.unique(measure[part], return_inverse=True)
        clusters, k = np.unique(cluster[part], return_inverse=True)
        shape = (len(clusters), len(rows), len(seeds), len(measures))
        cell = np.ravel_multi_index((k, row[part], seed[part], m), shape)
        # changes, not tuned scores: then a row that equals the base gives exactly 0
        before = start[part]
        values = [score[part] - before, before, None]

        # One sum over items instead of a sum per draw: resampling then costs no more than the
        # number of clusters.
        size = int(np.prod(shape))
        sums = [np.bincount(cell, weights=value, minlength=size).reshape(shape) for value in values]
        strata.append(Stratum(measures, np.stack(sums, axis=1, dtype=float)))
    return strata


def _components(measure: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return (n,) the stratum of each item: measures are linked where their items share a cluster."""
    n_measures = measure.max() + 1
    n_clusters = cluster.max() + 1
    # a graph whose nodes are the measures, then the clusters
    pairs = np.unique(measure * n_clusters + cluster)
    edges = (pairs // n_clusters, n_measures + pairs % n_clusters)
    nodes = n_measures + n_clusters
    links = sparse.coo_array((np.ones(len(pairs)), edges), shape=(nodes, nodes))
    _, component = connected_components(links, directed=False)
    return component[measure]
