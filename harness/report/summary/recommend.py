"""The recipe that the report chooses, how sure that is, and the sentences that say so. The rule itself is in rule.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.plan.values import Limits
from harness.report.summary import rule
from harness.report.summary.rows import Row
from harness.report.summary.rule import conditions
from harness.report.summary.summary import Summary
from harness.stats.analysis import Analysis, Estimate
from harness.stats.quantity_name import Measured, Scope
from harness.vocabulary import Track

NOBODY = "no recipe"
"""Name of the choice where no recipe gains and keeps the limits."""
QUANTITIES = ("gain", "change", "retention")
"""The quantities that the rule reads.

Where no family stands above chance there is no retention, and a change shows nothing: it counts as not measured.
"""
ONE_SEED = "each recipe has one seed, so recipes are not compared"
"""Why nothing is chosen among several recipes of one seed."""
LEAST_SHARE = 0.005
"""Choices that take a smaller share of the draws than this are not named: a guess."""


@dataclass(frozen=True)
class Advice:
    """The rule's choice among some recipes."""

    limits: Limits
    row: str | None
    """The recipe it takes; None: no recipe gains and keeps the limits, or recipes are not compared (`one_seed`)."""
    others: tuple[str, ...]
    """The other recipes that gain and keep the limits, the highest gain first; in the order of the table with one seed."""
    out: dict[str, tuple[str, ...]]
    """Recipes that do not, and why: `no gain for sure`, `loss`, `retention`, `time`, `memory`, `one seed`."""
    shares: dict[str, float]
    """Share of joint bootstrap draws in which the rule takes each recipe, `NOBODY` included; the most frequent first.

    Empty with one seed.
    """
    apart: tuple[str, ...]
    """Recipes from which the chosen one is separated in gain or in general change."""
    one_seed: bool = False
    """Whether there are several recipes and none has several seeds: then nothing is chosen."""

    @property
    def again(self) -> float:
        """The probability that the rule takes the same recipe again."""
        return self.shares.get(self.row or NOBODY, np.nan)

    @property
    def refusal(self) -> str | None:
        """Why this choice cannot be acted upon without a person; None where it can."""
        if self.one_seed:
            return ONE_SEED
        if self.row is None:
            return f"no recipe {conditions(self.limits)}"
        several = len(self.others) + len(self.out) > 0
        if several and not self.apart:
            return f"{self.row} is separated from no other recipe, in gain or in general score"
        return None


def limits_of(summary: Summary) -> Limits:
    """Return the limits of the plan, else those of every report."""
    return rule.limits_in(summary.record)


def candidates(summary: Summary, track: Track | None = None) -> list[Row]:
    """Return the finished recipes with a gain, of one track or of both."""
    rows = [row for row in summary.recipes if row.done and track in (None, row.track)]
    return [row for row in rows if summary.estimate("gain", row.name).known]


def advise(summary: Summary, limits: Limits | None = None, track: Track | None = None) -> Advice:
    """Return the rule's choice among all finished recipes, or among those of one track."""
    limits = limits or limits_of(summary)
    rows = candidates(summary, track)
    if not rows or summary.analysis is None:
        return Advice(limits, None, (), {}, {}, ())
    seconds = np.array([row.cost("ledger", "seconds") for row in rows])
    memory = np.array([_memory(row) for row in rows])
    costs = rule.Costs(seconds, memory)
    return advice_of(summary.analysis, [row.name for row in rows], costs, limits)


def advice_of(analysis: Analysis, names: list[str], costs: rule.Costs, limits: Limits) -> Advice:
    """Return the rule's choice among these rows of an analysis.

    Of several rows only those of several seeds are compared: one seed says nothing about another training.
    """
    # The limit on families is held against the worst family, which is computed only if there is such a limit.
    point = _point(analysis, names)
    margins = _margins(analysis, names)
    if limits.family is not None:
        margins = replace(margins, family=np.array([_worst_end(analysis, name) for name in names]))
    out = _out(point, margins, costs, limits, names)
    if len(names) > 1 and not any(analysis.compares(name) for name in names):
        fit = tuple(name for name in names if name not in out)
        return Advice(limits, None, fit, out, {}, (), one_seed=True)

    # Rows of one seed beside others of several stay out.
    single = [name for name in names if len(names) > 1 and not analysis.compares(name)]
    if single:
        compared = [name for name in names if name not in single]
        places = [names.index(name) for name in compared]
        costs = rule.Costs(costs.seconds[places], costs.memory[places])
        reasons = {name: (*out.get(name, ()), "one seed") for name in single}
        alone = advice_of(analysis, compared, costs, limits)
        return replace(alone, out=alone.out | reasons)

    return _choice(analysis, names, point, margins, costs, limits, out)


def _choice(
    analysis: Analysis,
    names: list[str],
    point: rule.Scores,
    margins: rule.Margins,
    costs: rule.Costs,
    limits: Limits,
    out: dict[str, tuple[str, ...]],
) -> Advice:
    """Return the choice of the table, how often draws choose the same, and what the chosen row is separated from."""
    # A negative index is no choice.
    index = int(rule.chosen(point, margins, costs, limits)[0])
    row = names[index] if index >= 0 else None
    again = rule.chosen(_draws(analysis, names), margins, costs, limits)

    # What the chosen one is separated from.
    fit = [name for name in names if name not in out]
    fit.sort(key=lambda name: -point.gain[0, names.index(name)])
    apart = [name for name in names if row and name != row and separated(analysis, row, name)]
    return Advice(
        limits=limits,
        row=row,
        others=tuple(name for name in fit if name != row),
        out=out,
        shares=_shares(again, names),
        apart=tuple(apart),
    )


def _shares(again: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return the share of draws of each choice that occurs, the most frequent first."""
    # Draws in which no recipe keeps the limits count too, so that shares sum to 1.
    shares = {name: float((again == index).mean()) for index, name in enumerate(names)}
    shares[NOBODY] = float((again < 0).mean())
    ordered = sorted(shares, key=lambda name: -shares[name])
    return {name: shares[name] for name in ordered if shares[name] > 0}


@dataclass(frozen=True)
class Choice:
    """A recipe that gains for sure, with what limits are held against; None where that was not measured."""

    row: Row
    loss: float | None
    """Points of general score lost at the worse end of the interval; below 0 where it rose."""
    kept: float | None
    """Per cent kept at the lower end."""
    seconds: float | None
    memory: float | None
    taken: float
    """Share of joint draws in which the rule takes it; NaN with one seed."""


def choices(summary: Summary) -> list[Choice]:
    """Return the recipes that gain for sure: what the page's fields choose from.

    The highest gain stands first, unless all have one seed.
    """
    # Surely above 0: the whole interval, not the value alone.
    gains = {row.name: summary.estimate("gain", row.name) for row in candidates(summary)}
    rows = [row for row in candidates(summary) if gains[row.name].value > _below(gains[row.name])]
    advice = summary.computed(advise)
    if not advice.one_seed:
        rows.sort(key=lambda row: -gains[row.name].value)
    options = []
    for row in rows:
        change, retention = summary.estimate("change", row.name), summary.estimate("retention", row.name)
        loss, kept = _below(change) - change.value, retention.value - _below(retention)
        seconds, memory = row.cost("ledger", "seconds"), _memory(row)
        taken = advice.shares.get(row.name, 0.0) if advice.shares else np.nan
        options.append(Choice(row, _measured(loss), _measured(kept), _measured(seconds), _measured(memory), taken))
    return options


def _measured(value: float) -> float | None:
    return value if np.isfinite(value) else None


def separated(analysis: Analysis, row: str, other: str) -> bool:
    """Return whether two recipes differ in gain or in general change by the whole interval of the difference."""
    differences = (analysis.difference(name, row, other) for name in ("gain", "change"))
    return any(difference.enough and (difference.sure_low > 0 or difference.sure_high < 0) for difference in differences)


def _out(
    point: rule.Scores, margins: rule.Margins, costs: rule.Costs, limits: Limits, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the recipes that the rule does not consider, each with every reason."""
    failures = {"no gain for sure": ~rule.gaining(point, margins)} | rule.broken(point, margins, costs, limits)
    out = {}
    for index, name in enumerate(names):
        reasons = tuple(reason for reason, fails in failures.items() if fails[0, index])
        if reasons:
            out[name] = reasons
    return out


def _memory(row: Row) -> float:
    return row.cost("run", "happened", "peak_memory_bytes")


def _point(analysis: Analysis, names: Sequence[str]) -> rule.Scores:
    """Return what the table says of each recipe, as a single draw: arrays (1, recipes)."""
    values = {}
    for quantity in QUANTITIES:
        values[quantity] = np.array([[analysis.estimate(quantity, name).value for name in names]], float)
    if not np.isfinite(values["retention"]).any():
        values["change"] = np.full((1, len(names)), np.nan)
    return rule.Scores(*(values[quantity] for quantity in QUANTITIES))


def _draws(analysis: Analysis, names: list[str]) -> rule.Scores:
    """Return the joint bootstrap draws of each quantity: arrays (draws, recipes)."""
    measured = QUANTITIES if "retention" in analysis.point else ("gain",)
    missing = np.full((analysis.reps, len(names)), np.nan)
    draws = {}
    for quantity in QUANTITIES:
        # What was not measured is unknown in every draw, and breaks the limits that ask for it.
        has_draws = quantity in measured and quantity in analysis.point
        draws[quantity] = analysis.draws(quantity, names) if has_draws else missing
    return rule.Scores(*(draws[quantity] for quantity in QUANTITIES))


def _margins(analysis: Analysis, names: Sequence[str]) -> rule.Margins:
    """Return how far each interval reaches below its value: of each recipe, and of each difference of two."""
    below = []
    for quantity in QUANTITIES:
        below.append(np.array([_below(analysis.estimate(quantity, name)) for name in names], float))
    apart = [_margins_between(analysis, quantity, names) for quantity in ("gain", "change")]
    return rule.Margins(*below, *apart)


def _margins_between(analysis: Analysis, quantity: str, names: Sequence[str]) -> np.ndarray:
    """Return the margin of every row minus every other: an array (recipes, recipes)."""
    margins = np.zeros((len(names), len(names)))
    for line, row in enumerate(names):
        for column, other in enumerate(names):
            if row != other:
                margins[line, column] = _below(analysis.difference(quantity, row, other))
    return margins


def _worst_end(analysis: Analysis, row: str) -> float:
    """Return the lowest lower end of any family's change; NaN where none has enough items to tell."""
    ends = []
    for name in analysis.names:
        change = analysis.estimate(name, row)
        if name.measured is Measured.CHANGE and name.scope is Scope.FAMILY and change.known:
            ends.append(change.value - _below(change))
    return min(ends, default=np.nan)


def _below(estimate: Estimate) -> float:
    """Return how far an interval reaches below its number, and what so few items cannot exclude; without end for a handful."""
    return estimate.value - estimate.sure_low if estimate.enough else np.inf
