"""Which recipe to take under limits: the one that gains most among those that keep them all. page.js does the same live."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from harness.limits import STANDARD, Limits, parse_limits
from harness.report.format import number, rough, si
from harness.report.rows import TRACKS, Row
from harness.report.summary import Summary


@dataclass(frozen=True)
class Choice:
    """What counts of a finished recipe, as numbers and as people read them."""

    name: str
    track: str
    gain: float
    gains: bool
    """Whether its gain is above 0 for sure."""
    kept: float
    """Lower end of retention's interval, per cent."""
    seconds: float
    memory: float
    says: str
    """`gains 18 points [16, 22], keeps 97 % [96, 98]`."""
    costs: str
    """`59 s, 1.2 GB`."""
    alike: tuple[str, ...]
    """Recipes of its track whose gain is not separated from its own."""


def choices(summary: Summary) -> list[Choice]:
    """Every finished recipe with a gain and a retention."""
    rows = [row for row in summary.recipes if row.done and summary.estimate("retention", row.name).known]
    rows = [row for row in rows if summary.estimate("gain", row.name).known]
    alike = {(row.name, other.name) for row, other in combinations(rows, 2) if _alike(summary, row, other)}
    alike |= {(other, row) for row, other in alike}
    return [_choice(summary, row, tuple(other.name for other in rows if (row.name, other.name) in alike)) for row in rows]


def _alike(summary: Summary, row: Row, other: Row) -> bool:
    """Whether two rows of one track are not separated in gain."""
    if row.track != other.track:
        return False
    found = summary.difference("gain", other.name, row.name)
    return found.low <= 0 <= found.high


def _choice(summary: Summary, row: Row, alike: tuple[str, ...]) -> Choice:
    gain, kept = summary.estimate("gain", row.name), summary.estimate("retention", row.name)
    seconds, memory = row.cost("ledger", "seconds"), row.cost("run", "happened", "peak_memory_bytes")
    return Choice(
        row.name, row.track, gain.value, gain.low > 0, kept.low, seconds, memory,
        f"gains {rough(gain, summary.gain_unit)} and keeps {rough(kept, '%')}",
        ", ".join([f"{number(seconds)} s"] * math.isfinite(seconds) + [f"{si(memory)}B"] * math.isfinite(memory)),
        alike,
    )  # fmt: skip


def limits_of(summary: Summary) -> tuple[Limits, bool]:
    """The limits of the plan, and whether it has any; else where the page's inputs start."""
    text = (summary.record.get("plan") or {}).get("require")
    return (parse_limits(text), True) if text else (STANDARD, False)


def broken(choice: Choice, limits: Limits) -> list[str]:
    """Which limits a recipe breaks; one that was not measured is broken."""
    found = ["retention"] * (limits.retention is not None and not choice.kept >= limits.retention)
    found += ["time"] * (limits.seconds is not None and not choice.seconds <= limits.seconds)
    return found + ["memory"] * (limits.memory is not None and not choice.memory <= limits.memory)


def recommend(found: list[Choice], limits: Limits) -> list[tuple[str, str]]:
    """(track, sentence) for each track that has choices."""
    tracks = [(track, [choice for choice in found if choice.track == track]) for track in TRACKS]
    return [(track, _sentence(part, limits)) for track, part in tracks if part]


def _sentence(found: list[Choice], limits: Limits) -> str:
    fit = sorted((c for c in found if c.gains and not broken(c, limits)), key=lambda c: -c.gain)
    out = [f"{c.name} ({', '.join(broken(c, limits) or ['no gain for sure'])})" for c in found if c not in fit]
    left = f" Out: {', '.join(out)}." if out else ""
    if not fit:
        return f"No recipe keeps these limits.{left}"
    best = fit[0]
    alike = [c.name for c in fit[1:] if c.name in best.alike]
    level = f" Not separated from it in gain: {', '.join(alike)}." if alike else ""
    return f"{best.name} {best.says}{f' ({best.costs})' if best.costs else ''}.{level}{left}"


def embedded(found: list[Choice], limits: Limits) -> dict[str, Any]:
    """The same for page.js: JSON has no NaN, so what is not known is null."""

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    told = [{name: plain(value) for name, value in vars(choice).items()} for choice in found]
    return {"choices": told, "limits": vars(limits)}
