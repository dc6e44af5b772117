"""Macro-F1 of classifications: tasks whose answers are labels.

F1 of a class = 2 TP / (2 TP + FP + FN); macro: the plain mean over the classes that are in the references or predicted at all
among them (an answer that is none of the labels is a miss of its class). It is no mean over items, so gain uses accuracy, and
F1 stands beside it, with an interval over items drawn again (clusters), the same draws for all rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.report.resample import draws
from harness.scoring import normalise
from harness.stats import Estimate, estimate_of

if TYPE_CHECKING:
    from harness.report.summary import Summary

COLUMNS = ["row", "task", "labels", "accuracy", "f1", "low", "high", "change", "change low", "change high", "n"]
ACCURACIES = ("exact_match", "acc")
LEAST_REPEATS = 2
"""Items a label on average: fewer, and the answers are no classes."""
REPS = 1000


def class_table(summary: Summary) -> pd.DataFrame:
    """One line a row and classification task: classes.csv."""
    scores = summary.scores
    if scores.empty:
        return pd.DataFrame(columns=COLUMNS)
    metric = scores["metric"].str.partition(",")[0]
    asked = scores[scores["primary"].fillna(False).astype(bool) & metric.isin(ACCURACIES) & scores["target"].notna()]
    lines = []
    for task, items in asked.groupby("task"):
        base = items[items["row"] == summary.base].drop_duplicates("item").set_index("item")
        labels = {label: place for place, label in enumerate(sorted({normalise(text) for text in base["target"]}))}
        if not 2 <= len(labels) <= len(base) / LEAST_REPEATS or _letters(labels):
            continue
        counts = np.r_[np.ones((1, len(base)), np.float32), draws(base["cluster"].fillna("").to_list(), REPS)]
        gold = _places(base["target"], labels)
        own = {row: _row(items[items["row"] == row], base, labels, gold, counts) for row in items["row"].unique()}
        for row, draws_ in own.items():
            change = _estimate(draws_ - own[summary.base], len(base)) if row != summary.base else Estimate()
            found = _estimate(draws_, len(base))
            line = {"row": row, "task": task, "labels": len(labels), "f1": found.value, "low": found.low, "high": found.high}
            line |= {"change": change.value, "change low": change.low, "change high": change.high, "n": len(base)}
            lines.append(line | {"accuracy": float(items.loc[items["row"] == row, "score"].mean())})
    return pd.DataFrame(lines, columns=COLUMNS)


def _letters(labels: dict[str, int]) -> bool:
    """Whether the labels only number the choices of each question."""
    return all(len(label) == 1 and label.isascii() for label in labels)


def _places(texts: pd.Series, labels: dict[str, int]) -> np.ndarray:
    """(n,) each text's class; one more than there are where it is none of them."""
    return np.array([labels.get(normalise(str(text)), len(labels)) for text in texts])


def _row(items: pd.DataFrame, base: pd.DataFrame, labels: dict[str, int], gold: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B,) macro-F1 in each draw, the mean of the row's seeds."""
    seeds = []
    for _, one in items.groupby("seed"):
        output = one.drop_duplicates("item").set_index("item")["output"].reindex(base.index).fillna("")
        seeds.append(macro_f1(gold, _places(output, labels), len(labels), counts))
    return np.mean(seeds, axis=0)


def macro_f1(gold: np.ndarray, predicted: np.ndarray, classes: int, counts: np.ndarray) -> np.ndarray:
    """(B,) mean over classes of 2 TP / (gold + predicted) with items counted `counts` (B, n) times.

    A class that a draw has neither in the references nor predicted stays out of its mean.
    """
    values = np.zeros(len(counts))
    known = np.zeros(len(counts))
    for one in range(classes):
        right, asked, said = (counts @ which for which in ((gold == one) & (predicted == one), gold == one, predicted == one))
        under = asked + said
        values += np.where(under > 0, 2 * right / np.maximum(under, 1), 0)
        known += under > 0
    return values / np.maximum(known, 1)


def _estimate(drawn: np.ndarray, n: int) -> Estimate:
    return estimate_of(float(drawn[0]), np.array([]), drawn[1:], n)
