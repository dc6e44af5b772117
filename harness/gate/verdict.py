"""The gate: evidence and policy in, verdict out. Pure functions without torch; harness/commands/check.py runs and prints.

Every metric is compared with the baseline's, item by item, by the bootstrap of harness/stats/analysis.py. All are in points:
scores times 100, losses and drift in hundredths of a nat. Recipes fail by being worse; the base and the controls by differing
at all. On the machine of the baseline an unchanged tree reads exactly 0 everywhere, so every other number there is at least
"changed".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.errors import PlanError, raise_faults
from harness.gate.evidence import SECONDARY, table_of
from harness.gate.exact import differences, same_bits
from harness.gate.judge import MOST_FLOOR, TOLERANCE, Finding, Rule, had, judged
from harness.gate.record import Evidence, RowEvidence, base_of, items_of
from harness.stats.analysis import Analysis, Estimate, analyse
from harness.stats.measures import measures_of, quantities_of
from harness.stats.quantity_name import CHANGE, GAIN, Measured, QuantityName, Scope
from harness.store.question import question_in
from harness.store.schema import PROTOCOL
from harness.vocabulary import Role, Status

NEVER_ZERO = ("kl_to_base", "nll")
"""Measures that no trained model brings to exactly 0."""
REPS = 2000
NOW = "now: "
THEN = "then: "
ORDER = ("regression", "error", "inconclusive", "changed", "pass")
EXIT = {"pass": 0, "error": 1, "regression": 2, "inconclusive": 4, "changed": 5}
"""Exit codes of `lethe check`; 3 is usage."""


@dataclass(frozen=True)
class Policy:
    """What the evidence is held against."""

    baseline: Evidence
    """Accepted evidence."""
    floors: dict[str, dict[str, float]]
    """row -> metric -> noise floor in points, see harness/gate/baseline.py."""
    tolerance: float = TOLERANCE
    only: tuple[str, ...] = ()
    """The recipes that are checked; all of the baseline's where empty."""


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


def decide(evidence: Evidence, policy: Policy) -> Verdict:
    """Judge each row and metric of the baseline; what the evidence lacks of them fails.

    Raises PlanError where the two cannot be compared at all.
    """
    _refuse_incomparable(evidence, policy)
    baseline = policy.baseline
    rows = []
    for name, row in baseline["rows"].items():
        if row["role"] != Role.RECIPE or _selected(name, policy):
            rows.append(name)

    # What is missing is found first: only rows that ran to their end have anything to compare.
    findings = []
    for name in rows:
        findings += _lacks(name, evidence, baseline)
    lacking = {(lack.row, lack.metric) for lack in findings}
    whole = [name for name in rows if (name, "run") not in lacking]
    for name in whole:
        findings += _exact_findings(name, evidence, baseline)
    if whole:
        findings += _score_findings(whole, evidence, policy)
    return Verdict(tuple(findings), tuple(_notes(evidence, policy)))


def _exact_findings(name: str, evidence: Evidence, baseline: Evidence) -> list[Finding]:
    """Return a finding for each group of exact figures that differs; one that passes where none does."""
    recipe = baseline["rows"][name]["role"] == Role.RECIPE
    findings = []
    for difference in differences(name, baseline, evidence):
        outcome = "changed" if difference.only_bits and recipe else "regression"
        findings.append(Finding(name, f"exact/{difference.group}", outcome, difference.sentence))
    return findings or [Finding(name, "exact", "pass", "what was asked, trained on and spent is the same")]


def _score_findings(rows: list[str], evidence: Evidence, policy: Policy) -> list[Finding]:
    """Return a finding for each metric of these rows."""
    both = analysis_of(policy.baseline, evidence, rows)
    exact = same_bits(policy.baseline, evidence)
    weights = {name: quantity.weights for name, quantity in quantities_of(both.measures).items()}
    findings = []
    for name in rows:
        recipe = policy.baseline["rows"][name]["role"] == Role.RECIPE
        # An untrained row must not differ at all; of a recipe more is better, or less.
        for metric, (quantity, sign) in metrics_of(both, same=not recipe).items():
            before = both.estimate(quantity, THEN + name)
            # What the baseline has no number for cannot have become worse.
            if not before.known:
                continue
            change = _points(both, quantity, name)
            floor = policy.floors.get(name, {}).get(metric, 0.0)
            rule = Rule(
                sign,
                _tolerance(policy, floor, recipe, exact),
                floor,
                had(both, quantity, weights[quantity], THEN + name) if sign == 1 else np.nan,
                exact,
                recipe and _vanished(both, metric, quantity, name),
            )
            findings.append(judged(name, metric, change, rule))
    return findings


def _tolerance(policy: Policy, floor: float, recipe: bool, exact: bool) -> float:
    """Return how many points for the worse pass; 0 for an untrained row, and no noise floor, where the bits must agree."""
    if exact:
        return policy.tolerance if recipe else 0.0
    return max(policy.tolerance, min(floor, MOST_FLOOR))


def _vanished(analysis: Analysis, metric: str, quantity: str, row: str) -> bool:
    """Return whether a measure that no training brings to 0 is exactly 0 now and was not."""
    if metric.partition("/")[0] not in NEVER_ZERO:
        return False
    now = analysis.estimate(quantity, NOW + row).value
    then = analysis.estimate(quantity, THEN + row).value
    return now == 0 and then != 0


def analysis_of(baseline: Evidence, evidence: Evidence, rows: list[str]) -> Analysis:
    """Analyse both sides of these rows in one table, under the base as it was then, at the seeds that the baseline has."""
    base = base_of(baseline)
    then = table_of(baseline, THEN)
    now = table_of(_at_seeds_of(baseline, evidence), NOW)
    table = pd.concat([then, now], ignore_index=True)

    # What the baseline did not measure is not judged: it has nothing to be compared with.
    wanted = {THEN + row for row in (*rows, base)} | {NOW + row for row in (*rows, base)}
    measures = set(zip(then["task"], then["metric"], strict=True))
    measured = np.array([pair in measures for pair in zip(table["task"], table["metric"], strict=True)])
    chosen = table[measured & table["row"].isin(wanted)]
    return analyse(chosen.reset_index(drop=True), THEN + base, reps=REPS)


def _at_seeds_of(baseline: Evidence, evidence: Evidence) -> Evidence:
    """Return the evidence minus the rows and seeds that the baseline lacks: what is left is paired seed by seed."""
    rows: dict[str, RowEvidence] = {}
    for name, row in evidence["rows"].items():
        paired = baseline["rows"][name]["seeds"] if name in baseline["rows"] else {}
        rows[name] = {**row, "seeds": {seed: run for seed, run in row["seeds"].items() if seed in paired}}
    return {**evidence, "rows": rows}


def metrics_of(analysis: Analysis, same: bool = False) -> dict[str, tuple[QuantityName, int]]:
    """Return metric -> (quantity of the statistics, sign of what is better; 0 for each where `same` is wanted)."""
    # The two headline numbers, then their parts by family and task, then levels where less is better.
    metrics = {"general": (CHANGE, 1), "domain": (GAIN, 1)}
    for quantity in sorted(analysis.names):
        if quantity.measured is Measured.CHANGE and quantity.scope is Scope.FAMILY:
            metrics[f"general/{quantity.part}"] = (quantity, 1)
        elif quantity.scope is Scope.TASK:
            metrics[f"domain/{quantity.part}"] = (quantity, 1)
        elif quantity.measured is Measured.LEVEL and quantity.part in SECONDARY:
            metrics[f"{quantity.part}/{quantity.group}"] = (quantity, -1)
    # A quantity that these tasks do not give is no metric here.
    judged_metrics = {}
    for name, (quantity, sign) in metrics.items():
        if quantity in analysis.point:
            judged_metrics[name] = (quantity, 0 if same else sign)
    return judged_metrics


def _points(analysis: Analysis, quantity: QuantityName, row: str) -> Estimate:
    """Return current minus baseline, in points."""
    change = analysis.difference(quantity, NOW + row, THEN + row)
    if quantity.measured is not Measured.LEVEL:
        return change
    return Estimate(100 * change.value, 100 * change.low, 100 * change.high, 100 * change.se, change.n, change.p)


def _lacks(name: str, evidence: Evidence, baseline: Evidence) -> list[Finding]:
    """Return a finding for everything of a row that the evidence lacks: the run, whole measures, items."""
    then = baseline["rows"][name]
    now = evidence["rows"].get(name)
    if now is None:
        return [Finding(name, "run", "regression", "the row is missing from the evidence")]
    findings = []
    for seed, run in sorted(now["seeds"].items()):
        if run["status"] != Status.DONE:
            # A run that crashed says nothing of the method: the check is to be repeated.
            crashed = run["status"] is None or not Status(run["status"]).is_answer
            outcome = "error" if crashed else "regression"
            sentence = f"seed {seed} {run['status'] or 'never ended'}: {run['reason']}"
            findings.append(Finding(name, "run", outcome, sentence))
    absent = sorted(set(then["seeds"]) - set(now["seeds"]), key=int)
    if absent:
        findings.append(Finding(name, "run", "regression", f"seed {', '.join(absent)} is missing from the evidence"))
    return findings or _missing_scores(name, evidence, baseline)


def _missing_scores(name: str, evidence: Evidence, baseline: Evidence) -> list[Finding]:
    """Return a finding for each measure with items that had a score then and have none now, or one that is no finite number.

    Some texts are too short for some measures: such a measure fails only if it has no score at all.
    """
    findings = []
    for seed, run in baseline["rows"][name]["seeds"].items():
        now = evidence["rows"][name]["seeds"][seed]["scores"]
        for measure, scores in run["scores"].items():
            description = baseline["measures"][measure]
            items = items_of(evidence, measure)
            current = dict(zip(items, now.get(measure, []), strict=False))
            wanted = [item for item, score in zip(description["items"], scores, strict=True) if score is not None]
            lost = [item for item in wanted if (score := current.get(item)) is None or not math.isfinite(score)]
            # Repetition of one word is undefined, which is no loss as long as others have scores.
            scored = any(score is not None for score in current.values())
            undefined = description["channel"] == "degeneration" and scored
            if lost and not undefined:
                text = f"{len(lost):,} of {len(wanted):,} items have no score now (seed {seed}), {lost[0]!r} among them"
                findings.append(Finding(name, measure, "regression", text))
    return findings


def baseline_faults(policy: Policy) -> list[str]:
    """Return what makes a baseline unfit for a check, before anything is measured."""
    baseline = policy.baseline
    faults = []
    if baseline["protocol"] != PROTOCOL:
        rule = f"this is protocol {PROTOCOL}: scores compare within one only"
        faults.append(f"the baseline is of protocol {baseline['protocol']}, {rule}; renew it with `lethe check --accept`")
    recipes = [name for name, row in baseline["rows"].items() if row["role"] == Role.RECIPE]
    cure = "choose among these, or renew it with --accept"
    for name in policy.only:
        if name not in recipes:
            faults.append(f"the baseline has no row '{name}'; it has {', '.join(recipes)}: {cure}")
    return faults


def _refuse_incomparable(evidence: Evidence, policy: Policy) -> None:
    faults = baseline_faults(policy)
    if evidence["protocol"] != PROTOCOL:
        rule = f"this is protocol {PROTOCOL}: scores compare within one only"
        faults.append(f"the evidence is of protocol {evidence['protocol']}, {rule}; measure it again with `lethe check`")
    raise_faults(faults)
    if not any(row["role"] == Role.BASE for row in evidence["rows"].values()):
        raise PlanError("the evidence has no row of the base model; measure it again with `lethe check`")


def _selected(name: str, policy: Policy) -> bool:
    """Return whether a recipe is to be checked."""
    return not policy.only or name in policy.only


def _notes(evidence: Evidence, policy: Policy) -> list[str]:
    """Return notes for whoever looks for a cause: what differs from the baseline, and what was not judged."""
    baseline = policy.baseline
    notes = []
    for difference in question_in(baseline).differences(question_in(evidence)):
        notes.append(f"differs from the baseline: {difference}")
    new = [name for name in evidence["rows"] if name not in baseline["rows"]]
    if new:
        notes.append(f"not in the baseline, not judged: {', '.join(new)}")
    if not same_bits(baseline, evidence):
        notes.append(
            "measured on another machine, on a GPU or under another question: noise floors apply, "
            f"up to {MOST_FLOOR:g} points; more seeds narrow them"
        )
    if not general_families(baseline):
        notes.append("the baseline has no general task above chance: what is forgotten cannot be seen")
    return notes


def general_families(evidence: Evidence) -> list[str]:
    """Return the general families that the base answers above chance, so that they can be forgotten."""
    measures = measures_of(table_of(evidence, seeds=1), base_of(evidence), None)
    return sorted(measures.loc[measures["kept"], "family"].unique())
