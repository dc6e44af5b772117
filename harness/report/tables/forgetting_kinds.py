"""What kind of forgetting: the form of answers, what a few examples bring back, or what is gone.

By family and recipe, on the families and tasks that enter retention, chance-corrected, in points:

    said      change of what is generated           known     change of what is likely (choices, minimal pairs)
    recovered share of the loss that is back after the recovery probe (harness/runs/probe.py)

A loss (of what is generated; of what is likely where nothing is generated) is called

    format       where at most a fifth of it is seen in likelihood: the model knows, and does not say so
    recoverable  where at least 80 % is back after the probe
    true         where less than 80 % is back
    lost         where nothing was probed, and likelihood shows more than a fifth

if at least 90 % of the bootstrap draws agree, else `unclear`; `none` where the interval of the change holds 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.format import interval_columns
from harness.report.summary.item_tables import kept_scores
from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate, estimate_of
from harness.stats.resample import draws, ratio
from harness.store.comparisons import among

BACK = 0.8
"""Share of a loss that must be back to call it recoverable; of a loss of form likelihood may show the rest, a fifth."""
SURE = 0.9
KEYS = ["task", "metric", "item"]
SAID = ("generation",)
KNOWN = ("likelihood", "choice")
NUMBERS = ("said", "known", "recovered")
COLUMNS = ["row", "family", "seen", "kind", "n", *interval_columns(NUMBERS)]


def kind_table(summary: Summary) -> pd.DataFrame:
    """Return one line a recipe and family: kinds.csv. Changes in points, `recovered` in % of the loss."""
    if summary.analysis is None:
        return pd.DataFrame(columns=COLUMNS)
    kept = summary.analysis.measures.query("kept")
    # Item by item: what was right before tuning, after it, and after the recovery probe.
    tuned = _means(summary.computed(kept_scores))
    probed = _means(among(summary.probed, ("task", "metric"), _pairs(kept)))
    base = summary.scores[summary.scores["row"] == summary.base].drop_duplicates(KEYS).set_index(KEYS)["cluster"]
    cluster = base.astype(object).reindex(tuned.index).fillna("")
    lines = []
    for family, measures in kept.groupby("family"):
        pairs = _pairs(measures)
        inside = [key[:2] in pairs for key in tuned.index]
        items = _Family(summary.base, measures, tuned[inside], probed.reindex(tuned.index[inside]), cluster[inside])
        seen = bool(measures["seen"].fillna(False).all())
        for row in summary.tuned:
            if row.done and (line := items.line(row.name)):
                lines.append({"row": row.name, "family": family, "seen": seen} | line)
    return pd.DataFrame(lines, columns=COLUMNS)


def _pairs(measures: pd.DataFrame) -> set[tuple[str, str]]:
    return set(measures[KEYS[:2]].itertuples(index=False, name=None))


def _means(scores: pd.DataFrame) -> pd.DataFrame:
    """Return (task, metric, item) x row: mean scores over seeds."""
    return scores.pivot_table(index=KEYS, columns="row", values="score", aggfunc="mean")


class _Family:
    """The items of one family, the base's and every row's scores on them, finished and probed."""

    def __init__(
        self, base: str, measures: pd.DataFrame, tuned: pd.DataFrame, probed: pd.DataFrame, cluster: pd.Series
    ) -> None:
        self.base = base
        self.tuned = tuned
        self.probed = probed
        of_items = measures.set_index(KEYS[:2]).loc[[key[:2] for key in tuned.index]]
        higher = of_items["higher_better"].to_numpy(bool)
        chance = of_items["chance"].to_numpy(float)

        # From chance to perfect is 100 points, whatever the metric; where less is better, from 0.
        span = np.where(higher, 1 - chance, np.where(chance > 0, chance, 1.0))
        self.scale = 100 * np.where(higher, 1.0, -1.0) / span
        self.channel = of_items["channel"].to_numpy(str)
        self.task = np.array([key[0] for key in self.tuned.index])
        self.counts = np.r_[np.ones((1, len(cluster)), np.float32), draws(cluster.to_list())]

    def line(self, row: str) -> dict[str, Any]:
        """Return numbers and kind of one recipe; empty where it has no scores here. The first of the draws are all items."""
        if row not in self.tuned:
            return {}
        generated = self._change(self.tuned, row, SAID)
        likelihood = self._change(self.tuned, row, KNOWN)

        # What is generated counts, where anything is; else what is likely.
        channels = SAID if np.isfinite(generated[0]) else KNOWN
        change = generated if channels is SAID else likelihood
        back = self._change(self.probed, row, channels)
        with np.errstate(invalid="ignore", divide="ignore"):
            recovered = np.where(change < 0, 100 * (1 - back / change), np.nan)

        # Where nothing was lost for sure, nothing can be recovered.
        lost = _estimate(change)
        estimates = {"said": _estimate(generated), "known": _estimate(likelihood)}
        estimates["recovered"] = _estimate(recovered) if lost.high < 0 else Estimate()
        kind = kind_of(change, likelihood if channels is SAID else None, recovered, lost.high)
        line: dict[str, Any] = {"kind": kind, "n": int(np.isfinite(self.tuned[row]).sum())}
        for name, estimate in estimates.items():
            line |= {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
        return line

    def _change(self, table: pd.DataFrame, row: str, channels: tuple[str, ...]) -> np.ndarray:
        """Return (1 + B,) mean over tasks of the change against the base, in points; NaN where nothing is of these channels."""
        tasks = sorted(set(self.task[np.isin(self.channel, channels)]))
        if row not in table or not tasks:
            return np.full(len(self.counts), np.nan)
        moved = (table[row] - self.tuned[self.base]).to_numpy(float) * self.scale
        inside = [(self.task == task) & np.isfinite(moved) for task in tasks]
        return np.mean([ratio(np.where(items, moved, 0.0), items, self.counts) for items in inside], axis=0)


def kind_of(change: np.ndarray, likelihood: np.ndarray | None, recovered: np.ndarray, high: float) -> str:
    """Return the kind of a loss, from draws of its change, of likelihood's (None: it is likelihood's own) and of the %
    recovered.

    `high`: upper end of the change's interval.
    """
    if not high < 0:
        return "none" if np.isfinite(high) else "unclear"

    # Little of the loss in likelihood: the model knows, and does not say so.
    if likelihood is not None and np.isfinite(likelihood[0]):
        form = _agree(likelihood >= (1 - BACK) * change)
        if form >= SURE:
            return "format"
        if form > 1 - SURE:
            return "unclear"
    if not np.isfinite(recovered[0]):
        return "lost"
    back = _agree(recovered >= 100 * BACK)
    return "recoverable" if back >= SURE else "true" if back <= 1 - SURE else "unclear"


def _agree(draws_: np.ndarray) -> float:
    return float(draws_[1:].mean())


def _estimate(values: np.ndarray) -> Estimate:
    return estimate_of(float(values[0]), np.array([]), values[1:], 1)
