"""Two runs laid side by side: every metric's values on the documents that both have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from harness.diff.documents import Document, Match, Side, documents_of, match_of, shared_documents, sides_of
from harness.diff.lm_eval_run import LmEvalRun, Sample

LOWER_IS_BETTER = ("perplexity", "bits_per_byte", "brier", "ter", "wer", "loss", "error")
"""Parts of the names of metrics that are better where lower; read only where no results JSON says."""
WEIGHTED = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Metrics whose samples are pairs (log-likelihood, weight), as lm-eval's rolling likelihoods are."""
SAME = 1e-6
"""Relative difference to which lm-eval's own score is met."""


class Aggregate(StrEnum):
    """How lm-eval makes a score out of a ratio of sums over documents."""

    MEAN = "mean"
    PERPLEXITY = "exp of minus the mean"
    BITS = "minus the mean, in bits"

    def of(self, ratio: Any) -> Any:
        """Return the score of a ratio of sums, or of an array of them."""
        if self is Aggregate.PERPLEXITY:
            return np.exp(-np.asarray(ratio))
        return -np.asarray(ratio) / math.log(2) if self is Aggregate.BITS else np.asarray(ratio)


@dataclass(frozen=True)
class MetricPairs:
    """A metric of a task under a filter, on the documents that both runs have: sums over each document, (n,)."""

    metric: str
    filter: str
    aggregate: Aggregate
    rising: bool
    places: np.ndarray
    """Which of the task's documents."""
    before: np.ndarray
    """Numerators of A."""
    after: np.ndarray
    """Numerators of B."""
    weight: np.ndarray
    """Denominators, the same in both."""
    alone: tuple[float, float]
    """The score of A over all of its documents, and of B over all of its."""

    @property
    def scores(self) -> tuple[float, float]:
        """A's and B's score on the documents that both have."""
        total = self.weight.sum()
        before, after = (float(self.aggregate.of(values.sum() / total)) for values in (self.before, self.after))
        return before, after

    @property
    def binary(self) -> bool:
        """Whether every document is right or wrong."""
        values = np.concatenate([self.before, self.after])
        return self.aggregate is Aggregate.MEAN and bool(np.isin(values, (0, 1)).all() and (self.weight == 1).all())


@dataclass(frozen=True)
class TaskPairs:
    """A task that both runs have."""

    task: str
    documents: tuple[Document, ...]
    """Those that both have, as A has them."""
    only: tuple[tuple[Document, ...], tuple[Document, ...]]
    """Documents of A alone, and of B alone."""
    metrics: tuple[MetricPairs, ...]
    unpaired: dict[str, tuple[float, float]]
    """`metric,filter` -> what lm-eval printed, of metrics that are no sum over documents."""
    sizes: tuple[int, int]
    """How many documents A has, and B."""
    notes: tuple[str, ...] = field(default=())


def task_pairs(task: str, before: LmEvalRun, after: LmEvalRun) -> TaskPairs:
    """Pair a task's documents by content; where one stands twice, by the order of `doc_id`."""
    a = sides_of(before.samples[task])
    b = sides_of(after.samples[task])
    shared = shared_documents(a, b)
    of_a = documents_of(a)
    of_b = documents_of(b)
    only_a = tuple(document for key, document in of_a.items() if key not in shared)
    only_b = tuple(document for key, document in of_b.items() if key not in shared)

    # Scores are kept by filter, so documents are matched filter by filter.
    matches = {chosen: match_of(a[chosen], b[chosen], shared) for chosen in a if chosen in b}
    paired: list[tuple[Sample, Sample]] = []
    for chosen, match in matches.items():
        for index_a, index_b in zip(match.before, match.after, strict=True):
            paired.append((a[chosen].samples[index_a], b[chosen].samples[index_b]))
    notes = _notes(task, before, after, paired)

    # A metric is compared where both runs have it; where samples do not give it, its printed values are shown.
    names_a = _metrics(a)
    names_b = _metrics(b)
    metrics: list[MetricPairs] = []
    unpaired: dict[str, tuple[float, float]] = {}
    for metric, chosen in names_a:
        if (metric, chosen) not in names_b:
            notes.append(f"{task}: {_title(metric, chosen)} is in A alone.")
            continue
        pairs = _metric_pairs(task, metric, chosen, (before, after), (a[chosen], b[chosen]), matches[chosen])
        printed = tuple(run.scores.get(task, {}).get(f"{metric},{chosen}", math.nan) for run in (before, after))
        if pairs is not None:
            metrics.append(pairs)
        elif not all(math.isnan(value) for value in printed):
            unpaired[f"{metric},{chosen}"] = (printed[0], printed[1])
    notes += [f"{task}: {_title(*name)} is in B alone." for name in names_b if name not in names_a]
    documents = tuple(of_a[key] for key in shared)
    return TaskPairs(task, documents, (only_a, only_b), tuple(metrics), unpaired, (len(of_a), len(of_b)), tuple(notes))


def _metrics(sides: dict[str, Side]) -> dict[tuple[str, str], None]:
    """Return the (metric, filter) pairs of samples, in order."""
    metrics: dict[tuple[str, str], None] = {}
    for chosen, side in sides.items():
        for sample in side.samples:
            metrics |= {(name, chosen): None for name in sample.values}
    return metrics


def _title(metric: str, chosen: str) -> str:
    return metric if chosen == "none" else f"{metric} ({chosen})"


def _metric_pairs(
    task: str, metric: str, chosen: str, runs: tuple[LmEvalRun, LmEvalRun], sides: tuple[Side, Side], match: Match
) -> MetricPairs | None:
    """Return a metric's values by document; None where lm-eval's score is no ratio of sums over documents."""
    aggregate = Aggregate.MEAN
    if "perplexity" in metric:
        aggregate = Aggregate.PERPLEXITY
    elif metric == "bits_per_byte":
        aggregate = Aggregate.BITS
    tables = []
    alone = []
    for run, side in zip(runs, sides, strict=True):
        table = _table(side.samples, metric)
        total = np.zeros(2) if table is None else np.nansum(table, axis=0)
        if table is None or not total[1]:
            return None
        score = float(aggregate.of(total[0] / total[1]))
        printed = run.scores.get(task, {}).get(f"{metric},{chosen}")
        if printed is not None and abs(score - printed) > SAME * (1 + abs(printed)):
            return None
        tables.append(table)
        alone.append(score)
    before = tables[0][match.before]
    after = tables[1][match.after]
    # a document without the metric has the weight NaN, which equals nothing
    has_both = before[:, 1] == after[:, 1]
    before = before[has_both]
    after = after[has_both]
    rising = _rising(task, metric, runs)
    places = match.documents[has_both]
    return MetricPairs(metric, chosen, aggregate, rising, places, before[:, 0], after[:, 0], before[:, 1], (alone[0], alone[1]))


def _table(samples: Sequence[Sample], metric: str) -> np.ndarray | None:
    """Return (n, 2) sums and weights of a metric, NaN where a document has none; None where a value has another form."""
    values = [sample.values.get(metric) for sample in samples]
    if {type(value) for value in values} <= {bool, int, float}:
        sums = np.array(values, dtype=float)
        return None if np.isnan(sums).any() else np.stack([sums, np.ones(len(sums))], axis=1)
    table = np.full((len(values), 2), np.nan)
    for index, value in enumerate(values):
        if value is not None:
            entry = _sums(value, metric)
            if entry is None:
                return None
            table[index] = entry
    return table


def _sums(value: Any, metric: str) -> tuple[float, float] | None:
    """Return (sum, weight) of a sample's value; None if the value is of another form or NaN."""
    if isinstance(value, bool | int | float):
        return None if math.isnan(value) else (float(value), 1.0)
    if metric == "brier_score":
        return _brier(value)
    if not isinstance(value, list) or not value or not all(isinstance(part, bool | int | float) for part in value):
        return None
    if metric in WEIGHTED and len(value) == 2:
        return float(value[0]), float(value[1])
    # several yes or no on one document, as IFEval's instructions: lm-eval averages over all of them
    return (float(sum(value)), float(len(value))) if all(isinstance(part, bool) for part in value) else None


def _brier(value: Any) -> tuple[float, float] | None:
    """Return the squared distance of (gold, probabilities of the choices) from certainty of the gold one."""
    match value:
        case [int(gold), str(printed)] if "..." not in printed:
            # lm-eval prints an array where it does not turn it into a list
            return _brier([gold, [float(share) for share in printed.strip("[]").split()]])
        case [int(gold), [*shares]] if 0 <= gold < len(shares):
            return float(sum((share - (index == gold)) ** 2 for index, share in enumerate(shares))), 1.0
    return None


def _rising(task: str, metric: str, runs: Iterable[LmEvalRun]) -> bool:
    """Return whether higher is better: as the results say, else by the metric's name."""
    for run in runs:
        direction = run.rising.get(task, {}).get(metric)
        if direction is not None:
            return bool(direction)
    return not any(part in metric for part in LOWER_IS_BETTER)


def _notes(task: str, before: LmEvalRun, after: LmEvalRun, pairs: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """Return what differs in how the two runs asked."""
    notes = []
    prompted = [(a, b) for a, b in pairs if a.prompt and b.prompt]
    other = sum(a.prompt != b.prompt for a, b in prompted)
    if other:
        cure = "a chat template, few-shot examples or the task's wording differ, and their effect is part of the difference"
        notes.append(f"{task}: {other:,} of {len(prompted):,} prompts are not the same text in both runs: {cure}.")
    # What only one of the two says cannot differ.
    for what, attribute in (("few-shot examples", "shots"), ("version of the task", "versions")):
        values = [getattr(run, attribute).get(task) for run in (before, after)]
        if None not in values and values[0] != values[1]:
            notes.append(f"{task}: {what}: {values[0]} in A, {values[1]} in B.")
    return notes
