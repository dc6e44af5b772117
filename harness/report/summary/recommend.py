"""Which recipe the report chooses, how sure that is, and the sentences that say so; the rule itself is in rule.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.plan.values import Limits
from harness.report.summary import rule
from harness.report.summary.format import number, rough, share, si
from harness.report.summary.rows import TRACKS, Row
from harness.report.summary.summary import Summary
from harness.stats.analysis import Analysis, Estimate
from harness.stats.measures import FEWEST

NOBODY = "no recipe"
"""Name of the choice where no recipe gains and keeps the limits."""
QUANTITIES = ("gain", "change", "retention")
"""What the rule reads. Where no family stands above chance there is no retention, and a change shows nothing: it counts as not
measured."""
ONE_SEED = "each recipe has one seed, so recipes are not compared"
"""Why nothing is chosen among several recipes of one seed."""
LEAST_SHARE = 0.005
"""Choices of fewer draws than this are not named."""


@dataclass(frozen=True)
class Advice:
    """What the rule chooses among some recipes."""

    limits: Limits
    row: str | None
    """The recipe it takes; None: no recipe gains and keeps the limits, or recipes are not compared (`one_seed`)."""
    others: tuple[str, ...]
    """The other recipes that gain and keep the limits, the highest gain first; in the order of the table with one seed."""
    out: dict[str, tuple[str, ...]]
    """Recipes that do not, and why: `no gain for sure`, `loss`, `retention`, `time`, `memory`, `one seed`."""
    shares: dict[str, float]
    """Share of joint bootstrap draws in which the rule takes each recipe, `NOBODY` included; the most frequent first. Empty
    with one seed."""
    apart: tuple[str, ...]
    """Recipes from which the chosen one is separated in gain or in general change."""
    one_seed: bool = False
    """Whether there are several recipes and none has several seeds: then nothing is chosen."""

    @property
    def again(self) -> float:
        """Probability that the rule takes the same recipe again."""
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
    """The limits of the plan, else those of every report."""
    return rule.limits_in(summary.record)


def candidates(summary: Summary, track: str | None = None) -> list[Row]:
    """Finished recipes with a gain, of one track or of both."""
    rows = [row for row in summary.recipes if row.done and track in (None, row.track)]
    return [row for row in rows if summary.estimate("gain", row.name).known]


def advise(summary: Summary, limits: Limits | None = None, track: str | None = None) -> Advice:
    """The rule's choice among all finished recipes, or among those of one track."""
    limits, rows = limits or limits_of(summary), candidates(summary, track)
    if not rows or summary.analysis is None:
        return Advice(limits, None, (), {}, {}, ())
    seconds = np.array([row.cost("ledger", "seconds") for row in rows])
    costs = rule.Costs(seconds, np.array([_memory(row) for row in rows]))
    return advice_of(summary.analysis, [row.name for row in rows], costs, limits)


def advice_of(analysis: Analysis, names: list[str], costs: rule.Costs, limits: Limits) -> Advice:
    """Return the rule's choice among these rows of an analysis.

    Of several rows only those of several seeds are compared: one seed says nothing about another training.
    """
    point, margins = _point(analysis, names), _margins(analysis, names)
    out = _out(point, margins, costs, limits, names)
    if len(names) > 1 and not any(analysis.compares(name) for name in names):
        return Advice(limits, None, tuple(name for name in names if name not in out), out, {}, (), one_seed=True)

    # Rows of one seed beside others of several stay out.
    compared = [name for name in names if len(names) == 1 or analysis.compares(name)]
    if len(compared) < len(names):
        places = [names.index(name) for name in compared]
        costs = rule.Costs(costs.seconds[places], costs.memory[places])
        single = {name: (*out.get(name, ()), "one seed") for name in names if name not in compared}
        own = advice_of(analysis, compared, costs, limits)
        return replace(own, out=own.out | single)

    # The choice of the table, and the same choice in every draw.
    place = int(rule.chosen(point, margins, costs, limits)[0])
    again = rule.chosen(_draws(analysis, names), margins, costs, limits)
    counts = {name: float((again == number).mean()) for number, name in enumerate(names)}
    counts[NOBODY] = float((again < 0).mean())
    shares = {name: part for name, part in sorted(counts.items(), key=lambda pair: -pair[1]) if part > 0}

    # What the chosen one is separated from.
    fit = sorted((name for name in names if name not in out), key=lambda name: -point.gain[0, names.index(name)])
    row = names[place] if place >= 0 else None
    apart = tuple(name for name in names if row and name != row and separated(analysis, row, name))
    return Advice(limits, row, tuple(name for name in fit if name != row), out, shares, apart)


@dataclass(frozen=True)
class Choice:
    """A recipe that gains for sure, and what limits are held against; None where it was not measured."""

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
    """The recipes that gain for sure: what the page's fields choose from. The highest gain first, unless all have one seed."""
    gains = {row.name: summary.estimate("gain", row.name) for row in candidates(summary)}
    rows = [row for row in candidates(summary) if gains[row.name].value > _below(gains[row.name])]
    advice = summary.computed(advise)
    if not advice.one_seed:
        rows.sort(key=lambda row: -gains[row.name].value)
    found = []
    for row in rows:
        change, retention = summary.estimate("change", row.name), summary.estimate("retention", row.name)
        loss, kept = _below(change) - change.value, retention.value - _below(retention)
        seconds, memory = row.cost("ledger", "seconds"), _memory(row)
        taken = advice.shares.get(row.name, 0.0) if advice.shares else np.nan
        found.append(Choice(row, _measured(loss), _measured(kept), _measured(seconds), _measured(memory), taken))
    return found


def _measured(value: float) -> float | None:
    return value if np.isfinite(value) else None


def separated(analysis: Analysis, row: str, other: str) -> bool:
    """Whether two recipes differ in gain or in general change by the whole interval of the difference."""
    differences = (analysis.difference(name, row, other) for name in ("gain", "change"))
    return any(found.n >= FEWEST and (found.sure_low > 0 or found.sure_high < 0) for found in differences)


def _out(
    point: rule.Scores, margins: rule.Margins, costs: rule.Costs, limits: Limits, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    reasons = {"no gain for sure": ~rule.gaining(point, margins)} | rule.broken(point, margins, costs, limits)
    found = {name: tuple(why for why, fails in reasons.items() if fails[0, place]) for place, name in enumerate(names)}
    return {name: why for name, why in found.items() if why}


def _memory(row: Row) -> float:
    return row.cost("run", "happened", "peak_memory_bytes")


def _point(analysis: Analysis, names: Sequence[str]) -> rule.Scores:
    parts = {quantity: [analysis.estimate(quantity, name).value for name in names] for quantity in QUANTITIES}
    if not np.isfinite(parts["retention"]).any():
        parts["change"] = [np.nan] * len(names)
    return rule.Scores(*(np.array([parts[quantity]], float) for quantity in QUANTITIES))


def _draws(analysis: Analysis, names: list[str]) -> rule.Scores:
    measured = QUANTITIES if "retention" in analysis.point else ("gain",)
    missing = np.full((analysis.reps, len(names)), np.nan)
    known = {name: analysis.draws(name, names) for name in measured if name in analysis.point}
    return rule.Scores(*(known.get(name, missing) for name in QUANTITIES))


def _margins(analysis: Analysis, names: Sequence[str]) -> rule.Margins:
    below = [[_below(analysis.estimate(quantity, name)) for name in names] for quantity in QUANTITIES]
    apart = [
        [[_below(analysis.difference(quantity, row, other)) if row != other else 0.0 for other in names] for row in names]
        for quantity in ("gain", "change")
    ]
    return rule.Margins(*(np.array(part, float) for part in (*below, *apart)))


def _below(estimate: Estimate) -> float:
    """How far an interval reaches below its number, and what so few items cannot exclude; without end for a handful."""
    return estimate.value - estimate.sure_low if estimate.n >= FEWEST else np.inf


# --- in words ---------------------------------------------------------------------------------------------------------


def rule_sentence(limits: Limits) -> str:
    """The rule in one sentence, as the page states it."""
    return (
        f"The rule: of the recipes of both tracks, each of which {conditions(limits)}, the one that gains most; where gains are"
        " not separated, the one that keeps most; where that is not separated either, the one that took the fewest"
        " device-seconds."
    )


def conditions(limits: Limits) -> str:
    """`gains for sure, loses at most 5 points and takes at most 600 device-seconds`: a predicate of one recipe."""
    parts = ["gains for sure"]
    if limits.loss is not None:
        parts.append(f"loses at most {number(limits.loss)} points of general score at the worse end of its 95 % interval")
    if limits.retention is not None:
        parts.append(f"keeps at least {number(limits.retention)} % at the lower end of its 95 % interval")
    if limits.seconds is not None:
        parts.append(f"takes at most {number(limits.seconds)} device-seconds")
    if limits.memory is not None:
        parts.append(f"takes at most {si(limits.memory)}B of memory")
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def describe(summary: Summary, row: str) -> str:
    """`gains 18 points [16, 22] and changes the general score by −3 points [−4, −2] (keeps 97 % [96, 98])`."""
    gain, change, kept = (summary.estimate(name, row) for name in ("gain", "change", "retention"))
    parts = [f"gains {rough(gain, summary.gain_unit)}"]
    if change.known:
        aside = f"keeps {rough(kept, '%')}" if summary.in_per_cent else summary.why_points
        parts.append(f"changes the general score by {rough(change, 'points')} ({aside})")
    return " and ".join(parts)


def sureness(advice: Advice) -> str:
    """How often the rule would take the same recipe again, and what that is about."""
    if not advice.shares or not np.isfinite(advice.again):
        return ""
    own = advice.row or NOBODY
    others = [f"{name} in {share(part)}" for name, part in advice.shares.items() if name != own and part >= LEAST_SHARE]
    told = f"The rule takes {own} again in {share(advice.again)} of joint draws"
    return told + (f" ({', '.join(others)})." if others else ".")


def out_sentence(advice: Advice) -> str:
    """Which recipes the rule does not consider, and why."""
    told = [f"{name} ({', '.join(why)})" for name, why in advice.out.items()]
    return f"Out: {', '.join(told)}." if told else ""


def track_advice(summary: Summary, advice: Advice) -> str:
    """What the same rule takes among the recipes that need no general data, where the choice needs them."""
    tracks = {row.name: row.track for row in summary.recipes}
    if advice.row is None or tracks[advice.row] == "free" or not candidates(summary, "free"):
        return ""
    own = advise(summary, advice.limits, "free")
    if own.row is None:
        return f"It needs general data; {TRACKS['free']}, no recipe keeps the same limits."
    return f"It needs general data; {TRACKS['free']} the same rule takes {own.row}, which {describe(summary, own.row)}."
