"""The gate: evidence and policy in, verdict out. Pure functions; what runs and prints is in harness/commands/check.py. No
torch.

Every metric is compared with the baseline's, item by item, by the bootstrap of harness/stats/analysis.py. All are in points:
scores
times 100, losses and drift in hundredths of a nat. Recipes fail by being worse; the base and the controls by differing at all.
On the machine of the baseline an unchanged tree reads exactly 0 everywhere, so there every other number is at least "changed".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import PlanError, raise_faults
from harness.gate.evidence import SECONDARY, table_of
from harness.gate.exact import differences, same_bits
from harness.gate.judge import MOST_FLOOR, TOLERANCE, Finding, Rule, had, judged
from harness.stats.analysis import Analysis, Estimate, analyse
from harness.stats.measures import quantities_of
from harness.store.question import differing_fields
from harness.store.schema import PROTOCOL

NEVER_ZERO = ("kl_to_base", "nll")
"""Measures that no trained model brings to exactly 0."""
REPS = 2000
NOW, THEN = "now: ", "then: "
CRASHED = ("failed", "out_of_memory", None)
"""Statuses that say nothing of the method: the check is to be repeated. The others are answers, without scores."""
ORDER = ("regression", "error", "inconclusive", "changed", "pass")
EXIT = {"pass": 0, "error": 1, "regression": 2, "inconclusive": 4, "changed": 5}
"""Exit codes of `lethe check`; 3 is usage."""


@dataclass(frozen=True)
class Policy:
    """What the evidence is held against."""

    baseline: dict[str, Any]
    """Accepted evidence."""
    floors: dict[str, dict[str, float]]
    """row -> metric -> noise floor in points, see harness/gate/baseline.py."""
    tolerance: float = TOLERANCE
    only: tuple[str, ...] = ()
    """Recipes to be checked; all of the baseline's where empty."""


@dataclass(frozen=True)
class Verdict:
    """All findings, and the worst outcome among them."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    against: str = "the baseline"
    """What the rows are held against, in words."""
    command: str = "lethe check"
    """What gave the verdict."""

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
    baseline = policy.baseline
    rows = [name for name, told in baseline["rows"].items() if told["role"] != "recipe" or _asked(name, policy)]
    findings = [lack for name in rows for lack in _lacks(name, evidence, baseline)]
    lacking = {(lack.row, lack.metric) for lack in findings}
    whole = [name for name in rows if (name, "run") not in lacking]
    for name in whole:
        findings += _exact_findings(name, evidence, baseline)
    if whole:
        findings += _score_findings(whole, evidence, policy)
    return Verdict(tuple(findings), tuple(_notes(evidence, policy)))


def _exact_findings(name: str, evidence: dict[str, Any], baseline: dict[str, Any]) -> list[Finding]:
    """A finding for each group of exact figures that differs; one that passes where none does."""
    found = []
    for difference in differences(name, baseline, evidence):
        outcome = "changed" if difference.only_bits and baseline["rows"][name]["role"] == "recipe" else "regression"
        found.append(Finding(name, f"exact/{difference.group}", outcome, difference.sentence))
    return found or [Finding(name, "exact", "pass", "what was asked, trained on and spent is the same")]


def _score_findings(rows: list[str], evidence: dict[str, Any], policy: Policy) -> list[Finding]:
    """A finding for each metric of these rows."""
    both = analysis_of(policy.baseline, evidence, rows)
    exact = same_bits(policy.baseline, evidence)
    weights = {name: quantity.weights for name, quantity in quantities_of(both.measures).items()}
    found = []
    for name in rows:
        recipe = policy.baseline["rows"][name]["role"] == "recipe"
        for metric, (quantity, sign) in metrics_of(both, same=not recipe).items():
            before = both.estimate(quantity, THEN + name)
            if not before.known:
                continue
            change, floor = _points(both, quantity, name), policy.floors.get(name, {}).get(metric, 0.0)
            rule = Rule(
                sign,
                _tolerance(policy, floor, recipe, exact),
                floor,
                had(both, quantity, weights[quantity], THEN + name) if sign == 1 else np.nan,
                exact,
                recipe and _vanished(both, metric, quantity, name),
            )
            found.append(judged(name, metric, change, rule))
    return found


def _tolerance(policy: Policy, floor: float, recipe: bool, exact: bool) -> float:
    """Points for the worse that pass: none of an untrained row where the bits must agree, no noise floor there either."""
    if exact:
        return policy.tolerance if recipe else 0.0
    return max(policy.tolerance, min(floor, MOST_FLOOR))


def _vanished(analysis: Analysis, metric: str, quantity: str, row: str) -> bool:
    """Whether a measure that no training brings to 0 is exactly 0 now and was not."""
    if metric.partition("/")[0] not in NEVER_ZERO:
        return False
    return analysis.estimate(quantity, NOW + row).value == 0 != analysis.estimate(quantity, THEN + row).value


def analysis_of(baseline: dict[str, Any], evidence: dict[str, Any], rows: list[str]) -> Analysis:
    """Both sides of these rows in one table, under the base as it was then, at the seeds that the baseline has."""
    base = base_of(baseline)
    then, now = table_of(baseline, THEN), table_of(_at_seeds_of(baseline, evidence), NOW)
    table = pd.concat([then, now], ignore_index=True)
    wanted = {side + row for side in (THEN, NOW) for row in (*rows, base)}
    measures = set(zip(then["task"], then["metric"], strict=True))
    known = np.array([pair in measures for pair in zip(table["task"], table["metric"], strict=True)])
    return analyse(table[known & table["row"].isin(wanted)].reset_index(drop=True), THEN + base, reps=REPS)


def _at_seeds_of(baseline: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    """The evidence less the rows and seeds that the baseline has not: what is left is paired seed by seed."""
    rows = {}
    for name, told in evidence["rows"].items():
        known = baseline["rows"].get(name, {"seeds": {}})["seeds"]
        rows[name] = told | {"seeds": {seed: run for seed, run in told["seeds"].items() if seed in known}}
    return evidence | {"rows": rows}


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


def _points(analysis: Analysis, quantity: str, row: str) -> Estimate:
    """Current minus baseline."""
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


def baseline_faults(policy: Policy) -> list[str]:
    """What makes a baseline unfit for a check, known before anything is measured."""
    baseline = policy.baseline
    faults = []
    if baseline["protocol"] != PROTOCOL:
        rule = f"this is protocol {PROTOCOL}: scores compare within one only"
        faults.append(f"the baseline is of protocol {baseline['protocol']}, {rule}; renew it with `lethe check --accept`")
    known = [name for name, row in baseline["rows"].items() if row["role"] == "recipe"]
    faults += [
        f"the baseline has no row '{name}'; it has {', '.join(known)}: choose among these, or renew it with --accept"
        for name in policy.only
        if name not in known
    ]
    return faults


def _refuse_incomparable(evidence: dict[str, Any], policy: Policy) -> None:
    faults = baseline_faults(policy)
    if evidence["protocol"] != PROTOCOL:
        rule = f"this is protocol {PROTOCOL}: scores compare within one only"
        faults.append(f"the evidence is of protocol {evidence['protocol']}, {rule}; measure it again with `lethe check`")
    raise_faults(faults)
    if not any(row["role"] == "base" for row in evidence["rows"].values()):
        raise PlanError("the evidence has no row of the base model; measure it again with `lethe check`")


def _asked(name: str, policy: Policy) -> bool:
    return not policy.only or name in policy.only


def _notes(evidence: dict[str, Any], policy: Policy) -> list[str]:
    """What else a reader wants to know before looking for a cause: what differs from the baseline, and what is not judged."""
    then, now = policy.baseline, evidence
    notes = [f"differs from the baseline: {found}" for found in differing_fields(then["question"], now["question"])]
    new = [name for name in now["rows"] if name not in then["rows"]]
    notes += [f"not in the baseline, not judged: {', '.join(new)}"] if new else []
    if not same_bits(then, now):
        notes.append(
            "measured on another machine, on a GPU or under another question: noise floors apply, "
            f"up to {MOST_FLOOR:g} points; more seeds narrow them"
        )
    if not general_families(then):
        notes.append("the baseline has no general task above chance: what is forgotten cannot be seen")
    return notes


def general_families(evidence: dict[str, Any]) -> list[str]:
    """General families that the base answers above chance, so that they can be forgotten."""
    measures = analyse(table_of(evidence, seeds=1), base_of(evidence), reps=2).measures
    return sorted(measures.loc[measures["kept"], "family"].unique())
