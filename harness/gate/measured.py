"""The gate on models that were tuned elsewhere: each against its base, by the limits of REQUIRE. No torch.

A limit fails where the whole interval lies beyond it, and is kept where the whole interval lies within it, as in the choice of
a recipe; in between, and where fewer items were asked than can tell, it is inconclusive.
"""

from __future__ import annotations

import math
from dataclasses import replace

from harness.gate.judge import Finding, Rule, judge, judged
from harness.gate.verdict import Verdict
from harness.plan.values import Limits
from harness.report.summary.recommend import limits_of
from harness.report.summary.rows import Row
from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate
from harness.stats.quantity_name import Scope, change_of_family
from harness.vocabulary import Role, Status

WHOLE = 100.0
"""Per cent that a model keeps which forgets nothing."""


def judge_measured(summary: Summary) -> Verdict:
    """Return a finding for each model and limit, and the exit code of the worst."""
    limits = limits_of(summary)
    findings: list[Finding] = []
    for row in summary.measured:
        findings += _run_findings(row)
        findings += _findings(summary, row, limits) if row.done else []
    # The base itself, measured as if it were tuned: what it shows is the measuring.
    for row in summary.rows:
        if row.role == Role.CONTROL:
            findings += _control(summary, row)
    notes = [f"limits: {_said(limits)}"]
    if limits.seconds is not None or limits.memory is not None:
        notes.append("seconds and memory are not judged: what these models' training took is not known")
    return Verdict(tuple(findings), tuple(notes), against="the base", command="lethe measure --gate")


def _run_findings(row: Row) -> list[Finding]:
    """Return a finding for each model of a row that could not be scored."""
    findings = []
    # A run that crashed may be tried again; one that diverged is what it is.
    bad = [run["status"] for run in row.runs if run["status"] != Status.DONE]
    for status, reason in zip(bad, row.reasons, strict=True):
        crashed = status is None or not Status(status).is_answer
        findings.append(Finding(row.name, "run", "error" if crashed else "regression", reason))
    return findings


def _findings(summary: Summary, row: Row, limits: Limits) -> list[Finding]:
    """Return what each limit says of a row."""
    limited: dict[str, tuple[Estimate, float]] = {}
    if limits.loss is not None:
        limited["general"] = summary.estimate("change", row.name), limits.loss
    if limits.retention is not None:
        limited["retention"] = _lost(summary.estimate("retention", row.name)), WHOLE - limits.retention
    if limits.family is not None:
        for family in summary.parts(Scope.FAMILY):
            limited[f"general/{family}"] = summary.estimate(change_of_family(family), row.name), limits.family
    return [limit_finding(row.name, metric, change, tolerance) for metric, (change, tolerance) in limited.items()]


def limit_finding(row: str, metric: str, change: Estimate, tolerance: float) -> Finding:
    """Return whether a change keeps a limit, by its whole interval; `tolerance`: the largest loss that keeps it."""
    if not change.known:
        sentence = "cannot be measured: nothing that was asked is answered by the base above chance"
        return Finding(row, metric, "inconclusive", sentence)
    # no gain is too good here: the models are compared with another model, not with themselves
    rule = Rule(sign=1, tolerance=tolerance, floor=math.inf, whole=True)
    return judged(row, metric, change, rule)


def _lost(kept: Estimate) -> Estimate:
    """Return per cent kept as a change from all of it."""
    return replace(kept, value=kept.value - WHOLE, low=kept.low - WHOLE, high=kept.high - WHOLE)


def _control(summary: Summary, row: Row) -> list[Finding]:
    """Return whether the base, measured as the others are, reads exactly 0: else the measuring is at fault."""
    changes = {"general": summary.estimate("change", row.name), "domain": summary.estimate("gain", row.name)}
    # Any difference at all: the model is the same.
    rule = Rule(sign=0, tolerance=0.0, exact=True)
    moved = [name for name, change in changes.items() if change.known and judge(change, rule) != "pass"]
    sentence = f"differs from the base ({', '.join(moved)}): the measuring itself is at fault" if moved else "is the base"
    return [Finding(row.name, "exact", "error" if moved else "pass", sentence)]


def _said(limits: Limits) -> str:
    wordings = {"loss": "points of the general score", "retention": "% kept at least", "family": "points of any family"}
    parts = [f"{name} {getattr(limits, name):g} {what}" for name, what in wordings.items() if getattr(limits, name) is not None]
    return ", ".join(parts)
