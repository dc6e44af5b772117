"""Sentences on a recommendation."""

from __future__ import annotations

import numpy as np

from harness.report.summary.format import rough, share
from harness.report.summary.recommend import LEAST_SHARE, NOBODY, Advice, advise, candidates
from harness.report.summary.summary import Summary
from harness.vocabulary import Track


def describe(summary: Summary, row: str) -> str:
    """Return a recipe's numbers as the predicate of a sentence.

    As in `gains 18 points [16, 22] and changes the general score by −3 points [−4, −2] (keeps 97 % [96, 98])`.
    """
    gain = summary.estimate("gain", row)
    change = summary.estimate("change", row)
    kept = summary.estimate("retention", row)
    # Gain first, then what it cost: the order in which the rule looks.
    parts = [f"gains {rough(gain, summary.gain_unit)}"]
    if change.known:
        aside = f"keeps {rough(kept, '%')}" if summary.in_per_cent else summary.why_points
        parts.append(f"changes the general score by {rough(change, 'points')} ({aside})")
    return " and ".join(parts)


def sureness(advice: Advice) -> str:
    """Return how often the rule would take the same recipe again, and over what that is counted."""
    if not advice.shares or not np.isfinite(advice.again):
        return ""
    choice = advice.row or NOBODY
    # Shares below half a per cent would fill the sentence.
    others = []
    for name, part in advice.shares.items():
        if name != choice and part >= LEAST_SHARE:
            others.append(f"{name} in {share(part)}")
    sentence = f"The rule takes {choice} again in {share(advice.again)} of joint draws"
    sentence += f" ({', '.join(others)})." if others else "."
    return sentence


def out_sentence(advice: Advice) -> str:
    """Return which recipes the rule does not consider, and why."""
    recipes = [f"{name} ({', '.join(reasons)})" for name, reasons in advice.out.items()]
    return f"Out: {', '.join(recipes)}." if recipes else ""


def track_advice(summary: Summary, advice: Advice) -> str:
    """Return what the same rule takes among recipes without general data, where its choice needs general data."""
    # Where the choice needs general data, a reader who has none must know what the rule takes then.
    tracks = {row.name: row.track for row in summary.recipes}
    if advice.row is None or tracks[advice.row] == Track.FREE or not candidates(summary, Track.FREE):
        return ""
    free = advise(summary, advice.limits, Track.FREE)
    if free.row is None:
        return f"It needs general data; {Track.FREE.title}, no recipe keeps the same limits."
    numbers = describe(summary, free.row)
    return f"It needs general data; {Track.FREE.title} the same rule takes {free.row}, which {numbers}."
