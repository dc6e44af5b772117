"""Two runs compared: paired bootstrap intervals, McNemar's test, flips, and what could have been seen.

The bootstrap is that of every comparison (harness/stats/bootstrap.py): documents are drawn with replacement, the same draw
for both runs and for all metrics of a task. It covers the choice of documents, not a repetition of a training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.diff.lm_eval_run import LmEvalRun
from harness.diff.pairs import Aggregate, Document, MetricPairs, TaskPairs, task_pairs
from harness.errors import PlanError
from harness.stats.analysis import Estimate, estimate_of
from harness.stats.bootstrap import Stratum, resample
from harness.stats.measures import FEWEST

REPS = 2000
"""Bootstrap draws."""
SEED = 0


@dataclass(frozen=True)
class Difference:
    """One metric of one task, B against A."""

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
        if self.change.n < FEWEST:
            return "too few"
        if not (self.change.low > 0 or self.change.high < 0):
            return "no difference seen"
        return "better" if (self.change.value > 0) == self.rising else "worse"


@dataclass(frozen=True)
class Diff:
    """All differences of two runs."""

    names: tuple[str, str]
    tasks: tuple[TaskPairs, ...]
    differences: tuple[Difference, ...]
    means: tuple[Difference, ...]
    """Of a metric that several tasks have, the mean over these tasks."""
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Tasks of A alone, and of B alone."""
    notes: tuple[str, ...]


def diff(before: LmEvalRun, after: LmEvalRun) -> Diff:
    """Compare two runs. Raises PlanError where they share no document."""
    shared = [task for task in before.samples if task in after.samples]
    only = (
        tuple(task for task in before.samples if task not in after.samples),
        tuple(task for task in after.samples if task not in before.samples),
    )
    tasks = tuple(task_pairs(task, before, after) for task in shared)
    # Tasks of one name need not have one document in common: another version has others.
    if not any(task.documents for task in tasks):
        lists = f"A has {', '.join(before.samples)}; B has {', '.join(after.samples)}"
        raise PlanError(f"the two runs share no document, so nothing can be paired: {lists}; give two runs of the same tasks")

    # One set of draws of each task's documents, so that its metrics can be read side by side.
    notes = [*before.notes, *after.notes, *(note for task in tasks for note in task.notes)]
    drawn = [(task, _drawn(task)) for task in tasks if task.metrics]
    differences = []
    for task, columns in drawn:
        for pairs, draws in zip(task.metrics, columns, strict=True):
            if len(pairs.places):
                differences.append(_difference(task, pairs, draws))
    return Diff((before.name, after.name), tasks, tuple(differences), tuple(_means(drawn)), only, tuple(dict.fromkeys(notes)))


Draws = np.ndarray
"""(2, B) scores of A and of B in each draw."""


def _drawn(task: TaskPairs) -> list[Draws]:
    """Return the draws of every metric of a task: its documents are drawn once for all of them."""
    # (K, 3, R, S, m): changes, A's sums and weights of each document; the rows are A and B, with one seed each
    sums = np.zeros((len(task.documents), 3, 2, 1, len(task.metrics)))
    for column, pairs in enumerate(task.metrics):
        sums[pairs.places, 0, 1, 0, column] = pairs.after - pairs.before
        sums[pairs.places, 1, :, 0, column] = pairs.before[:, None]
        sums[pairs.places, 2, :, 0, column] = pairs.weight[:, None]
    available = sums[:, 2].sum(0) > 0
    stratum = Stratum(np.arange(len(task.metrics)), sums)
    means, _ = resample([stratum], available, REPS, np.random.default_rng(SEED))
    return [pairs.aggregate.of(means[..., column]).T for column, pairs in enumerate(task.metrics)]


def _difference(task: TaskPairs, pairs: MetricPairs, draws: Draws) -> Difference:
    total = pairs.weight.sum()
    # Sums over documents, as lm-eval computes its own numbers.
    scores = [float(pairs.aggregate.of(values.sum() / total)) for values in (pairs.before, pairs.after)]
    scale = _scale(pairs)
    lost = won = None
    p = math.nan

    # Right or wrong: then the flips say more than the interval, and can be tested exactly.
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
        scale * scores[0],
        scale * scores[1],
        _estimate(scale * (scores[1] - scores[0]), scale * (draws[1] - draws[0]), len(pairs.places)),
        (scale * pairs.alone[0], scale * pairs.alone[1]),
        lost,
        won,
        p,
    )


def _means(drawn: Sequence[tuple[TaskPairs, list[Draws]]]) -> list[Difference]:
    """Return the mean over tasks of every metric that several tasks have in the same unit, each task weighing the same."""
    grouped: dict[tuple[str, str], list[tuple[MetricPairs, Draws]]] = {}
    for task, columns in drawn:
        for pairs, draws in zip(task.metrics, columns, strict=True):
            if len(pairs.places) and pairs.aggregate is Aggregate.MEAN:
                grouped.setdefault((pairs.metric, pairs.filter), []).append((pairs, draws))
    means = []
    for (metric, chosen), parts in grouped.items():
        # A mean over different units, or over opposite directions, has no meaning.
        scales = {_scale(pairs) for pairs, _ in parts}
        directions = {pairs.rising for pairs, _ in parts}
        if len(parts) == 1 or len(scales) > 1 or len(directions) > 1:
            continue
        scale = scales.pop()
        scores = [
            scale * float(np.mean([getattr(pairs, side).sum() / pairs.weight.sum() for pairs, _ in parts]))
            for side in ("before", "after")
        ]
        moved = scale * np.mean([draws[1] - draws[0] for _, draws in parts], axis=0)
        alone = [scale * float(np.mean([pairs.alone[run] for pairs, _ in parts])) for run in (0, 1)]
        change = _estimate(scores[1] - scores[0], moved, sum(len(pairs.places) for pairs, _ in parts))
        title = f"mean of {len(parts)} tasks"
        means.append(
            Difference(
                title,
                metric,
                chosen,
                directions.pop(),
                scale,
                scores[0],
                scores[1],
                change,
                (alone[0], alone[1]),
                None,
                None,
                math.nan,
            )
        )
    return means


def _scale(pairs: MetricPairs) -> float:
    """Return 100 where every document scores from 0 to 1."""
    if pairs.aggregate is not Aggregate.MEAN:
        return 1.0
    # Shares are shown in points; anything else in its own unit.
    means = np.concatenate([pairs.before, pairs.after]) / np.concatenate([pairs.weight, pairs.weight])
    return 100.0 if ((means >= 0) & (means <= 1)).all() else 1.0


def _estimate(value: float, draws: np.ndarray, documents: int) -> Estimate:
    return estimate_of(value, np.array([value]), draws, documents)


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p of McNemar's test: `lost` and `won` of all flips, each side as likely (McNemar 1947)."""
    from scipy.special import bdtr

    # Only documents that changed say anything; their sides are as likely if nothing differs.
    flips = lost + won
    return min(1.0, 2 * float(bdtr(min(lost, won), flips, 0.5))) if flips else 1.0
