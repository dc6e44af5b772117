"""Item scores of all rows side by side: what enters retention, and which items each row has right.

Tables are made by `summary.computed(function)`, once for a report.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.store.comparisons import among


def kept_scores(summary: Summary) -> pd.DataFrame:
    """Return row, task, metric, item and score of the tasks and metrics that enter retention."""
    measures = summary.analysis.measures if summary.analysis else pd.DataFrame(columns=["task", "metric", "kept"])
    pairs = set(measures.query("kept")[["task", "metric"]].itertuples(index=False, name=None))
    return among(summary.scores[["row", "task", "metric", "item", "score"]], ("task", "metric"), pairs)


def right_or_wrong(summary: Summary) -> pd.DataFrame:
    """Return (item) x (row) right or wrong on the general tasks that enter retention and are scored 0 or 1; first seed.

    Where lower is better 1 is no right answer: such tasks stay out.
    """
    if summary.analysis is None:
        return pd.DataFrame()
    rising = summary.analysis.measures.query("kept and higher_better")[["task", "metric"]]
    table = among(summary.computed(kept_scores), ("task", "metric"), set(rising.itertuples(index=False, name=None)))

    # One score between 0 and 1 takes its whole task out: half right is neither right nor wrong.
    allowed = table["score"].isin([0, 1]) | table["score"].isna()
    table = table[allowed.groupby([table["task"], table["metric"]]).transform("all")]
    return table.pivot_table(index=["task", "metric", "item"], columns="row", values="score", aggfunc="first")


def flips(summary: Summary, row: str, reference: str) -> dict[str, float]:
    """Count the items that only the reference (`lost`) or only the row (`won`) answered right.

    Of one seed each, where scores are 0 or 1; NaN elsewhere.
    """
    empty = {"lost": np.nan, "won": np.nan}
    if summary.analysis is None:
        return empty
    seeds = max(summary.analysis.seeds.get(name, 0) for name in (row, reference))
    # Of several seeds an item has a mean, which is neither right nor wrong.
    if seeds != 1:
        return empty
    wide = summary.computed(right_or_wrong)
    if row not in wide or reference not in wide:
        return empty
    pair = wide[[row, reference]].dropna()
    lost = int((pair[row] < pair[reference]).sum())
    won = int((pair[row] > pair[reference]).sum())
    return {"lost": lost, "won": won}
