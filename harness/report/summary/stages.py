"""Plans of several files: what each stage did for every domain, and what later stages took back.

R[i][j] is the score on domain j after stage i, points, tasks averaged; i = 0 is the base. With T stages,
backward transfer BWT = mean over j < T of R[T][j] - R[j][j], and forgetting F = mean over j < T of max over i < T of R[i][j],
less R[T][j] (Lopez-Paz and Ranzato 2017, arXiv:1706.08840; Chaudhry et al. 2018, arXiv:1801.10112, there without the base).
All by one bootstrap for each domain: items paired with the base, the same draws for all stages of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.format import MISSING, points, signed, with_interval
from harness.stats.analysis import Analysis, Estimate, analyse, estimate_of

STAGES = (
    "After each stage: the score on each domain, in points of the raw score, and its change from the base (gain) with the 95 % "
    "interval of that change. Backward transfer: what later stages did to earlier domains. Forgetting: what was lost of an "
    "earlier domain's best."
)


@dataclass(frozen=True)
class Staged:
    """One row of the table over the stages."""

    name: str
    scores: list[list[Estimate]]
    """[i - 1][j]: R after stages 1 to T; no interval, that is the change's."""
    gains: list[list[Estimate]]
    """[i - 1][j]: its change from the base, with the interval of that change."""
    backward: Estimate
    forgetting: Estimate


@dataclass(frozen=True)
class Stages:
    """The forgetting matrices of a comparison."""

    domains: list[str]
    base: list[Estimate]
    """R[0]: no interval, everything is paired with it."""
    rows: list[Staged]

    def gains(self, row: str) -> dict[str, Estimate]:
        """Return each domain's own gain at the end, by which a mean that hides a loss is seen.

        Empty for a row without scores.
        """
        last_gains = next((line.gains[-1] for line in self.rows if line.name == row), [])
        return dict(zip(self.domains, last_gains, strict=False))


def read_stages(record: Mapping[str, Any], final: pd.DataFrame, between: pd.DataFrame, base: str, reps: int) -> Stages | None:
    """Read final scores and those between stages; None where the plan has one stage or the base has no scores."""
    domains = (record.get("data") or {}).get("stages") or []
    if not domains or not (final["row"] == base).any():
        return None

    # Each domain has a bootstrap of its own, with the same draws for all stages of a row.
    tasks = {suite["name"]: set(suite["tasks"]) for suite in record["suites"]}
    last = len(domains)
    ends = final.assign(row=[name if name == base else _key(name, last) for name in final["row"]])
    middle = between.assign(row=[_key(*pair) for pair in zip(between["row"], between["stage"], strict=True)])
    table = pd.concat([ends, middle.drop(columns="stage")], ignore_index=True) if len(between) else ends
    analyses = [
        analyse(table[table["task"].isin(tasks[name])], base, reps=reps, seed=number) for number, name in enumerate(domains)
    ]
    levels = [_level(analysis) for analysis in analyses]
    names = [name for name in dict.fromkeys(final["row"]) if name != base]
    starts = [Estimate(level, n=analysis.counts["gain"][0]) for level, analysis in zip(levels, analyses, strict=True)]
    return Stages(list(domains), starts, [_row(name, analyses, levels) for name in names])


def _key(row: str, stage: int) -> str:
    return f"{row}\n{stage}"


def _level(analysis: Analysis) -> float:
    """Return the base's mean primary score, points, turned so that more is better."""
    tasks = analysis.measures[analysis.measures["headline"]]
    return float((100 * tasks["base"] * np.where(tasks["higher_better"], 1, -1)).mean())


def _row(name: str, analyses: Sequence[Analysis], levels: Sequence[float]) -> Staged:
    last = len(analyses)
    gains = [[analysis.estimate("gain", _key(name, stage)) for analysis in analyses] for stage in range(1, last + 1)]
    scores = [[Estimate(level + gain.value, n=gain.n) for level, gain in zip(levels, line, strict=True)] for line in gains]
    moved, lost, n = [], [], []
    for number, analysis in enumerate(analyses[:-1], 1):
        # From the base through all stages, on one domain.
        way = [_gain(analysis, _key(name, stage)) for stage in range(1, last + 1)]
        best = np.maximum.reduce([np.zeros_like(way[0]), *way[:-1]])
        moved.append(way[-1] - way[number - 1])
        lost.append(best - way[-1])
        n.append(gains[-1][number - 1].n)

    # The point, each seed and the replicates lie one after the other.
    draws = 1 + len(analyses[0].by_seed["gain"])
    parts = (np.mean(moved, 0), np.mean(lost, 0))
    backward, forgetting = (estimate_of(float(part[0]), part[1:draws], part[draws:], min(n)) for part in parts)
    return Staged(name, scores, gains, backward, forgetting)


def _gain(analysis: Analysis, key: str) -> np.ndarray:
    """Return (1 + seeds + draws,) the gain over the base, each seed's, and its replicates; NaN where there are no scores."""
    if key not in analysis.rows:
        return np.full(1 + len(analysis.by_seed["gain"]) + analysis.reps, np.nan)
    index = analysis.rows.index(key)
    return np.concatenate(
        [analysis.point["gain"][[index]], analysis.by_seed["gain"][:, index], analysis.replicates["gain"][:, index]]
    )


def stage_table(stages: Stages) -> pd.DataFrame:
    """Return one line a row and stage, formatted; the transfer stands on a row's last line.

    A score and its change have a column each, so that brackets stand at the number they belong to.
    """
    start = {domain: points(score.value) for domain, score in zip(stages.domains, stages.base, strict=True)}
    lines = [{"row": "base", "after": MISSING} | start]
    for row in stages.rows:
        for number, (scores, gains) in enumerate(zip(row.scores, row.gains, strict=True), 1):
            line = {"row": row.name, "after": stages.domains[number - 1]}
            for domain, score, gain in zip(stages.domains, scores, gains, strict=True):
                line |= {domain: points(score.value), f"{domain}: gain (points)": _signed(gain)}
            lines.append(line)
        lines[-1] |= {
            "backward transfer (points)": _signed(row.backward),
            "forgetting (points)": with_interval(row.forgetting),
            "n": f"{row.backward.n:,}",
        }
    return pd.DataFrame(lines).fillna(MISSING)


def stage_numbers(stages: Stages) -> pd.DataFrame:
    """Return the same as plain numbers, one line a row, stage and domain: stages.csv."""
    lines = []
    for row in stages.rows:
        rest: dict[str, float] = {}
        for name, estimate in (("backward transfer", row.backward), ("forgetting", row.forgetting)):
            rest |= {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
        none = [Estimate(0.0, 0.0, 0.0, n=score.n) for score in stages.base]
        for number, (scores, gains) in enumerate(zip([stages.base, *row.scores], [none, *row.gains], strict=True)):
            for domain, score, gain in zip(stages.domains, scores, gains, strict=True):
                line = {"row": row.name, "stage": number, "domain": domain, "score": score.value}
                line |= {"gain": gain.value, "gain low": gain.low, "gain high": gain.high, "n": gain.n}
                lines.append(line | rest)
    return pd.DataFrame(lines)


def _signed(estimate: Estimate) -> str:
    return f"{signed(estimate.value)} [{signed(estimate.low)}, {signed(estimate.high)}]" if estimate.known else MISSING
