"""Documents of two runs laid side by side, and every metric's values on those that both have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

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

    @classmethod
    def of_metric(cls, metric: str) -> Aggregate:
        """Return how lm-eval makes this metric's score."""
        # lm-eval takes the exponential of means of log-likelihoods; differences are taken before that.
        if "perplexity" in metric:
            return cls.PERPLEXITY
        return cls.BITS if metric == "bits_per_byte" else cls.MEAN

    def of(self, ratio: Any) -> Any:
        """Return the score of a ratio of sums, or of an array of them."""
        if self is Aggregate.PERPLEXITY:
            return np.exp(-np.asarray(ratio))
        return -np.asarray(ratio) / math.log(2) if self is Aggregate.BITS else np.asarray(ratio)


@dataclass(frozen=True)
class Document:
    """A document of one run, and where it stands there."""

    doc_id: int
    words: str

    def __str__(self) -> str:
        return f"{self.doc_id} ({self.words})" if self.words else str(self.doc_id)


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
    notes: tuple[str, ...] = field(default=())


def task_pairs(task: str, before: LmEvalRun, after: LmEvalRun) -> TaskPairs:
    """Pair a task's documents by content; where one stands twice, by the order of `doc_id`."""
    # By content, since two versions of a task may number the same documents differently.
    numbered = [_numbered(run.samples[task]) for run in (before, after)]
    common = [key for key in numbered[0] if key in numbered[1]]
    shared = list(dict.fromkeys(_document_of(key) for key in common))
    numbers = {document: number for number, document in enumerate(shared)}
    only = tuple(_only(samples, set(numbers)) for samples in numbered)
    documents = {_document_of(key): sample for key, sample in reversed(numbered[0].items())}

    metrics: list[MetricPairs] = []
    unpaired: dict[str, tuple[float, float]] = {}
    notes = _notes(task, before, after, [(numbered[0][key], numbered[1][key]) for key in common])
    # In the order in which A has them, so that the table reads as lm-eval's.
    for name, chosen in _metrics(numbered[0].values()):
        if (name, chosen) not in set(_metrics(numbered[1].values())):
            notes.append(f"{task}: {_title(name, chosen)} is in A alone.")
            continue
        metric_pairs = _metric_pairs(task, (name, chosen), (before, after), numbered, numbers)

        # What lm-eval printed is shown where no sum over documents gives it.
        printed = tuple(run.scores.get(task, {}).get(f"{name},{chosen}", math.nan) for run in (before, after))
        if metric_pairs is not None:
            metrics.append(metric_pairs)
        elif not all(math.isnan(value) for value in printed):
            unpaired[f"{name},{chosen}"] = (printed[0], printed[1])
    for name, chosen in _metrics(numbered[1].values()):
        if (name, chosen) not in set(_metrics(numbered[0].values())):
            notes.append(f"{task}: {_title(name, chosen)} is in B alone.")
    names = tuple(Document(documents[document].doc_id, documents[document].words) for document in shared)
    return TaskPairs(task, names, (only[0], only[1]), tuple(metrics), unpaired, tuple(notes))


Key = tuple[str, str, int]
"""Filter, content, and which of equal documents."""


def _numbered(samples: Sequence[Sample]) -> dict[Key, Sample]:
    """Return the samples by filter, content, and how many equal documents come before."""
    before: Counter[tuple[str, str]] = Counter()
    # Equal documents are told apart by their order, the same in both runs.
    by_key: dict[Key, Sample] = {}
    for sample in sorted(samples, key=lambda sample: sample.doc_id):
        pair = (sample.filter, sample.content)
        by_key[*pair, before[pair]] = sample
        before[pair] += 1
    return by_key


def _document_of(key: Key) -> tuple[str, int]:
    return key[1], key[2]


def _only(samples: dict[Key, Sample], shared: set[tuple[str, int]]) -> tuple[Document, ...]:
    """Return the documents of one run that the other has not, once each."""
    documents = {_document_of(key): Document(sample.doc_id, sample.words) for key, sample in samples.items()}
    return tuple(document for key, document in documents.items() if key not in shared)


def _metrics(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    """Return the (metric, filter) pairs of samples, in order."""
    return list(dict.fromkeys((name, sample.filter) for sample in samples for name in sample.values))


def _title(metric: str, chosen: str) -> str:
    return metric if chosen == "none" else f"{metric} ({chosen})"


def _metric_pairs(
    task: str,
    named: tuple[str, str],
    runs: tuple[LmEvalRun, LmEvalRun],
    numbered: Sequence[dict[Key, Sample]],
    numbers: dict[tuple[str, int], int],
) -> MetricPairs | None:
    """Return a metric's values by document; None where lm-eval's score is no ratio of sums over documents."""
    metric, chosen = named
    aggregate = Aggregate.of_metric(metric)
    sums = []
    alone = []
    for run, samples in zip(runs, numbered, strict=True):
        values = {key: _sums(sample.values.get(metric), metric) for key, sample in samples.items() if key[0] == chosen}
        present = {key: value for key, value in values.items() if value is not None}
        # A value that cannot be summed: then no document of the metric can be paired.
        missing = any(samples[key].values.get(metric) is not None for key, value in values.items() if value is None)
        total = np.sum(list(present.values()), axis=0) if present else np.zeros(2)
        if missing or not total[1]:
            return None
        score = float(aggregate.of(total[0] / total[1]))

        # Where our sum is not the printed score, the metric is computed in another way, and has no
        # interval here.
        printed = run.scores.get(task, {}).get(f"{metric},{chosen}")
        if printed is not None and abs(score - printed) > SAME * (1 + abs(printed)):
            return None
        sums.append(present)
        alone.append(score)

    # Pairs of equal weight only: another text would be another document.
    keys = [key for key in sums[0] if key in sums[1] and _document_of(key) in numbers and sums[0][key][1] == sums[1][key][1]]
    table = np.array([[*sums[0][key], sums[1][key][0]] for key in keys], dtype=float).reshape(-1, 3)
    places = np.array([numbers[_document_of(key)] for key in keys], dtype=int)
    rising = _rising(task, metric, runs)
    return MetricPairs(metric, chosen, aggregate, rising, places, table[:, 0], table[:, 2], table[:, 1], (alone[0], alone[1]))


def _sums(value: Any, metric: str) -> tuple[float, float] | None:
    """Return (sum, weight) of a sample's value; None where it has no such form, or is not known."""
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
    # The results know; the name is a guess.
    """Return whether higher is better: as the results say, else by the metric's name."""
    for run in runs:
        direction = run.rising.get(task, {}).get(metric)
        if direction is not None:
            return bool(direction)
    return not any(part in metric for part in LOWER_IS_BETTER)


def _notes(task: str, before: LmEvalRun, after: LmEvalRun, pairs: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """Return what differs in how the two runs asked."""
    notes = []
    # Another prompt for the same document means that the runs did not ask alike.
    prompted = [(a, b) for a, b in pairs if a.prompt and b.prompt]
    other = sum(a.prompt != b.prompt for a, b in prompted)
    if other:
        cure = "a chat template, few-shot examples or the task's wording differ, and their effect is part of the difference"
        notes.append(f"{task}: {other:,} of {len(prompted):,} prompts are not the same text in both runs: {cure}.")
    for what, attribute in (("few-shot examples", "shots"), ("version of the task", "versions")):
        values = [getattr(run, attribute).get(task) for run in (before, after)]
        if None not in values and values[0] != values[1]:
            notes.append(f"{task}: {what}: {values[0]} in A, {values[1]} in B.")
    return notes
