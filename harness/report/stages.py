"""Plans of several files: what each stage did for every domain, and what later stages took back.

R[i][j] is the score on domain j after stage i, points, tasks averaged; i = 0 is the base. With T stages,
backward transfer BWT = mean over j < T of R[T][j] - R[j][j], and forgetting F = mean over j < T of max over i < T of R[i][j],
less R[T][j] (Lopez-Paz and Ranzato 2017, arXiv:1706.08840; Chaudhry et al. 2018, arXiv:1801.10112, there without the base).
All by one bootstrap for each domain: items paired with the base, the same draws for all stages of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.report.format import MISSING, points, signed, with_interval
from harness.stats import Analysis, Estimate, analyse, estimate_of

STAGES = (
    "Score on each domain after each stage, in points of the raw score; brackets: 95 % intervals of its change from the base. "
    "Backward transfer: what later stages did to earlier domains. Forgetting: what was lost of an earlier domain's best."
)


@dataclass(frozen=True)
class Staged:
    """One row of the table over the stages."""

    name: str
    scores: list[list[Estimate]]
    """[i - 1][j]: R after stages 1 to T, with the intervals of the change from the base."""
    backward: Estimate
    forgetting: Estimate


@dataclass(frozen=True)
class Stages:
    """The forgetting matrices of a comparison."""

    domains: list[str]
    base: list[Estimate]
    """R[0]: no interval, everything is paired with it."""
    rows: list[Staged]


def read_stages(record: dict[str, Any], final: pd.DataFrame, between: pd.DataFrame, base: str, reps: int) -> Stages | None:
    """From final scores and those between stages; None where the plan has one stage or the base has no scores."""
    domains = (record.get("data") or {}).get("stages") or []
    if not domains or not (final["row"] == base).any():
        return None
    tasks = {suite["name"]: set(suite["tasks"]) for suite in record["suites"]}
    last = len(domains)
    ends = final.assign(row=[name if name == base else _key(name, last) for name in final["row"]])
    middle = between.assign(row=[_key(*pair) for pair in zip(between["row"], between["stage"], strict=True)])
    table = pd.concat([ends, middle.drop(columns="stage")], ignore_index=True) if len(between) else ends
    found = [
        analyse(table[table["task"].isin(tasks[name])], base, reps=reps, seed=number) for number, name in enumerate(domains)
    ]
    levels = [_level(one) for one in found]
    names = [name for name in dict.fromkeys(final["row"]) if name != base]
    starts = [Estimate(level, n=one.counts["gain"][0]) for level, one in zip(levels, found, strict=True)]
    return Stages(list(domains), starts, [_row(name, found, levels) for name in names])


def _key(row: str, stage: int) -> str:
    return f"{row}\n{stage}"


def _level(found: Analysis) -> float:
    """The base's mean primary score, points, turned so that more is better."""
    tasks = found.measures[found.measures["headline"]]
    return float((100 * tasks["base"] * np.where(tasks["higher_better"], 1, -1)).mean())


def _row(name: str, found: Sequence[Analysis], levels: Sequence[float]) -> Staged:
    last = len(found)
    scores = [
        [_shifted(one.estimate("gain", _key(name, stage)), level) for one, level in zip(found, levels, strict=True)]
        for stage in range(1, last + 1)
    ]
    moved, lost, n = [], [], []
    for number, one in enumerate(found[:-1], 1):
        gains = [_gain(one, _key(name, stage)) for stage in range(1, last + 1)]
        best = np.maximum.reduce([np.zeros_like(gains[0]), *gains[:-1]])
        moved.append(gains[-1] - gains[number - 1])
        lost.append(best - gains[-1])
        n.append(scores[-1][number - 1].n)
    draws = 1 + len(found[0].by_seed["gain"])
    parts = (np.mean(moved, 0), np.mean(lost, 0))
    backward, forgetting = (estimate_of(float(part[0]), part[1:draws], part[draws:], min(n)) for part in parts)
    return Staged(name, scores, backward, forgetting)


def _gain(found: Analysis, key: str) -> np.ndarray:
    """(1 + seeds + draws,) the gain over the base, each seed's own, and its replicates; NaN where there are no scores."""
    if key not in found.rows:
        return np.full(1 + len(found.by_seed["gain"]) + found.reps, np.nan)
    place = found.rows.index(key)
    return np.concatenate([found.point["gain"][[place]], found.by_seed["gain"][:, place], found.replicates["gain"][:, place]])


def _shifted(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.value + by, estimate.low + by, estimate.high + by, estimate.se, estimate.n)


def stage_table(stages: Stages) -> pd.DataFrame:
    """One line a row and stage, formatted; the transfer stands on a row's last line."""
    lines = [{"row": "base", "after": MISSING} | dict(zip(stages.domains, map(_points, stages.base), strict=True))]
    for row in stages.rows:
        for number, scores in enumerate(row.scores, 1):
            line = {"row": row.name, "after": stages.domains[number - 1]}
            lines.append(line | dict(zip(stages.domains, map(with_interval, scores), strict=True)))
        lines[-1] |= {
            "backward transfer (points)": _signed(row.backward),
            "forgetting (points)": with_interval(row.forgetting),
            "n": f"{row.backward.n:,}",
        }
    return pd.DataFrame(lines).fillna(MISSING)


def stage_numbers(stages: Stages) -> pd.DataFrame:
    """The same as plain numbers, one line a row, stage and domain: stages.csv."""
    lines = []
    for row in stages.rows:
        rest = {
            f"{name}{end}": getattr(estimate, field)
            for name, estimate in (("backward transfer", row.backward), ("forgetting", row.forgetting))
            for end, field in (("", "value"), (" low", "low"), (" high", "high"))
        }
        for number, scores in enumerate([stages.base, *row.scores]):
            for domain, score in zip(stages.domains, scores, strict=True):
                line = {"row": row.name, "stage": number, "domain": domain, "score": score.value}
                lines.append(line | {"low": score.low, "high": score.high, "n": score.n} | rest)
    return pd.DataFrame(lines)


def _points(estimate: Estimate) -> str:
    return points(estimate.value)


def _signed(estimate: Estimate) -> str:
    return f"{signed(estimate.value)} [{signed(estimate.low)}, {signed(estimate.high)}]" if estimate.known else MISSING
