"""How tuning names one setting of a recipe: a rule that the user sets, over points of gain and general change on dev items.

No torch here, and no arrays: the report asks the same functions what fewer trials would have selected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

LEARNS = 0.5
"""A trial counts as learning where it gains this share of what the best trial of plain fine-tuning gains. A guess."""
STANDARD_RULE = "price"


@dataclass(frozen=True)
class TuningRule:
    """Which trials may be selected; of these the one that gains most is."""

    price: float | None = None
    """General score that may be lost a point gained; None, with no `loss` either: what plain fine-tuning's best trial loses."""
    loss: float | None = None
    """Points of general score that may be lost; infinite: the gain alone decides."""

    @property
    def words(self) -> str:
        """The rule as part of a sentence."""
        if self.loss == math.inf:
            return "the one that gains most"
        if self.loss is not None:
            return (
                f"the one that gains most of those that lose at most {self.loss:g} points of general score; else the least loss"
            )
        if self.price is not None:
            least = f"at most {self.price:g} points of general score a point gained"
        else:
            least = "at most as much general score a point gained as plain fine-tuning's best trial does"
        return (
            f"the one that gains most of those that lose {least}; a trial counts that gains at least {LEARNS:.0%} of what plain"
            " fine-tuning gains at most; where none loses so little, the least loss a point gained; where none gains so much,"
            " the highest gain"
        )


def parse_tuning_rule(text: str | None) -> TuningRule:
    """Return the rule that `price`, `price=0.5`, `loss=5` or `gain` names. Raises ValueError with a sentence."""
    match = re.fullmatch(r"(price|gain|loss)(?:=(\d+(?:\.\d+)?))?", (text or STANDARD_RULE).strip())
    amount = float(match[2]) if match and match[2] else None
    whole = {"price": True, "gain": amount is None, "loss": amount is not None}
    if match is None or not whole[match[1]] or amount == math.inf:
        raise ValueError(
            "tune_rule is price (at most plain fine-tuning's loss a point gained), price=POINTS (lost a point gained),"
            f" loss=POINTS (lost in all) or gain (the highest), not '{text}'"
        )
    if match[1] == "gain":
        return TuningRule(loss=math.inf)
    return TuningRule(price=amount) if match[1] == "price" else TuningRule(loss=amount)


@dataclass(frozen=True)
class Reference:
    """What trials are held against, in points on dev items."""

    gain: float
    """A trial that gains less has not learned; minus infinity where any gain counts."""
    price: float = math.inf
    """The most general score that may be lost a point gained; NaN where plain fine-tuning says nothing of it."""
    loss: float = math.inf
    """The most general score that may be lost in all."""

    def allows(self, gain: float, change: float) -> bool:
        """Return whether a trial that learned loses little enough."""
        return -change <= self.loss and (self.price == math.inf or price_of(gain, change) <= self.price)

    def loses(self, gain: float, change: float) -> float:
        """Return what is compared where no trial loses little enough: the loss, or the loss a point gained."""
        return -change if self.loss < math.inf else price_of(gain, change)


def reference_of(
    gain: Sequence[float], change: Sequence[float], plain: Sequence[bool], rule: TuningRule | None = None
) -> Reference:
    """Return the reference of all trials of a tuning.

    Where plain fine-tuning is not among them the best of any recipe says what learning is, and there is no price to hold
    others to.
    """
    rule = rule or TuningRule()
    # A limit on the loss alone asks for no gain.
    if rule.loss is not None:
        return Reference(-math.inf, loss=rule.loss)
    trials = list(zip(gain, change, plain, strict=True))
    # What can be learned is what plain fine-tuning learned at its best, where it was tried.
    has_plain = any(plain)
    gains = [g for g, _, is_plain in trials if math.isfinite(g) and (is_plain or not has_plain)]
    least = max(LEARNS * max(gains, default=0.0), 1e-300)
    if rule.price is not None:
        return Reference(least, rule.price)
    # Only trials that learned have a price: a loss over hardly any gain would be a large number.
    prices = [price_of(g, c) for g, c, is_plain in trials if is_plain and g >= least]
    return Reference(least, min((price for price in prices if math.isfinite(price)), default=math.nan))


def price_of(gain: float, change: float) -> float:
    """Return points of general score lost a point gained.

    0 where none is lost, NaN where one is not known or nothing is gained.
    """
    return max(0.0, -change) / gain if gain > 0 and math.isfinite(change) else math.nan


def preferred(gain: Sequence[float], change: Sequence[float], reference: Reference) -> list[int]:
    """Return the places of a recipe's trials in the order in which the rule prefers them.

    First those that learned and lose little enough: the highest gain. Then others that learned: the least loss. Then the rest:
    the highest gain. Those without a gain are left out. Where no general score is known the domain alone decides. Of equals the
    one that keeps more, then the first.
    """
    candidates = [i for i, value in enumerate(gain) if math.isfinite(value)]
    learned = [i for i in candidates if gain[i] >= reference.gain and math.isfinite(change[i])]
    fair = [i for i in learned if reference.allows(gain[i], change[i])]
    dear = [i for i in learned if i not in fair]
    rest = [i for i in candidates if i not in learned]

    def by_gain(i: int) -> tuple[float, float]:
        return -gain[i], -change[i] if math.isfinite(change[i]) else math.inf

    def by_loss(i: int) -> tuple[float, float, float]:
        return reference.loses(gain[i], change[i]), *by_gain(i)

    return sorted(fair, key=by_gain) + sorted(dear, key=by_loss) + sorted(rest, key=by_gain)


def expected_best(values: Sequence[float], drawn: int) -> float:
    """Return the mean value of the trial the rule selects from `drawn` of these K, over all choices of that many.

    `values` stand in the rule's order. Trial i of K is selected where it is drawn and none before it is, in
    C(K-1-i, n-1) of C(K, n) choices: random search with fewer trials (Dodge et al. 2019, without replacement).
    """
    count = len(values)
    return sum(value * math.comb(count - 1 - i, drawn - 1) for i, value in enumerate(values)) / math.comb(count, drawn)


def spread_over(gain: Sequence[float], change: Sequence[float], first: int, number: int) -> list[int]:
    """Return indices of trials that show a recipe's curve: `first`, then those that fill the largest gaps in gain.

    Trials that another one beats in both gain and general change are left out; the base has gain 0.
    """
    candidates = [i for i, value in enumerate(gain) if value > 0 and math.isfinite(change[i])]
    front = [i for i in candidates if not any(_beats(gain, change, j, i) for j in candidates)]
    chosen = [first]
    while len(chosen) < number:
        left = [i for i in front if i not in chosen]
        if not left:
            break
        # The widest gap is where the curve is known least.
        taken = [0.0, *(gain[i] for i in chosen)]
        chosen.append(max(left, key=lambda i: min(abs(gain[i] - other) for other in taken)))
    return chosen


def _beats(gain: Sequence[float], change: Sequence[float], this: int, other: int) -> bool:
    """Return whether a trial is at least as good in both, and better in one; of equals the first."""
    better = (gain[this], change[this]) != (gain[other], change[other]) or this < other
    return this != other and gain[this] >= gain[other] and change[this] >= change[other] and better
