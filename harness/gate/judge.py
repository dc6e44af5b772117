"""The rule by which one metric of a check passes or not, and the sentence that says so. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.analysis import Analysis, Estimate
from harness.stats.measures import FEWEST

TOLERANCE = 2.0
"""Points. A guess: twice what "does not forget" allows (`MARGIN`), for a gate sees fewer items than a comparison."""
MOST_FLOOR = 5.0
"""Points that another machine is allowed at most, however much the seeds of the baseline differ."""
SURPRISE = 5.0
"""An improvement beyond so many tolerances is looked at before it is believed. A guess."""
HALF = 0.5
"""Share of what there was that is never within the tolerance."""
CHANGED = 1e-9
"""Points that count as a change where an unchanged tree reads exactly 0."""
UNKNOWN = Estimate()


@dataclass(frozen=True)
class Finding:
    """One metric of one row."""

    row: str
    metric: str
    outcome: str
    """pass | changed | inconclusive | error | regression"""
    sentence: str
    change: Estimate = UNKNOWN
    """Current minus baseline, in points as measured."""
    tolerance: float = np.nan
    sign: int = 0
    """1 where more is better, -1 where less is, 0 where any difference counts."""

    @property
    def reach(self) -> float:
        """The worst change that the interval does not exclude, in points for the worse."""
        down, up = -self.change.low, self.change.high
        return {1: down, -1: up}.get(self.sign, max(down, up))


@dataclass(frozen=True)
class Rule:
    """What a metric's change is held against."""

    sign: int
    """1 where more is better, -1 where less is, 0 where any difference counts."""
    tolerance: float
    """Points for the worse that pass."""
    floor: float = 0.0
    """The metric's noise floor, in points: an improvement within it is no surprise."""
    had: float = np.nan
    """Points that there were to lose; NaN where that has no meaning."""
    exact: bool = False
    """Whether an unchanged tree reads exactly 0 here."""
    vanished: bool = False
    """Whether the measure is exactly 0 now, was not, and never is for a trained model."""


def judge(change: Estimate, rule: Rule) -> str:
    """The outcome of one metric.

    A regression lies beyond the tolerance with its whole interval, or has lost more than half of what there was with its
    whole interval, whatever the tolerance; an estimate beyond the tolerance with a part of its interval is inconclusive. So is
    what is better than can be believed. Any other difference is `changed` where an unchanged tree reads exactly 0.
    """
    if not change.known:
        return "regression"
    moved = abs(change.value) > CHANGED
    if rule.exact and rule.sign == 0:
        return "regression" if moved else "pass"
    towards = rule.sign or (-1 if change.value > 0 else 1)
    value, ends = towards * change.value, sorted((towards * change.low, towards * change.high))
    lost_half = ends[1] < -HALF * rule.had if rule.had > 0 else False
    if value < -rule.tolerance or lost_half:
        sure = ends[1] < -rule.tolerance or lost_half
        return "regression" if sure and change.n >= FEWEST else "inconclusive"
    if rule.vanished or (rule.sign and ends[0] > max(SURPRISE * rule.tolerance, rule.floor)):
        return "inconclusive"
    return "changed" if rule.exact and moved else "pass"


def had(analysis: Analysis, quantity: str, weights: np.ndarray, row: str) -> float:
    """Points that a row had: the base's level above nothing (above chance, for a change) plus what the row gained.

    NaN for levels, and where less is better of a task: what there is to lose is not bounded there.
    """
    part, use = analysis.measures, weights > 0
    if quantity.startswith("level:") or not part["higher_better"].to_numpy(bool)[use].all():
        return np.nan
    base, chance = part["base"].to_numpy(float)[use], part["chance"].to_numpy(float)[use]
    level = (base - chance) / (1 - chance) if quantity.startswith("change") else base
    return float(100 * level @ weights[use] + analysis.estimate(quantity, row).value)


def judged(row: str, metric: str, change: Estimate, rule: Rule) -> Finding:
    """The finding of one metric, with its sentence."""
    outcome = judge(change, rule)
    towards = rule.sign or (-1 if change.value > 0 else 1)
    worse = towards * change.value < 0
    side = "differs" if rule.sign == 0 else "fell" if change.value < 0 else "rose"
    shown = f"{change.value:+z.2f} [{change.low:+z.2f}, {change.high:+z.2f}] points, tolerance {rule.tolerance:.2f}"
    if not change.known:
        sentence = "has no value now"
    elif outcome == "regression" and worse and rule.had > 0 and towards * change.value >= -rule.tolerance:
        sentence = f"{side} by more than half of the {rule.had:.1f} points that there were: {shown}"
    elif outcome == "regression":
        sentence = f"{side} beyond the tolerance: {shown}"
    elif outcome == "inconclusive" and rule.vanished:
        sentence = f"is exactly 0 now, which no trained model is: {shown}"
    elif outcome == "inconclusive" and not worse:
        sentence = f"better than can be believed unseen; accept it where it is meant: {shown}"
    elif outcome == "inconclusive":
        sentence = f"{side}, but {change.n} items do not tell whether beyond the tolerance: {shown}"
    elif outcome == "changed":
        sentence = f"changed, where an unchanged tree reads exactly 0: {shown}"
    else:
        sentence = f"within tolerance: {shown}"
    return Finding(row, metric, outcome, sentence, change, rule.tolerance, rule.sign)
