"""Macro-F1 of classifications: tasks whose answers are labels.

F1 of a class = 2 TP / (2 TP + FP + FN); macro: the plain mean over the classes that are in the references or predicted at all
among them (an answer that is none of the labels is a miss of its class). It is no mean over items, so gain uses accuracy, and
F1 stands beside it, with an interval over items drawn again (clusters), the same draws for all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate, estimate_of
from harness.stats.resample import draws
from harness.text.answer_metrics import final, normalise

COLUMNS = ["row", "task", "labels", "accuracy", "f1", "low", "high", "change", "change low", "change high", "n"]
ACCURACIES = ("exact_match", "acc")
LEAST_REPEATS = 2
"""Items a label on average: fewer, and the answers are no classes."""
REPS = 1000


def class_table(summary: Summary) -> pd.DataFrame:
    """Return one line a row and classification task: classes.csv."""
    tasks: dict[str, _Task] = {}
    if len(summary.scores):
        for name, items in _candidates(summary.texts(summary.base)).groupby("task"):
            if task := _Task.of(items):
                tasks[str(name)] = task

    # Task by task, each with all rows.
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
    for row in summary.scores["row"].unique() if tasks else ():
        answers = _candidates(summary.texts(row))
        for name, items in answers[answers["task"].isin(tasks)].groupby("task"):
            line = tasks[str(name)].line(items, row == summary.base)
            lines[str(name)].append({"row": row, "task": name} | line)
    return pd.DataFrame(list(chain.from_iterable(lines.values())), columns=COLUMNS)


def _candidates(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that may be of a classification."""
    # Right or wrong, with a text as its target: a classification at first sight.
    right = scores["metric"].str.partition(",")[0].isin(ACCURACIES)
    return scores[scores["primary"].fillna(False).astype(bool) & right & scores["target"].notna()]


@dataclass(frozen=True)
class _Task:
    """A classification task as the base was asked it."""

    base: pd.DataFrame
    labels: dict[str, int]
    counts: np.ndarray
    """(1 + B, n) how often each item counts: once, and in each draw."""
    start: np.ndarray
    """(1 + B,) the base's macro-F1."""

    @classmethod
    def of(cls, items: pd.DataFrame) -> _Task | None:
        """Return the task of the base's `items`, if its answers are labels."""
        base = items.drop_duplicates("item").set_index("item")

        # Fewer than two labels, or labels that hardly repeat, are no classes.
        labels = {label: index for index, label in enumerate(sorted({normalise(final(text)) for text in base["target"]}))}
        if not 2 <= len(labels) <= len(base) / LEAST_REPEATS or _letters(labels):
            return None

        # The first line counts each item once, so that one product gives the estimate and all
        # draws.
        counts = np.r_[np.ones((1, len(base)), np.float32), draws(base["cluster"].fillna("").to_list(), REPS)]
        return cls(base, labels, counts, _row(items, base, labels, counts))

    def line(self, items: pd.DataFrame, is_base: bool) -> dict[str, float]:
        """Return the numbers of a row's `items`."""
        drawn = _row(items, self.base, self.labels, self.counts)
        n = len(self.base)
        f1 = _estimate(drawn, n)
        change = Estimate() if is_base else _estimate(drawn - self.start, n)
        line: dict[str, float] = {"labels": len(self.labels), "f1": f1.value, "low": f1.low, "high": f1.high, "n": n}
        line |= {"change": change.value, "change low": change.low, "change high": change.high}
        return line | {"accuracy": float(items["score"].mean())}


def _letters(labels: dict[str, int]) -> bool:
    """Return whether the labels only number the choices of each question."""
    return all(len(label) == 1 and label.isascii() for label in labels)


def _places(texts: pd.Series, labels: dict[str, int]) -> np.ndarray:
    """Return (n,) each text's class; one more than there are where it is none of them."""
    return np.array([labels.get(normalise(final(str(text))), len(labels)) for text in texts])


def _row(items: pd.DataFrame, base: pd.DataFrame, labels: dict[str, int], counts: np.ndarray) -> np.ndarray:
    """Return (1 + B,) macro-F1 in each draw, the mean of the row's seeds."""
    gold = _places(base["target"], labels)
    seeds = []
    for _, of_seed in items.groupby("seed"):
        # An item that this row was not asked has no answer, which is none of the classes.
        output = of_seed.drop_duplicates("item").set_index("item")["output"].reindex(base.index).fillna("")
        seeds.append(macro_f1(gold, _places(output, labels), len(labels), counts))
    return np.mean(seeds, axis=0)


def macro_f1(gold: np.ndarray, predicted: np.ndarray, classes: int, counts: np.ndarray) -> np.ndarray:
    """Return (B,) mean over classes of 2 TP / (gold + predicted) with items counted `counts` (B, n) times.

    A class that a draw has neither in the references nor predicted stays out of its mean.
    """
    values = np.zeros(len(counts))
    present = np.zeros(len(counts))
    for label in range(classes):
        # Items are counted as often as a draw has them.
        right = counts @ ((gold == label) & (predicted == label))
        under = counts @ (gold == label) + counts @ (predicted == label)
        values += np.where(under > 0, 2 * right / np.maximum(under, 1), 0)
        present += under > 0
    return values / np.maximum(present, 1)


def _estimate(drawn: np.ndarray, n: int) -> Estimate:
    return estimate_of(float(drawn[0]), np.array([]), drawn[1:], n)
