"""The trials behind a tuned row: each recipe's cloud of settings on dev items, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.plan.tuning_rule import TuningRule, expected_best, preferred, reference_of
from harness.report.summary.format import interval_columns
from harness.stats.analysis import Analysis, analyse
from harness.stats.estimate import Estimate
from harness.store.schema import EntryRecord, TrialEntry
from harness.vocabulary import EvalKind

QUANTITIES = ("gain", "change")
COLUMNS = ["row", "trial", "recipe", "plain", "selected", "status"]
COLUMNS += [*interval_columns(QUANTITIES), "n", "flops", "seconds", "key"]


def read_trials(trials: Sequence[TrialEntry], dev: pd.DataFrame, base: str, reps: int) -> tuple[pd.DataFrame, Analysis | None]:
    """Return `COLUMNS`, a line a trial, and their analysis.

    Points of domain and general change against the base, paired on the same dev items. Settings that were scored on test items
    (`is_point`) are no trials.
    """
    tried = [trial for trial in trials if not is_point(trial)]
    # Changes are against the base, so without its dev scores trials have none.
    scored = (dev["row"] == base).any() and len(tried)
    analysis = analyse(dev, base, reps=reps) if scored else None
    lines = []
    for trial in tried:
        estimates = {name: analysis.estimate(name, trial["trial"]) if analysis else Estimate() for name in QUANTITIES}
        line: dict[str, Any] = {name: dict(trial)[name] for name in ("row", "trial", "recipe", "selected", "status", "key")}
        line["plain"] = bool(trial.get("plain"))
        for name, estimate in estimates.items():
            line |= {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
        ledger = trial["ledger"] or {}
        cost = {name: float(ledger.get(name, np.nan)) for name in ("flops", "seconds")}
        lines.append(line | {"n": sum(estimate.n for estimate in estimates.values())} | cost)
    return pd.DataFrame(lines, columns=COLUMNS), analysis


def is_point(entry: EntryRecord) -> bool:
    """Return whether an entry of a record's trials is a setting that was scored on test items, not a trial."""
    return EvalKind.FINAL in (entry.get("evals") or {})


def by_trials(trials: pd.DataFrame, rule: TuningRule | None = None) -> list[dict[str, Any]]:
    """Return what tuning with fewer trials would have found: a line a row, (n, gain, change) on dev items for n = 1,
    2, 4 ... K.
    """
    lines = []
    reference = reference_of(trials["gain"].to_list(), trials["change"].to_list(), trials["plain"].to_list(), rule)
    for row, of_row in trials.groupby("row", sort=False):
        order = preferred(of_row["gain"].to_list(), of_row["change"].to_list(), reference)
        ranked = of_row.iloc[order]
        counts = sorted({2**i for i in range(len(order).bit_length()) if 2**i <= len(order)} | {len(order)} - {0})
        expected = [(n, *(expected_best(ranked[name].to_list(), n) for name in QUANTITIES)) for n in counts]
        lines.append({"row": row, "expected": expected})
    return lines
