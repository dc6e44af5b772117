"""Sentences on models tuned elsewhere: ability kept and gain against the base, and differences from it."""

from __future__ import annotations

from harness.report.summary.format import points, rough
from harness.report.summary.rows import Row, dig
from harness.report.summary.summary import Summary
from harness.stats.analysis import MARGIN
from harness.stats.claims import does_not_forget
from harness.stats.quantity_name import change_of_family


def measured_sentences(summary: Summary) -> list[str]:
    """Return a sentence on each model that was tuned elsewhere."""
    sentences = [_sentence(summary, row) for row in summary.measured if row.done]
    return sentences or ["No model could be scored: there is nothing to judge."]


def _sentence(summary: Summary, row: Row) -> str:
    kept, change, gain = (summary.estimate(name, row.name) for name in ("retention", "change", "gain"))
    parts = []
    if kept.known:
        parts.append(f"keeps {rough(kept, '%')} of the base's general ability")
    if change.known:
        parts.append(f"changes the general score by {rough(change, 'points')}")
    worst = summary.worst_family(row.name)
    if worst is not None:
        lost = summary.estimate(change_of_family(worst), row.name)
        parts.append(f"does worst in {worst} ({rough(lost, 'points')})")
    if gain.known:
        parts.append(f"gains {rough(gain, summary.gain_unit)} in the domain")
    if not parts:
        return f"{row.name}: the base has no scores above chance on what was asked, so nothing can be said of it."
    return f"{row.name} {', '.join(parts)}; its budget is not known.{_forgets(summary, row)}"


def _forgets(summary: Summary, row: Row) -> str:
    """Return whether it forgets, as far as the interval tells."""
    change = summary.estimate("change", row.name)
    if not change.known:
        return ""
    # What a handful could overlook is more than there is to lose.
    if not change.enough:
        return f" Whether it forgets is open: {change.n:,} items can decide nothing."
    # The interval lies below zero as a whole.
    if does_not_forget(change):
        return f" It does not forget: less than {MARGIN:g} point of the general score is lost at worst."
    if change.high < 0:
        return " It forgets."
    return f" Whether it forgets is open: changes below {points(change.overlooked)} points could not be relied on to show."


def differing(summary: Summary) -> list[str]:
    """Return what each model has otherwise than the base: tokens, template, architecture."""
    differences = []
    for row in summary.measured:
        for run in row.runs:
            notes = dig(run, "run", "asked", "measured", "notes") or []
            differences += [f"{row.name}: {note}" for note in notes]
    return list(dict.fromkeys(differences))
