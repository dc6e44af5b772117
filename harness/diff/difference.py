"""One metric of one task in two runs: paired bootstrap intervals, McNemar's test, flips, and what could have been seen.

The bootstrap is that of every comparison: documents are drawn with replacement, the same draw for both runs and for all metrics
of a task. It covers the choice of documents, not a repetition of a training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.diff.documents import Document
from harness.diff.pairs import Aggregate, MetricPairs, TaskPairs
from harness.stats.bootstrap import BLOCK, drawn_weights
from harness.stats.estimate import Estimate, estimate_of

REPS = 2000
"""Bootstrap draws, a multiple of BLOCK."""
SEED = 0
KINDS = 4
"""Documents per kind of document from which on the draws are those of the kinds: that is sooner done."""


@dataclass(frozen=True)
class Difference:
    """One metric of one task, or of several as one, B against A."""

    task: str
    metric: str
    filter: str
    rising: bool
    """Whether higher is better."""
    scale: float
    """100 where scores are shares, shown in points; else 1."""
    before: float
    """A's score on the shared documents, in that unit."""
    after: float
    change: Estimate
    """B minus A, with the 95 % interval over documents."""
    alone: tuple[float, float]
    """The scores of A and B over all of their own documents, as lm-eval prints them."""
    lost: tuple[Document, ...] | None
    """Documents that A has right and B wrong; None where scores are not 0 or 1."""
    won: tuple[Document, ...] | None
    mcnemar: float
    """Two-sided exact p of no difference; NaN where scores are not 0 or 1."""

    @property
    def outcome(self) -> str:
        """`better`, `worse`, `no difference seen`, or `too few` documents to tell."""
        if not self.change.enough:
            return "too few"
        if not (self.change.low > 0 or self.change.high < 0):
            return "no difference seen"
        return "better" if (self.change.value > 0) == self.rising else "worse"


Draws = np.ndarray
"""(2, B) scores of A and of B in each draw."""


def drawn_scores(task: TaskPairs) -> list[Draws]:
    """Return the draws of every metric of a task: its documents are drawn once for all of them."""
    # (K, 3, m): what each document adds to the change, to A's sum and to the weights; a change of 0 stays exactly 0
    sums = np.zeros((len(task.documents), 3, len(task.metrics)))
    for column, pairs in enumerate(task.metrics):
        sums[pairs.places, 0, column] = pairs.after - pairs.before
        sums[pairs.places, 1, column] = pairs.before
        sums[pairs.places, 2, column] = pairs.weight
    # the seed has the task's name in it, so that the draws of two tasks have nothing to do with each other
    rng = np.random.default_rng([SEED, *task.task.encode()])
    totals = _totals(sums.reshape(len(sums), -1), rng).reshape(REPS, *sums.shape[1:])
    with np.errstate(invalid="ignore"):  # a draw without any document of a metric has no score
        change, before = np.moveaxis(totals[:, :2] / totals[:, 2:], 1, 0)
    return [
        np.stack([pairs.aggregate.of(before[:, column]), pairs.aggregate.of(before[:, column] + change[:, column])])
        for column, pairs in enumerate(task.metrics)
    ]


def _totals(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (B, n) sums over rows (K, n) that are drawn with replacement, K in each draw.

    Rows that are equal are of one kind. How often K draws take each kind is multinomial, so that nothing else is drawn where
    kinds are few, as where scores are 0 or 1.
    """
    kinds, sizes = np.unique(rows, axis=0, return_counts=True)
    if KINDS * len(kinds) <= len(rows):
        return rng.multinomial(len(rows), sizes / len(rows), size=REPS) @ kinds
    blocks = [drawn_weights(rng, BLOCK, len(rows)) @ rows for _ in range(REPS // BLOCK)]
    return np.concatenate(blocks)


def difference_of(task: TaskPairs, pairs: MetricPairs, draws: Draws) -> Difference:
    """Return the difference in one metric."""
    before, after = pairs.scores
    scale = scale_of(pairs)
    lost = won = None
    p = math.nan
    if pairs.binary:
        right = 1 if pairs.rising else 0
        kept = pairs.before == right, pairs.after == right
        lost = tuple(task.documents[index] for index in pairs.places[kept[0] & ~kept[1]])
        won = tuple(task.documents[index] for index in pairs.places[~kept[0] & kept[1]])
        p = mcnemar(len(lost), len(won))
    return Difference(
        task.task,
        pairs.metric,
        pairs.filter,
        pairs.rising,
        scale,
        scale * before,
        scale * after,
        estimated(scale * (after - before), scale * (draws[1] - draws[0]), len(pairs.places)),
        (scale * pairs.alone[0], scale * pairs.alone[1]),
        lost,
        won,
        p,
    )


def scale_of(pairs: MetricPairs) -> float:
    """Return 100 where every document scores from 0 to 1."""
    if pairs.aggregate is not Aggregate.MEAN:
        return 1.0
    means = np.concatenate([pairs.before, pairs.after]) / np.concatenate([pairs.weight, pairs.weight])
    return 100.0 if ((means >= 0) & (means <= 1)).all() else 1.0


def estimated(value: float, draws: np.ndarray, documents: int) -> Estimate:
    """Return a change with its interval."""
    return estimate_of(value, np.array([value]), draws, documents)


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p of McNemar's test: `lost` and `won` of all flips, each side as likely (McNemar 1947).

    Twice the binomial tail: the sum over i up to the fewer of the two of C(n, i) / 2^n, n flips.
    """
    flips = lost + won
    fewer = np.arange(1, min(lost, won) + 1)
    # log C(n, i) = log C(n, i - 1) + log((n - i + 1) / i); scipy has the sum, and takes longer to import than all this takes
    ways = np.concatenate([[0.0], np.cumsum(np.log((flips - fewer + 1) / fewer))])
    return min(1.0, 2 * float(np.exp(ways - flips * math.log(2)).sum()))
