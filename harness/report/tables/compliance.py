"""Business rules on the domain's generated outputs: how often each recipe keeps them, and which outputs do not.

Taken from the stored outputs, so that other rules cost no model. Several seeds of a row are averaged item by item; intervals
cover the choice of items, changes are against the base on the same items.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate, estimate_of
from harness.stats.resample import draws, estimated
from harness.text.rules import Rule, parse_rules

ALL = "all rules"
NAMES = "rules"
KEYS = ["task", "item"]
COLUMNS = ["row", "rule", "value", "low", "high", "change", "change low", "change high", "n"]
BROKEN = ["row", "seed", *KEYS, NAMES, "prompt", "output"]


def compliance_table(summary: Summary) -> pd.DataFrame:
    """Return one line a row and rule: compliance.csv; shares of the outputs that the rule is about."""
    judged, rules = _judged(summary)
    lines = []
    for rule in [ALL, *(rule.name for rule in rules)] if len(judged) else []:
        kept = judged.pivot_table(index=KEYS, columns="row", values=rule, aggfunc="mean")
        if kept.empty:
            continue
        # Items of one cluster are drawn together; an item that declares none has a cluster of its own.
        clusters = judged.drop_duplicates(KEYS).set_index(KEYS)["cluster"].reindex(kept.index).fillna("")
        lines += _lines(rule, kept, draws(clusters.to_list()), [row.name for row in summary.rows], summary.base)
    return pd.DataFrame(lines, columns=COLUMNS)


def _lines(rule: str, kept: pd.DataFrame, counts: np.ndarray, rows: list[str], base: str) -> list[dict[str, str | float]]:
    lines: list[dict[str, str | float]] = []
    for row in [row for row in rows if row in kept]:
        kept_by_row = kept[row].to_numpy(float)
        level, _ = estimated(kept_by_row, np.isfinite(kept_by_row), counts)
        change = Estimate()
        # The base has no change against itself.
        if base in kept and row != base:
            moved = kept_by_row - kept[base].to_numpy(float)
            value, replicates = estimated(moved, np.isfinite(moved), counts)
            change = estimate_of(value.value, np.array([]), replicates, value.n)
        spread = {"value": level.value, "low": level.low, "high": level.high, "n": level.n}
        spread |= {"change": change.value, "change low": change.low, "change high": change.high}
        lines.append({"row": row, "rule": rule, **spread})
    return lines


def broken_table(summary: Summary) -> pd.DataFrame:
    """Return one line an output that breaks a rule: broken.csv."""
    judged, _ = _judged(summary)
    if judged.empty:
        return pd.DataFrame(columns=BROKEN)
    return judged[judged[ALL] == 0][BROKEN]


def _judged(summary: Summary) -> tuple[pd.DataFrame, list[Rule]]:
    """Return the domain's generated outputs with a column for each rule: 1 kept, 0 broken, NaN where it is not about
    the prompt.
    """
    rules = parse_rules(summary.record.get("rules") or [])
    if not rules or summary.scores.empty:
        return pd.DataFrame(), rules
    outputs = pd.concat([_generated(summary.texts(row)) for row in summary.scores["row"].unique()], ignore_index=True)
    texts = list(zip(outputs["prompt"].fillna(""), outputs["output"].fillna(""), strict=True))
    # Equal outputs to equal prompts are judged once: several seeds often say the same.
    judgements = {pair: [rule.judge(pair[1], pair[0]) for rule in rules] for pair in dict.fromkeys(texts)}
    numbers = [[_number(judgement.kept) for judgement in judgements[pair]] for pair in texts]
    table = pd.DataFrame(numbers, index=outputs.index, columns=[rule.name for rule in rules], dtype=float)
    broken = ["; ".join(judgement.name for judgement in judgements[pair] if judgement.kept is False) for pair in texts]
    return pd.concat([outputs, table.assign(**{ALL: table.min(axis=1), NAMES: broken})], axis=1), rules


def _generated(scores: pd.DataFrame) -> pd.DataFrame:
    primary = scores["primary"].fillna(False).astype(bool)
    return scores[primary & (scores["group"] == "domain") & (scores["channel"] == "generation")]


def _number(kept: bool | None) -> float:
    return np.nan if kept is None else float(kept)


def compliance(summary: Summary, row: str) -> Estimate:
    """Return the share of a row's outputs that keep all rules."""
    table = summary.computed(compliance_table)
    lines = table[(table["row"] == row) & (table["rule"] == ALL)]
    if lines.empty:
        return Estimate()
    line = lines.iloc[0]
    return Estimate(line["value"], line["low"], line["high"], np.nan, int(line["n"]))
