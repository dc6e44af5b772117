"""Calibration on multiple-choice items, before and after: ECE, Brier score, loss of the right option, AUROC.

Option probabilities are softmax(log-likelihood), unnormalised by length (harness/text/choice_calibration.py). A model that
forgets may stay sure of itself: accuracy does not show that, these do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.above_chance import clusters_of
from harness.stats.analysis import Estimate
from harness.stats.resample import draws, spread

BINS = 15
TITLES = {"ece": "ECE", "brier": "Brier", "nll_choice": "Loss of the right option", "auroc": "AUROC"}
MOST = {"ece": 1.0, "auroc": 1.0, "brier": 2.0}
"""The highest value there is; the lowest is 0."""
COLUMNS = ["row", "group", "measure", "value", "low", "high", "change", "change low", "change high", "n"]


def ece(confidence: np.ndarray, correct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (B,) expected calibration error over 15 bins of equal width: sum_b n_b / n |accuracy_b - confidence_b|.

    Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599. `counts` (B, n): how often each item counts.
    """
    # Bins of equal width, as the measure is usually read; a bin without answers has no gap.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((len(confidence), BINS), counts.dtype)
    gaps[np.arange(len(confidence)), bins] = correct - confidence

    # n_b cancels: the sum of gaps in a bin is n_b times the gap of the means.
    return np.abs(counts @ gaps).sum(1) / counts.sum(1)


def auroc(confidence: np.ndarray, correct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (B,) probability that a right answer has the higher confidence than a wrong one, ties half (Mann and Whitney)."""
    # Answers of one confidence are one level, so that ties count half.
    order = np.argsort(confidence, kind="stable")
    level = np.unique(confidence[order], return_inverse=True)[1]
    starts = np.flatnonzero(np.r_[True, level[1:] != level[:-1]])
    right = np.add.reduceat(counts[:, order] * correct[order], starts, axis=1)
    wrong = np.add.reduceat(counts[:, order] * (1 - correct)[order], starts, axis=1)
    below = np.cumsum(wrong, axis=1) - wrong / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (right * below).sum(1) / (right.sum(1) * wrong.sum(1))


def _mean(values: np.ndarray, _: np.ndarray, counts: np.ndarray) -> np.ndarray:
    # The same draws for all measures, so that they can be read side by side.
    return (counts @ values) / counts.sum(1)


_MEASURES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]]] = {
    "ece": ("confidence", ece),
    "brier": ("brier", _mean),
    "nll_choice": ("nll_choice", _mean),
    "auroc": ("confidence", auroc),
}


def calibration_of(summary: Summary) -> pd.DataFrame:
    """Return `calibration_table` of a comparison."""
    return calibration_table(summary.scores, summary.base)


def calibration_table(scores: pd.DataFrame, base: str) -> pd.DataFrame:
    """Return one line a row, group and measure: calibration.csv.

    All choice items of a group together; seeds count as items of one cluster with the item's others, so intervals
    cover the choice of items.
    """
    table = scores[scores["channel"] == "calibration"].astype(dict.fromkeys(("task", "item", "cluster"), "str"))
    lines = []
    for group, part in table.groupby("group"):
        wide = part.pivot_table(
            index=["row", "task", "item", "cluster", "seed"], columns="metric", values="score"
        ).reset_index()
        for row in dict.fromkeys(part["row"]):
            # Only items that the base was asked too: the change must be of the same questions.
            both = _paired(wide, row, base)
            if len(both):
                n = len(both[["task", "item"]].drop_duplicates())
                lines += [{"row": row, "group": group, "n": n} | line for line in _lines(both, n)]
    return pd.DataFrame(lines, columns=COLUMNS)


def _paired(wide: pd.DataFrame, row: str, base: str) -> pd.DataFrame:
    """Return a row's items beside the base's numbers for the same ones (columns with `_base`)."""
    keys = ["task", "item"]
    # Of the base one run counts: it is not trained, so its seeds would be equal.
    start = wide[wide["row"] == base].drop_duplicates(keys).drop(columns=["row", "cluster", "seed"])
    return wide[wide["row"] == row].merge(start, on=keys, suffixes=("", "_base"))


def _lines(both: pd.DataFrame, n: int) -> list[dict[str, str | float]]:
    # Items of one passage fall together, seeds of one item too.
    counts = draws((both["task"] + "\0" + clusters_of(both)).to_list(), reps=1000)
    once = np.ones((1, len(both)), np.float32)
    lines: list[dict[str, str | float]] = []
    for name, (column, function) in _MEASURES.items():
        level = _of(both, column, function, "", counts, once)
        start = _of(both, column, function, "_base", counts, once)
        value = _estimate(level, n, (0.0, MOST.get(name, np.inf)))
        change = _estimate(tuple(a - b for a, b in zip(level, start, strict=True)), n)
        lines.append(
            {
                "measure": name,
                "value": value.value,
                "low": value.low,
                "high": value.high,
                "change": change.value,
                "change low": change.low,
                "change high": change.high,
            }
        )
    return lines


def _of(both: pd.DataFrame, column: str, function: Any, end: str, counts: np.ndarray, once: np.ndarray) -> tuple[Any, ...]:
    """Return (the measure, its draws)."""
    values = both[column + end].to_numpy(float)
    correct = both["correct" + end].to_numpy(float)
    return function(values, correct, once), function(values, correct, counts)


def _estimate(measured: tuple[Any, ...], n: int, ends: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    value, drawn = measured
    return spread(float(value[0]), drawn, n, ends)
