"""The gate: evidence and policy in, verdict out. Pure functions; what runs and prints is in harness/gate.py. No torch.

Every metric is compared with the baseline's, item by item, by the bootstrap of harness/stats.py. All are in points: scores
times 100, losses and drift in hundredths of a nat. Recipes fail by being worse; the base and the controls by differing at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness import PROTOCOL
from harness.errors import PlanError, raise_faults
from harness.evidence import SECONDARY, table_of
from harness.question import differences
from harness.stats import Analysis, Estimate, analyse

TOLERANCE = 2.0
"""Points. A guess: twice what "does not forget" allows (`MARGIN`), for a gate sees fewer items than a comparison."""
FEWEST = 10
"""Paired items below which nothing is decided: the bootstrap of a handful has no width to speak of."""
REPS = 2000
UNKNOWN = Estimate()
NOW, THEN = "now: ", "then: "
CRASHED = ("failed", "out_of_memory", None)
"""Statuses that say nothing of the method: the check is to be repeated. The others are answers, without scores."""
ORDER = ("regression", "error", "inconclusive", "pass")
EXIT = {"pass": 0, "error": 1, "regression": 2, "inconclusive": 4}
"""Exit codes of `lethe check`; 3 is usage."""


@dataclass(frozen=True)
class Policy:
    """What the evidence is held against."""

    baseline: dict[str, Any]
    """Accepted evidence."""
    floors: dict[str, dict[str, float]]
    """row -> metric -> noise floor in points, see `floors_of`."""
    tolerance: float = TOLERANCE
    only: tuple[str, ...] = ()
    """Recipes to be checked; all of the baseline's where empty."""


@dataclass(frozen=True)
class Finding:
    """One metric of one row."""

    row: str
    metric: str
    outcome: str
    """pass | regression | inconclusive | error"""
    sentence: str
    change: Estimate = UNKNOWN
    """Now less then, in points as measured."""
    tolerance: float = np.nan
    sign: int = 0
    """1 where more is better, -1 where less is, 0 where any difference counts."""

    @property
    def reach(self) -> float:
        """The worst change that the interval does not exclude, in points for the worse."""
        down, up = -self.change.low, self.change.high
        return {1: down, -1: up}.get(self.sign, max(down, up))


@dataclass(frozen=True)
class Verdict:
    """All findings, and the worst outcome among them."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def outcome(self) -> str:
        return min((finding.outcome for finding in self.findings), key=ORDER.index)

    @property
    def exit_code(self) -> int:
        return EXIT[self.outcome]

    def count(self, outcome: str) -> int:
        return sum(finding.outcome == outcome for finding in self.findings)


def decide(evidence: dict[str, Any], policy: Policy) -> Verdict:
    """Judge each row and metric of the baseline; what the evidence lacks of them fails. Raises PlanError where the two
    cannot be compared at all."""
    _refuse_incomparable(evidence, policy)
    rows = {name: told for name, told in policy.baseline["rows"].items() if told["role"] != "recipe" or _asked(name, policy)}
    findings = [lack for name in rows for lack in _lacks(name, evidence, policy.baseline)]
    lacking = {(lack.row, lack.metric) for lack in findings}
    whole = [name for name in rows if (name, "run") not in lacking]
    if whole:
        both = analysis_of(policy.baseline, evidence, whole)
        for name in whole:
            same = rows[name]["role"] != "recipe"
            for metric, (quantity, sign) in metrics_of(both, same).items():
                if both.estimate(quantity, THEN + name).known:
                    tolerance = max(policy.tolerance, policy.floors.get(name, {}).get(metric, 0.0))
                    findings.append(_judged(name, metric, _points(both, quantity, name), sign, tolerance))
    return Verdict(tuple(findings), tuple(_notes(evidence, policy)))


def judge(change: Estimate, sign: int, tolerance: float) -> str:
    """The rule. `sign`: 1 where more is better, -1 where less is, 0 where any difference counts.

    A regression lies beyond the tolerance with its whole interval; an estimate beyond it with a part of it is inconclusive.
    """
    towards = sign or (-1 if change.value > 0 else 1)
    value, ends = towards * change.value, sorted((towards * change.low, towards * change.high))
    if not change.known:
        return "regression"
    if value >= -tolerance:
        return "pass"
    return "regression" if ends[1] < -tolerance and change.n >= FEWEST else "inconclusive"


def analysis_of(baseline: dict[str, Any], evidence: dict[str, Any], rows: list[str]) -> Analysis:
    """Both sides of these rows in one table, under the base as it was then."""
    base = base_of(baseline)
    then, now = table_of(baseline, THEN), table_of(evidence, NOW)
    table = pd.concat([then, now], ignore_index=True)
    wanted = {side + row for side in (THEN, NOW) for row in (*rows, base)}
    measures = set(zip(then["task"], then["metric"], strict=True))
    known = np.array([pair in measures for pair in zip(table["task"], table["metric"], strict=True)])
    return analyse(table[known & table["row"].isin(wanted)].reset_index(drop=True), THEN + base, reps=REPS)


def base_of(evidence: dict[str, Any]) -> str:
    return next(name for name, row in evidence["rows"].items() if row["role"] == "base")


def metrics_of(analysis: Analysis, same: bool = False) -> dict[str, tuple[str, int]]:
    """Metric -> (quantity of the statistics, sign of what is better; 0 for each where `same` is wanted)."""
    found = {"general": ("change", 1), "domain": ("gain", 1)}
    for quantity in sorted(analysis.point):
        kind, _, rest = quantity.partition(":")
        if quantity.startswith("change:family:"):
            found[f"general/{rest.removeprefix('family:')}"] = (quantity, 1)
        elif quantity.startswith("gain:task:"):
            found[f"domain/{rest.removeprefix('task:')}"] = (quantity, 1)
        elif kind == "level" and rest.rpartition(":")[0] in SECONDARY:
            found[rest.replace(":", "/")] = (quantity, -1)
    return {name: (quantity, 0 if same else sign) for name, (quantity, sign) in found.items() if quantity in analysis.point}


def floors_of(evidence: dict[str, Any], seeds: int) -> dict[str, dict[str, float]]:
    """Noise floor of each recipe's metrics: how far two honest checks of so many seeds may be apart when only the seeds differ.

    t(0.975, k - 1) s sqrt(2 / seeds) points, s the standard deviation between the k seeds of the evidence.
    """
    base = base_of(evidence)
    analysis = analyse(table_of(evidence), base, reps=2)
    floors: dict[str, dict[str, float]] = {}
    for name, row in evidence["rows"].items():
        if row["role"] != "recipe" or name not in analysis.rows:
            continue
        place = analysis.rows.index(name)
        for metric, (quantity, _) in metrics_of(analysis).items():
            own = analysis.by_seed[quantity][:, place] * (100 if quantity.startswith("level:") else 1)
            own = own[np.isfinite(own)]
            if len(own) > 1:
                spread = student.ppf(0.975, len(own) - 1) * own.std(ddof=1) * np.sqrt(2 / seeds)
                floors.setdefault(name, {})[metric] = round(float(spread), 3)
    return floors


def _judged(row: str, metric: str, change: Estimate, sign: int, tolerance: float) -> Finding:
    outcome = judge(change, sign, tolerance)
    side = {1: "fell", -1: "rose"}.get(sign, "differs")
    shown = f"{change.value:+z.2f} [{change.low:+z.2f}, {change.high:+z.2f}] points, tolerance {tolerance:.2f}"
    sentence = {
        "pass": f"within tolerance: {shown}",
        "regression": f"{side} beyond the tolerance: {shown}" if change.known else "has no value now",
        "inconclusive": f"{side}, but {change.n} items do not tell whether beyond the tolerance: {shown}",
    }[outcome]
    return Finding(row, metric, outcome, sentence, change, tolerance, sign)


def _points(analysis: Analysis, quantity: str, row: str) -> Estimate:
    """Now less then."""
    found = analysis.difference(quantity, NOW + row, THEN + row)
    if not quantity.startswith("level:"):
        return found
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high, 100 * found.se, found.n, found.p)


def _lacks(name: str, evidence: dict[str, Any], baseline: dict[str, Any]) -> list[Finding]:
    """What the baseline has of a row and the evidence has not: the run, whole measures, items."""
    then, now = baseline["rows"][name], evidence["rows"].get(name)
    if now is None:
        return [Finding(name, "run", "regression", "the row is missing from the evidence")]
    found = []
    for seed, run in sorted(now["seeds"].items()):
        if run["status"] != "done":
            outcome = "error" if run["status"] in CRASHED else "regression"
            found.append(Finding(name, "run", outcome, f"seed {seed} {run['status'] or 'never ended'}: {run['reason']}"))
    if absent := sorted(set(then["seeds"]) - set(now["seeds"]), key=int):
        found.append(Finding(name, "run", "regression", f"seed {', '.join(absent)} is missing from the evidence"))
    return found or _missing_scores(name, evidence, baseline)


def _missing_scores(name: str, evidence: dict[str, Any], baseline: dict[str, Any]) -> list[Finding]:
    """A measure's items that had a score then and have none now. What a text may be too short for is asked for as a whole."""
    found = []
    for seed, run in baseline["rows"][name]["seeds"].items():
        now = evidence["rows"][name]["seeds"][seed]["scores"]
        for measure, scores in run["scores"].items():
            told = baseline["measures"][measure]
            items = evidence["measures"].get(measure, {"items": []})["items"]
            own = dict(zip(items, now.get(measure, []), strict=False))
            wanted = [item for item, score in zip(told["items"], scores, strict=True) if score is not None]
            lost = [item for item in wanted if own.get(item) is None]
            undefined = told["channel"] == "degeneration" and any(score is not None for score in own.values())
            if lost and not undefined:
                text = f"{len(lost):,} of {len(wanted):,} items have no score now (seed {seed}), {lost[0]!r} among them"
                found.append(Finding(name, measure, "regression", text))
    return found


def _refuse_incomparable(evidence: dict[str, Any], policy: Policy) -> None:
    baseline = policy.baseline
    faults = [
        f"{side} of protocol {found['protocol']}, this is protocol {PROTOCOL}: scores compare within one only; {cure}"
        for side, found, cure in (
            ("the baseline is", baseline, "renew it with `lethe check --accept`"),
            ("the evidence is", evidence, "measure it again with `lethe check`"),
        )
        if found["protocol"] != PROTOCOL
    ]
    known = [name for name, row in baseline["rows"].items() if row["role"] == "recipe"]
    faults += [
        f"the baseline has no row '{name}'; it has {', '.join(known)}: choose among these, or renew it with --accept"
        for name in policy.only
        if name not in known
    ]
    raise_faults(faults)
    if not any(row["role"] == "base" for row in evidence["rows"].values()):
        raise PlanError("the evidence has no row of the base model; measure it again with `lethe check`")


def _asked(name: str, policy: Policy) -> bool:
    return not policy.only or name in policy.only


def _notes(evidence: dict[str, Any], policy: Policy) -> list[str]:
    """What else differs from the baseline: a reader wants to know before looking for a cause."""
    then, now = policy.baseline, evidence
    notes = [str(found) for found in differences(then["question"], now["question"])]
    new = [name for name in now["rows"] if name not in then["rows"]]
    return notes + ([f"not in the baseline, not judged: {', '.join(new)}"] if new else [])
