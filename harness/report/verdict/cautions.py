"""What a reader must know before believing the table, each by a rule with a threshold: for page, terminal, card and table.md.

The thresholds are guesses, except those of the numbers of items (docs/measures.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

import numpy as np

from harness.report.summary.format import capital, number, points, rough, share
from harness.report.summary.rows import Row, dig
from harness.report.summary.summary import Summary
from harness.report.verdict.caution import Caution, first_of
from harness.report.verdict.untuned import untuned
from harness.stats.quantity_name import level_of
from harness.vocabulary import Role

FEW = {"gain": ("domain", 200), "change": ("general", 100)}
"""Below these many items the report warns loudly; below a thousand it says so."""
FEW_JUDGED = 50
"""The same for prompts whose outputs people judged."""
ENOUGH = 1000
REPEATS, REPEATS_MORE = 0.3, 0.1
"""Share of repeated 3-grams from which answers read as loops, and by how much it must have risen. Guesses."""
ENDLESS, ENDLESS_MORE = 0.2, 0.1
"""Share of answers that ran into the limit without a stop, and by how much it must have risen. Guesses."""
EMPTY, EMPTY_MORE = 0.05, 0.05
"""Share of answers with nothing in them, and by how much it must have risen. Guesses."""
COUNTED = {
    "prompts too long for": 0.01,
    "their ends were cut": 0.01,
    "lose their beginning": 0.01,
    "do not come back from their tokens": 0.001,
    "have characters that the tokenizer lacks": 0.001,
}
"""What a note that counts something says -> the share from which it is a warning. Guesses; the notes are those of encoding and
evaluation, whose words a test holds to these."""
CONTAMINATED = 0.01
"""Share of a task's items whose wording stands in training data. A guess."""
KEPT_ALL = 99.5
"""Per cent from which "kept" reads as if nothing were lost. A guess."""


def warnings(summary: Summary) -> list[str]:
    """Return the warnings as sentences, the worst first."""
    return [caution.text for caution in cautions(summary)]


def cautions(summary: Summary) -> list[Caution]:
    """Return every warning that the comparison gives reason for, the worst first."""
    # Every number is one against the base.
    if summary.analysis is None:
        return [Caution("The base model has no scores, so nothing can be said about gain or retention.")]
    all_cautions: list[Caution] = []
    for rule in RULES:
        all_cautions += rule(summary)
    return all_cautions


# --- is the measuring sound? ------------------------------------------------------------------------------------------


def _control(summary: Summary) -> list[Caution]:
    """Warn of a zero-budget control that is not the base."""
    raised = []
    for row in summary.rows:
        if row.role != Role.CONTROL:
            continue
        # Nothing trained the control, so any difference is the measuring's own.
        estimates = [summary.estimate("gain", row.name), summary.estimate("change", row.name)]
        if any(e.known and (e.value != 0 or e.low != 0 or e.high != 0) for e in estimates):
            fault = "the measuring itself is at fault, believe nothing below"
            text = f"The zero-budget control ({row.name}) differs from the base: {fault}."
            raised.append(Caution(text, (row.name,)))
    return raised


# --- did the model collapse? ------------------------------------------------------------------------------------------


def _repetition(summary: Summary) -> list[Caution]:
    """Warn of answers that became loops."""
    return _risen(summary, "rep3_word", "repeat themselves (share of repeated 3-grams)", REPEATS, REPEATS_MORE, number)


def _endless(summary: Summary) -> list[Caution]:
    """Warn of answers that no longer end."""
    return _risen(summary, "no_stop", "run on without a stop (share of answers)", ENDLESS, ENDLESS_MORE, share)


def _risen(summary: Summary, metric: str, what: str, most: float, more: float, show: Callable[[float], str]) -> list[Caution]:
    """Warn of rows whose level of a metric is at least `most`, and at least `more` above the base's."""
    raised = []
    for group in ("general", "domain"):
        # The rise counts too: some bases repeat themselves before any tuning.
        start = summary.estimate(level_of(metric, group), summary.base)
        levels = {row.name: summary.estimate(level_of(metric, group), row.name).value for row in _finished(summary)}
        raised += _collapsed(f"answers to {group} prompts {what}", levels, start.value, most, more, show)
    return raised


def _empty(summary: Summary) -> list[Caution]:
    """Warn of answers with nothing in them."""
    lengths = summary.scores[summary.scores["metric"] == "length_tokens"]
    raised = []
    for group, part in lengths.groupby("group", observed=True):
        shares = (part["score"] == 0).groupby(part["row"], observed=True).mean()
        levels = {row.name: float(shares.get(row.name, np.nan)) for row in _finished(summary)}
        start = float(shares.get(summary.base, np.nan))
        what = f"answers to {group} prompts are empty (share of answers)"
        raised += _collapsed(what, levels, start, EMPTY, EMPTY_MORE, share)
    return raised


def _collapsed(
    what: str, levels: dict[str, float], start: float, most: float, more: float, show: Callable[[float], str]
) -> list[Caution]:
    """Make one warning that names the rows whose level is high and has risen, the worst first."""
    # A base that was not measured is taken to have none of it: rather a warning too many.
    base = start if np.isfinite(start) else 0.0
    bad = {row: level for row, level in levels.items() if level >= most and level - base >= more}
    if not bad:
        return []
    ordered = sorted(bad, key=lambda row: -bad[row])
    listed = first_of([f"{row} {show(bad[row])}" for row in ordered])
    before = f"the base {show(start)}" if np.isfinite(start) else "the base was not measured"
    return [Caution(f"Collapse: {what}: {listed}; {before}.", tuple(ordered))]


def _disagreeing(summary: Summary) -> list[Caution]:
    """Warn where kept reads as all while points were lost, or the other way round."""
    raised = []
    for row in _finished(summary):
        kept = summary.estimate("retention", row.name)
        change = summary.estimate("change", row.name)
        # Retention is a ratio and the change a difference: where a family is close to chance the
        # two may disagree.
        hides_loss = kept.known and kept.value >= KEPT_ALL and change.high < 0
        hides_rise = kept.known and kept.high < 100 and change.low > 0
        if hides_loss or hides_rise:
            text = f"{row.name}: kept reads {rough(kept, '%')} while the general score changed by {rough(change, 'points')}"
            raised.append(Caution(f"{text}: believe the points.", (row.name,)))
    return raised


# --- was the right thing asked? ---------------------------------------------------------------------------------------


def _cut(summary: Summary) -> list[Caution]:
    """Warn by the notes that count prompts and answers that lost a part, or answers that do not come back from their tokens."""
    data = summary.record.get("data") or {}
    notes = [str(note) for note in [*(summary.record.get("notes") or []), *(data.get("notes") or [])]]
    raised = []
    for note in dict.fromkeys(notes):
        # Notes are sentences; those that count something say how many of how many.
        limit = next((limit for phrase, limit in COUNTED.items() if phrase in note), None)
        count = re.search(r"([\d,]+) of ([\d,]+) ", note)
        if limit is None or count is None:
            continue
        n, of = (int(number.replace(",", "")) for number in count.groups())
        if of and n / of >= limit:
            raised.append(Caution(f"Not whole, {share(n / of)}: {note}"))
    return raised


def _contaminated(summary: Summary) -> list[Caution]:
    """Warn of items whose wording is in the training data, and that are evaluated all the same."""
    raised = []
    for task in dig(summary.record, "contamination", "found") or []:
        # An item may stand in several sources; what was excluded is not evaluated.
        items = set(chain.from_iterable((task.get("places") or {}).values()))
        left = len(items) - int(task.get("excluded") or 0)
        if task["items"] and left / task["items"] >= CONTAMINATED:
            text = f"{task['task']}: the wording of {left:,} of {task['items']:,} items stands in training data"
            raised.append(Caution(f"{text}, and they are evaluated."))
    return raised


def _chance(summary: Summary) -> list[Caution]:
    """Warn of tasks that the base answers at chance."""
    assert summary.analysis is not None
    raised = []
    for line in summary.analysis.measures.query("near_chance").to_dict("records"):
        level = f"{number(100 * line['base'])} % against {number(100 * line['chance'])} %, n = {line['items']:,}"
        text = f"The base answers {line['task']} at chance or too near to tell ({level}): what is lost there cannot be told"
        raised.append(Caution(f"{text}; left out of retention."))
    return raised


# --- is there enough of it? -------------------------------------------------------------------------------------------


def _counts(summary: Summary) -> list[Caution]:
    """Warn of few items."""
    raised = []
    for quantity, (group, few) in FEW.items():
        # A comparison of finished models may have no domain at all.
        if quantity == "gain" and not summary.record["plan"].get("data", True) and not summary.record["plan"].get("test"):
            continue  # the domain was not asked for
        n = max((summary.estimate(quantity, row.name).n for row in summary.rows), default=0)
        coarse = _coarsest(summary, quantity)
        seen = f" The comparisons here resolve {points(coarse)} points at best." if np.isfinite(coarse) else ""
        if n < few:
            text = f"Only {n:,} {group} items, fewer than {few}: differences of ten points and more can be chance.{seen}"
            raised.append(Caution(text))
        elif n < ENOUGH:
            raised.append(Caution(f"{n:,} {group} items; a thousand or more are wanted for small differences.{seen}"))
    return raised


def _coarsest(summary: Summary, quantity: str) -> float:
    detectable = [summary.estimate(quantity, row.name).detectable for row in summary.tuned]
    finite = [value for value in detectable if np.isfinite(value) and value > 0]
    return min(finite, default=np.nan)


def _people(summary: Summary) -> list[Caution]:
    """Warn of people's ratings of too few outputs."""
    judged = [summary.rating(row.name, summary.scales[-1]).n for row in summary.rows] if summary.scales else []
    if not judged or max(judged) >= FEW_JUDGED:
        return []
    text = f"Only {max(judged):,} prompts were judged by people, fewer than {FEW_JUDGED}: only large differences can be seen."
    return [Caution(text)]


def _missing(summary: Summary) -> list[Caution]:
    """Warn of items without a score."""
    assert summary.analysis is not None
    with_model = {row.name for row in summary.rows if row.role.has_model}
    # Rows that no model is behind (a constant answer) lack items by nature.
    lost = {row: n for row, n in summary.analysis.missing.items() if n > 0 and row in with_model}
    if not lost:
        return []
    named = first_of([f"{row} {n:,}" for row, n in lost.items()])
    return [Caution(f"Items without a score, left out in pairs with the base: {named}.", tuple(lost))]


def _seeds(summary: Summary) -> list[Caution]:
    """Say what the intervals are about."""
    assert summary.analysis is not None
    covers = summary.analysis.covers()
    return [Caution(f"{capital(covers)}.")]


RULES: tuple[Callable[[Summary], list[Caution]], ...] = (
    _control,
    _repetition,
    _endless,
    _empty,
    _disagreeing,
    _cut,
    _contaminated,
    _counts,
    _people,
    _chance,
    _missing,
    _seeds,
    untuned,
)
"""Every rule, the worst first. A new one is a function and a line here."""


def _finished(summary: Summary) -> list[Row]:
    return [row for row in summary.tuned if row.done]
