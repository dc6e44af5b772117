"""The three questions of who must decide, each with its number, and how every headline number came about."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.summary.format import capital, interval, points, share, signed
from harness.report.summary.recommend import advise, limits_of
from harness.report.summary.rule import rule_sentence
from harness.report.summary.summary import Summary
from harness.report.verdict.verdict import Verdict
from harness.stats.estimate import Estimate
from harness.stats.quantity_name import Measured, Scope, change_of_family, name_of
from harness.visible import visible

EXPLAINED = ("gain", "change", "retention")
"""Quantities of the main table that are explained row by row."""
MOST_PARTS = 12
"""Tasks or families that an explanation lists; the rest stand in the tables."""


@dataclass(frozen=True)
class Headline:
    """One question, its answer in a number and a sentence, and where the number comes from."""

    id: str
    question: str
    figure: str
    sentence: str
    explained: tuple[str, ...]


def headlines(summary: Summary, verdict: Verdict) -> list[Headline]:
    """Return the headlines: gain and loss of the chosen recipe, and its name; without a choice, of all finished recipes."""
    rows = [verdict.row] if verdict.row else [row.name for row in summary.tuned if row.done]
    unit = summary.gain_unit
    return [
        Headline(
            "gained",
            "What do I gain?",
            _figure(summary, "gain", rows),
            _sentence(summary, "gain", rows, f"{unit} in the domain"),
            _explained(summary, "gain", rows),
        ),
        Headline(
            "lost",
            "What do I lose?",
            _figure(summary, "change", rows),
            _sentence(summary, "change", rows, "points of general score"),
            _explained(summary, "change", rows),
        ),
        Headline("which", "Which recipe?", verdict.row or "None is chosen", verdict.sentence, _choice(summary)),
    ]


def explain(summary: Summary, quantity: str, row: str) -> tuple[str, ...]:
    """Return how a row's gain, change or share kept was computed: formula, parts, and what the interval covers."""
    estimate = summary.estimate(quantity, row)
    if not estimate.known:
        return ()
    formula = {
        "gain": f"The score of {row} on the domain's test items minus the base's on the same items, in "
        f"{summary.gain_unit}: the mean over tasks.",
        "change": f"The score of {row} on general items minus the base's on the same items, in points: per family as a "
        "share of what lies between chance and all right, then the mean over families.",
        "retention": f"100 % plus what {row} won or lost of general score, as a share of what the base has above chance; over "
        "the same families as ΔR.",
    }[quantity]
    return (formula, *_parts(summary, quantity, row), _certainty(summary, estimate, row))


def explanations(summary: Summary) -> dict[str, dict[str, list[str]]]:
    """Return row -> quantity -> explanation, for the page's script; as texts that may be shown."""
    texts: dict[str, dict[str, list[str]]] = {}
    for row in summary.tuned:
        if row.done:
            lines = {quantity: explain(summary, quantity, row.name) for quantity in EXPLAINED}
            texts[visible(row.name)] = {quantity: list(map(visible, sentences)) for quantity, sentences in lines.items()}
    return texts


def _figure(summary: Summary, quantity: str, rows: list[str]) -> str:
    """Return a row's number, or from where to where the numbers of several rows reach."""
    values = [estimate.value for row in rows if (estimate := summary.estimate(quantity, row)).known]
    if not values:
        return "Not measured"
    low = signed(min(values))
    high = signed(max(values))
    return low if low == high else f"{low} to {high}"


def _sentence(summary: Summary, quantity: str, rows: list[str], unit: str) -> str:
    """Return a sentence on a number: its recipe, unit and interval."""
    measured = [row for row in rows if summary.estimate(quantity, row).known]
    if not measured:
        return "No recipe that ended has scores of this kind."

    def number(row: str) -> str:
        estimate = summary.estimate(quantity, row)
        return f"{signed(estimate.value)} {interval(estimate)}"

    # One row is said whole; of several the ends of their range are.
    if len(measured) == 1:
        return f"{capital(unit)}: {measured[0]}, {number(measured[0])}. {_kept(summary, quantity, measured[0])}".strip()
    measured.sort(key=lambda row: summary.estimate(quantity, row).value)
    least = measured[0]
    most = measured[-1]
    spread = f"{capital(unit)}, over {len(measured)} rows: from {least}, {number(least)}, to {most}, {number(most)}."
    return f"{spread} {_lowest_family(summary, measured)}".strip() if quantity == "change" else spread


def _lowest_family(summary: Summary, rows: list[str]) -> str:
    """Name the family that fell lowest of any row: a mean hides it."""
    # Of all rows together: the one fall that a reader must not miss.
    falls = []
    for row in rows:
        if worst := summary.worst_family(row):
            falls.append((summary.estimate(change_of_family(worst), row).value, worst, row))
    if not falls or min(falls)[0] >= 0:
        return ""
    value, family, row = min(falls)
    return f"The lowest family is {family}, {signed(value)} of {row}."


def _kept(summary: Summary, quantity: str, row: str) -> str:
    """Add to the change of one row what that is of the base, and its worst family."""
    if quantity != "change":
        return ""
    kept, worst = summary.estimate("retention", row), summary.worst_family(row)
    parts = [f"{points(kept.value)} % is kept"] if summary.in_per_cent and kept.known else []
    if worst:
        parts.append(f"the worst family is {worst}, {signed(summary.estimate(change_of_family(worst), row).value)}")
    text = "; ".join(parts)
    return f"{capital(text)}." if text else ""


def _explained(summary: Summary, quantity: str, rows: list[str]) -> tuple[str, ...]:
    if len(rows) == 1:
        return explain(summary, quantity, rows[0])
    # Of several rows none is chosen, so none is explained in detail.
    what = "domain" if quantity == "gain" else "general"
    return (
        f"Each row's {what} score minus the base's, on the same items; the range is over all rows that ended, since none is "
        "chosen. Every number in the table below can be clicked for its own explanation.",
    )


def _choice(summary: Summary) -> tuple[str, ...]:
    """Return the rule, and how often it takes each recipe where draws can tell."""
    advice = summary.computed(advise)
    lines = [rule_sentence(limits_of(summary))]
    if advice.shares:
        parts = [f"{name} in {share(part)}" for name, part in advice.shares.items()]
        lines.append(f"Over joint draws of items and seeds the rule takes {', '.join(parts[:MOST_PARTS])}.")
    return tuple(lines)


def _parts(summary: Summary, quantity: str, row: str) -> tuple[str, ...]:
    """Name what the mean is over, each part with its own number; the lowest first."""
    if quantity == "gain":
        noun, measured, scope = "Tasks", Measured.GAIN, Scope.TASK
    elif quantity == "change":
        noun, measured, scope = "Families", Measured.CHANGE, Scope.FAMILY
    else:
        return ()
    # The lowest first: a mean hides what fell.
    names = summary.parts(scope, measured)
    parts = [(name, summary.estimate(name_of(measured, scope, name), row)) for name in names]
    parts = sorted((part for part in parts if part[1].known), key=lambda part: part[1].value)
    shown = [f"{name} {signed(part.value)} {interval(part)}" for name, part in parts[:MOST_PARTS]]
    more = f"; and {len(parts) - MOST_PARTS} more" if len(parts) > MOST_PARTS else ""
    return (f"{noun}: {'; '.join(shown)}{more}.",) if shown else ()


def _certainty(summary: Summary, estimate: Estimate, row: str) -> str:
    """Say what the interval is over and how small a difference this evaluation would show."""
    seeds = len(summary.row(row).seeds)
    over = f"items and {seeds} seeds" if seeds > 1 else "items alone: there is one training, and another may differ by more"
    return (
        f"{estimate.n:,} paired items. The 95 % interval {interval(estimate)} is from paired bootstrap draws over {over}. "
        f"A true difference of {points(estimate.overlooked)} or more would be seen with 80 % power."
    )
