"""One sentence a decision can be based on: a clear winner, no difference shown, or too little data and how much is needed.

What is too little: where a difference of `RELEVANT` points between the choice and another recipe that keeps the limits could go
unseen (80 % power at 5 %), or where a recipe's number keeps the limits and its interval does not. How many items are needed is
reckoned from the present interval, all else staying as it is; the part of it that seeds bring no number of items narrows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.report.summary.format import number, points, rough
from harness.report.summary.recommend import Advice, conditions
from harness.report.summary.summary import Summary
from harness.report.verdict.advice_text import describe
from harness.stats.estimate import DETECTABLE, Estimate

RELEVANT = 5.0
"""Points by which recipes must differ for it to matter. A guess, like the five points of loss that most users would bear."""
HALF = 1.96 / DETECTABLE
"""Half width of an interval over the difference that it detects with 80 % power."""
GROUPS = {"gain": "domain", "change": "general"}
"""What is measured -> the items it is measured on."""
NOUNS = {"gain": "gain", "change": "general score"}


class Kind(StrEnum):
    """What the data allow to say."""

    CLEAR = "clear winner"
    EQUAL = "no difference shown"
    TOO_LITTLE = "too little data"
    ONLY = "the only recipe"
    NONE = "no recipe keeps the limits"
    ONE_SEED = "one seed"


@dataclass(frozen=True)
class Decision:
    """The sentence, and of which kind it is."""

    kind: Kind
    sentence: str


def decide(summary: Summary, advice: Advice) -> Decision:
    """Return what may be decided on the rule's choice."""
    if advice.one_seed:
        return _one_seed(advice)
    if advice.row is None:
        return _none(summary, advice)
    description = f"{advice.row}: it {describe(summary, advice.row)}"

    # Recipes of one seed are not compared with any other.
    judged = [name for name in (*advice.others, *advice.out) if "one seed" not in advice.out.get(name, ())]
    # what the choice must be told from: recipes that keep the limits, or all if it is separated from no other
    rivals = advice.others if advice.apart or not judged else judged
    equals = [name for name in rivals if name not in advice.apart]
    if equals:
        return _equals(summary, advice.row, equals, description)
    if not judged:
        return Decision(Kind.ONLY, f"The only recipe that is judged, {description}.")
    if advice.others:
        description += ". It is separated from every other recipe that keeps the limits"
    else:
        description += f". No other recipe {conditions(advice.limits)}"
    return Decision(Kind.CLEAR, f"Take {description}.")


def _one_seed(advice: Advice) -> Decision:
    """Say which recipes keep the limits, each by itself; in the order of the table."""
    who = f"each of {_list(advice.others)}" if len(advice.others) > 1 else advice.others[0] if advice.others else "none"
    fit = f"Over items, of these trained models {who} {conditions(advice.limits)}."
    return Decision(Kind.ONE_SEED, f"One seed: recipes are not compared, and none is chosen. {fit}")


def _none(summary: Summary, advice: Advice) -> Decision:
    """Say that no recipe keeps the limits, or that the data cannot tell whether one does."""
    sentence = f"No recipe {conditions(advice.limits)}"
    if all("no gain for sure" in why for why in advice.out.values()):
        sentence = "No recipe gained measurably in the domain, so there is no price to compare"
    near = _nearest(summary, advice)

    # Nothing is close: no amount of data would change it.
    if near is None:
        return Decision(Kind.NONE, f"{sentence}.")
    row, quantity, estimate, half = near
    description = f"{sentence}; whether {row} does is open: it {describe(summary, row)}"
    return Decision(
        Kind.TOO_LITTLE, f"Too little data. {description}. {_needed(estimate, quantity, half, 'for its interval to decide')}"
    )


def _nearest(summary: Summary, advice: Advice) -> tuple[str, str, Estimate, float] | None:
    """Return the recipe with the largest gain whose values keep the limits and whose interval does not.

    With the interval that is too wide and the half width it would need.
    """
    candidates: list[tuple[float, tuple[str, str, Estimate, float]]] = []
    for row, why in advice.out.items():
        gain, change = summary.estimate("gain", row), summary.estimate("change", row)
        room = {"no gain for sure": ("gain", gain, gain.value)}
        if advice.limits.loss is not None:
            room["loss"] = ("change", change, change.value + advice.limits.loss)
        if advice.limits.retention is not None:
            kept = summary.estimate("retention", row)
            room["retention"] = ("change", kept, kept.value - advice.limits.retention)
        # open if every reason is one that narrower intervals could remove
        reasons = [room.get(reason) for reason in why]
        if all(reason is not None and reason[2] > 0 for reason in reasons):
            widest = max((reason for reason in reasons if reason), key=lambda reason: reason[1].items_for(reason[2]))
            candidates.append((gain.value, (row, *widest)))
    return max(candidates, key=lambda pair: pair[0])[1] if candidates else None


def _equals(summary: Summary, row: str, equals: Sequence[str], description: str) -> Decision:
    """Say that the choice is not told from others, and whether that is the recipes or the data."""
    widest: tuple[str, Estimate] | None = None
    for quantity in GROUPS:
        for name in equals:
            difference = summary.difference(quantity, row, name)
            if math.isfinite(difference.detectable) and (widest is None or difference.detectable > widest[1].detectable):
                widest = (quantity, difference)

    # Without an interval of any difference nothing says how much data is needed.
    names = _list([row, *equals])
    if widest is None:
        return Decision(Kind.TOO_LITTLE, f"Too little data to tell {names} apart. Of these the rule names {description}.")
    quantity, difference = widest
    size = f"{points(difference.detectable)} points"
    if difference.detectable <= RELEVANT:
        seen = f"A difference of {size} or more would have been seen (80 % power)"
        sentence = f"No difference is shown between {names}: any of them may be taken. {seen}. The rule names {description}."
        return Decision(Kind.EQUAL, sentence)
    open_ = f"between them a difference in {NOUNS[quantity]} below {size} could go unseen"
    needed = _needed(difference, quantity, HALF * RELEVANT, f"to see {number(RELEVANT)} points")
    return Decision(Kind.TOO_LITTLE, f"Too little data to tell {names} apart: {open_}. {needed} The rule names {description}.")


def _needed(estimate: Estimate, quantity: str, half: float, purpose: str) -> str:
    """Say how many items are needed for an interval of this half width."""
    # Two figures are enough of a forecast.
    items = estimate.items_for(half)
    if math.isfinite(items):
        sentence = f"About {float(f'{items:.2g}'):,.0f} {GROUPS[quantity]} items would be needed {purpose}, not {estimate.n:,}"
        return f"{sentence}; with more SEEDS fewer would do." if estimate.seeds_half > half / 2 else f"{sentence}."
    return f"More items would not do {purpose}: the seeds differ too much, so more SEEDS are needed."


def forgetting(row: str, change: Estimate, margin: float) -> str:
    """Return whether a recipe forgets; if that is open, what would decide it."""
    # A loss that the interval excludes: the strongest of the three sentences.
    if change.sure_low > -margin:
        return f"{row} does not forget: less than {margin:g} point of the general score is lost at worst."
    if change.sure_high < 0:
        return f"{row} still forgets: {rough(change, 'points')}."
    text = f"Whether {row} forgets is open: "
    if change.low == change.high == 0:
        text += f"nothing changed on {change.n:,} items, but that excludes no loss below {points(change.unseen)} points. "
    else:
        text += f"“does not forget” needs the lower end above −{margin:g}. "
    return text + _needed(change, "change", margin + change.value, "to tell") if change.value > -margin else text.rstrip()


def _list(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
