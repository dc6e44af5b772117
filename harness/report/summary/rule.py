"""The one rule by which the report chooses a recipe: verdict, recommendation, table, leaderboard and export all ask it.

Of the recipes whose gain is above 0 and which keep the limits, by the whole 95 % interval, it takes the one that gains most;
of those whose gain is not separated from that, the one that keeps most; of those not separated from that either, the one that
took the fewest device-seconds. It reads the recipes of both tracks.

The probability of a choice comes from the same rule on every joint bootstrap draw: values move, and intervals keep their
widths from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.plan.values import STANDARD, Limits, parse_limits
from harness.report.summary.format import number, si


def limits_in(record: Mapping[str, Any]) -> Limits:
    """Return the limits that a comparison's plan sets, else those of every report."""
    text = (record.get("plan") or {}).get("require")
    return parse_limits(text) if text else STANDARD


@dataclass(frozen=True)
class Scores:
    """Gain, general change (points) and retention (%) of R recipes, each (B, R): B draws, or the estimates as one."""

    gain: np.ndarray
    change: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Margins:
    """How far intervals reach below their numbers, (R,), and how far apart two numbers must lie, (R, R)."""

    gain: np.ndarray
    change: np.ndarray
    kept: np.ndarray
    gain_apart: np.ndarray
    """[i, j]: recipe i is separated from j, and gains more, where its gain is higher by more than this."""
    change_apart: np.ndarray
    """The same of the general change."""
    family: np.ndarray | None = None
    """Lower end of the change of the family that lost most, (R,), in points; None where no limit asks for it."""


@dataclass(frozen=True)
class Costs:
    """Device-seconds and peak bytes of one training, (R,); NaN where not measured."""

    seconds: np.ndarray
    memory: np.ndarray


def gaining(scores: Scores, margins: Margins) -> np.ndarray:
    """Return (B, R) whether a recipe's gain is above 0 by its whole interval."""
    return scores.gain - margins.gain > 0


def broken(scores: Scores, margins: Margins, costs: Costs, limits: Limits) -> dict[str, np.ndarray]:
    """Return (B, R) whether a recipe breaks each limit there is; a number that was not measured keeps no limit on it."""
    # Written as "not kept": a comparison with NaN is False, so what was not measured breaks its limit.
    violated = {}
    if limits.loss is not None:
        violated["loss"] = ~(scores.change - margins.change >= -limits.loss)
    if limits.retention is not None:
        violated["retention"] = ~(scores.kept - margins.kept >= limits.retention)
    if limits.family is not None:
        worst = np.full(scores.gain.shape[1], np.nan) if margins.family is None else margins.family
        violated["family"] = ~(worst >= -limits.family) & np.ones_like(scores.gain, bool)
    # Costs do not differ between draws; multiplied out, so that every limit has an entry for each draw.
    if limits.seconds is not None:
        violated["time"] = ~(costs.seconds <= limits.seconds) & np.ones_like(scores.gain, bool)
    if limits.memory is not None:
        violated["memory"] = ~(costs.memory <= limits.memory) & np.ones_like(scores.gain, bool)
    return violated


def chosen(scores: Scores, margins: Margins, costs: Costs, limits: Limits) -> np.ndarray:
    """Return the (B,) index of the recipe that the rule takes in each draw, −1 where no recipe gains and keeps the limits."""
    able = gaining(scores, margins)
    for breaks in broken(scores, margins, costs, limits).values():
        able = able & ~breaks

    # The highest gain, and what is not separated from it.
    tied = able & ~_ahead(_best(scores.gain, able), scores.gain, margins.gain_apart)

    # Of those what keeps most, and what is not separated from that.
    alike = tied & ~_ahead(_best(scores.change, tied), scores.change, margins.change_apart)

    # Of those the cheapest; of equals the one that gains most.
    seconds = np.where(alike, np.where(np.isfinite(costs.seconds), costs.seconds, np.inf), np.nan)
    with np.errstate(invalid="ignore"):
        cheapest = alike & (seconds <= np.fmin.reduce(seconds, axis=1, keepdims=True))
    return np.where(able.any(1), _best(scores.gain, cheapest), -1)


def _best(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return (B,) place of the highest value among the recipes marked; 0 where none is."""
    return np.where(among & np.isfinite(values), values, -np.inf).argmax(1)


def _ahead(leader: np.ndarray, values: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return (B, R) recipes from which the leader is separated."""
    lead = np.take_along_axis(values, leader[:, None], 1) - values
    return lead > apart[leader]


# --- in words ---------------------------------------------------------------------------------------------------------


def rule_sentence(limits: Limits) -> str:
    """Return the rule in one sentence, as the page states it."""
    return (
        f"The rule: of the recipes of both tracks, each of which {conditions(limits)}, the one that gains most; where gains are"
        " not separated, the one that keeps most; where that is not separated either, the one that took the fewest"
        " device-seconds."
    )


def conditions(limits: Limits) -> str:
    """Return what the rule demands of one recipe, as the predicate of a sentence.

    As in `gains for sure, loses at most 5 points and takes at most 600 device-seconds`.
    """
    parts = ["gains for sure"]
    if limits.loss is not None:
        parts.append(f"loses at most {number(limits.loss)} points of general score at the worse end of its 95 % interval")
    if limits.retention is not None:
        parts.append(f"keeps at least {number(limits.retention)} % at the lower end of its 95 % interval")
    if limits.family is not None:
        parts.append(f"loses at most {number(limits.family)} points of any family, at the worse end too")
    if limits.seconds is not None:
        parts.append(f"takes at most {number(limits.seconds)} device-seconds")
    if limits.memory is not None:
        parts.append(f"takes at most {si(limits.memory)}B of memory")
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
