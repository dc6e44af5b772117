"""The rule by which one metric of a check passes or not, and the sentence that says so. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.analysis import Analysis, Estimate
from harness.stats.quantity_name import Measured, QuantityName

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
        down = -self.change.low
        up = self.change.high
        if self.sign == 0:
            return max(down, up)
        return down if self.sign == 1 else up


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
    whole: bool = False
    """Whether a metric passes only if its whole interval, and what its items cannot exclude, lies within the tolerance."""
    vanished: bool = False
    """Whether the measure is exactly 0 now, was not, and never is for a trained model."""


def judge(change: Estimate, rule: Rule) -> str:
    """Return the outcome of one metric.

    It is a regression if the whole interval lies beyond the tolerance, or beyond half of what there was to lose, whatever the
    tolerance. It is inconclusive if the estimate lies beyond the tolerance and a part of its interval does not, or if it is
    better than can be believed; with `whole`, also if a part of the interval lies beyond the tolerance, or too few items were
    asked to tell. Any other difference is `changed` where an unchanged tree reads exactly 0.
    """
    # What had a value and has none is worse than any value.
    if not change.known:
        return "regression"
    moved = abs(change.value) > CHANGED
    if rule.exact and rule.sign == 0:
        return "regression" if moved else "pass"

    # From here on, more is better: where any difference counts, the change itself says which way is worse.
    towards = rule.sign or (-1 if change.value > 0 else 1)
    value = towards * change.value
    low, high = sorted((towards * change.low, towards * change.high))
    lost_half = rule.had > 0 and high < -HALF * rule.had

    # Worse: a handful of items decides nothing.
    if value < -rule.tolerance or lost_half:
        sure = high < -rule.tolerance or lost_half
        return "regression" if sure and change.enough else "inconclusive"

    # Better than can be believed without a look at it.
    if rule.vanished or (rule.sign and low > max(SURPRISE * rule.tolerance, rule.floor)):
        return "inconclusive"
    # Within the tolerance, for all that is seen: where a limit is claimed to be kept, so few items must be able to show it.
    if rule.whole and not _shown_within(change, rule):
        return "inconclusive"
    return "changed" if rule.exact and moved else "pass"


def _shown_within(change: Estimate, rule: Rule) -> bool:
    """Return whether enough items were asked to exclude a change for the worse beyond the tolerance; more is better."""
    return change.enough and change.sure_low >= -rule.tolerance


def had(analysis: Analysis, quantity: QuantityName, weights: np.ndarray, row: str) -> float:
    """Return the points that a row had: the base's level above nothing (above chance, for a change) plus what the row gained.

    NaN for levels, and for tasks where less is better: what there is to lose is not bounded there.
    """
    # Where less is better, or a level has no bound, half of what there was has no meaning.
    measures = analysis.measures
    use = weights > 0
    if quantity.measured is Measured.LEVEL or not measures["higher_better"].to_numpy(bool)[use].all():
        return np.nan
    base = measures["base"].to_numpy(float)[use]
    chance = measures["chance"].to_numpy(float)[use]
    level = (base - chance) / (1 - chance) if quantity.measured is Measured.CHANGE else base
    return float(100 * level @ weights[use] + analysis.estimate(quantity, row).value)


def judged(row: str, metric: str, change: Estimate, rule: Rule) -> Finding:
    """Return the finding of one metric, with its sentence."""
    outcome = judge(change, rule)
    towards = rule.sign or (-1 if change.value > 0 else 1)
    worse = towards * change.value < 0
    side = "fell" if change.value < 0 else "rose"
    if rule.sign == 0:
        side = "differs"
    # `z`: a rounded −0.00 is written as 0.00.
    shown = f"{change.value:+z.2f} [{change.low:+z.2f}, {change.high:+z.2f}] points, tolerance {rule.tolerance:.2f}"
    # The sentence says why: the same outcome has several reasons, and the special ones are asked first.
    if not change.known:
        sentence = "has no value now"
    elif outcome == "regression" and worse and rule.had > 0 and towards * change.value >= -rule.tolerance:
        sentence = f"{side} by more than half of the {rule.had:.1f} points that there were: {shown}"
    elif outcome == "regression":
        sentence = f"{side} beyond the tolerance: {shown}"
    elif outcome == "inconclusive" and rule.vanished:
        sentence = f"is exactly 0 now, which no trained model is: {shown}"
    elif outcome == "inconclusive" and rule.whole and towards * change.value >= -rule.tolerance:
        sentence = f"{change.n} items do not exclude a loss beyond the tolerance: {shown}"
    elif outcome == "inconclusive" and not worse:
        sentence = f"better than can be believed unseen; accept it where it is meant: {shown}"
    elif outcome == "inconclusive":
        sentence = f"{side}, but {change.n} items do not tell whether beyond the tolerance: {shown}"
    elif outcome == "changed":
        sentence = f"changed, where an unchanged tree reads exactly 0: {shown}"
    else:
        sentence = f"within tolerance: {shown}"
    return Finding(row, metric, outcome, sentence, change, rule.tolerance, rule.sign)
