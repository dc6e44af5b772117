"""The verdict: one sentence a track, said only as firmly as the evidence allows, and what warns against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.report.claims import does_not_forget
from harness.report.format import duration, number, points, rough
from harness.report.rows import TRACKS, Row
from harness.report.summary import Summary
from harness.stats import MARGIN

FEW = {"gain": ("domain", 200), "change": ("general", 100)}
"""Below these many items the report warns loudly; below a thousand it says so."""
FEW_JUDGED = 50
"""The same for prompts whose outputs people judged."""
ENOUGH = 1000
NEAR_BEST = 0.75
"""The sentence is about the recipe that keeps most among those with at least this share of the best gain."""


@dataclass(frozen=True)
class Verdict:
    """One track's verdict."""

    track: str
    sentence: str
    details: tuple[str, ...] = ()
    row: str | None = None
    """The recipe the sentence is about."""
    separated: bool = False


def verdicts(summary: Summary) -> list[Verdict]:
    """A verdict for each track that has recipes."""
    return [_verdict(summary, track) for track in TRACKS if summary.track(track)]


def _verdict(summary: Summary, track: str) -> Verdict:
    ended = [row for row in summary.track(track) if row.done]
    done = [row for row in ended if row in summary.compared]
    if not ended:
        return Verdict(track, "No recipe of this track ended: there is nothing to judge.")
    if not any(summary.estimate("retention", row.name).known for row in ended):
        return Verdict(track, "Retention could not be measured: no general family the base answers above chance has scores.")
    if not done:
        return Verdict(track, one_seed(summary), _notes(summary, ended))
    gained = [row for row in done if summary.estimate("gain", row.name).low > 0]
    if not gained:
        return Verdict(
            track, "No recipe gained measurably in the domain, so there is no price to compare.", _notes(summary, done)
        )
    best = max(summary.estimate("gain", row.name).value for row in gained)
    near = [row for row in gained if summary.estimate("gain", row.name).value >= NEAR_BEST * best]
    leader = max(near, key=lambda row: summary.estimate("change", row.name).value)
    return _sentence(summary, track, leader, done)


def one_seed(summary: Summary, wanted: int = 3) -> str:
    """What a table of one seed says, and what more seeds would cost."""
    runs = [max(0, wanted - len(row.seeds)) for row in summary.recipes if row.done]
    seconds = sum(
        n * row.cost("ledger", "seconds") for n, row in zip(runs, [r for r in summary.recipes if r.done], strict=True)
    )
    price = f", about {duration(seconds)} of training" if np.isfinite(seconds) else ""
    return (
        "One seed: nothing is compared. Another training of the same recipe may differ by more than two recipes do here,"
        f" and the intervals are over items only. SEEDS={wanted} would add {sum(runs):,} runs{price}."
    )


def _sentence(summary: Summary, track: str, leader: Row, done: list[Row]) -> Verdict:
    reference = _reference(summary, leader, done)
    keeps = f"{leader.name} keeps {_keeps(summary, leader.name)} of general ability and gains {_gains(summary, leader.name)}"
    details = _details(summary, leader, done)
    if reference is None:
        return Verdict(track, f"{keeps}; it is the only recipe that ended, so nothing is compared.", details, leader.name)
    difference = summary.difference("change", leader.name, reference)
    found = summary.contrast(leader.name, reference)
    if found is None:  # the leader is a reference itself: then the table has the pair the other way round, if at all
        found = summary.contrast(reference, leader.name)
    p = found["holm"] if found is not None else difference.p
    if p < 0.05:
        other = f"{_plain(reference)} keeps {_keeps(summary, reference)} and gains {_gains(summary, reference)}"
        return Verdict(track, f"{keeps}; {other}.", _price(summary, leader.name, reference) + details, leader.name, True)
    sentence = (
        f"The evidence does not separate the methods: {keeps}, {_plain(reference)} keeps {_keeps(summary, reference)}"
        f" and gains {_gains(summary, reference)}; on general items a difference below"
        f" {points(difference.detectable)} points could not be relied on to show (n = {difference.n:,})."
    )
    return Verdict(track, sentence, details, leader.name)


def _price(summary: Summary, leader: str, reference: str) -> tuple[str, ...]:
    """What keeping more cost in gain, where the interval excludes nothing."""
    gain = summary.difference("gain", leader, reference)
    if not gain.high < 0:
        return ()
    return (f"It gains less than {_plain(reference)}: {rough(gain, summary.gain_unit)}.",)


def _reference(summary: Summary, leader: Row, done: list[Row]) -> str | None:
    """Plain SFT, else `low_lr`, else the runner-up."""
    named = [name for name in summary.references if name != leader.name]
    plain = [name for name in named if name.split("(")[0] == "sft"]
    others = [row.name for row in done if row.name != leader.name]
    runner_up = sorted(others, key=lambda name: -summary.estimate("change", name).value)
    if leader.name in summary.references and runner_up:
        return runner_up[0]
    return next(iter(plain + named + runner_up), None)


def _details(summary: Summary, leader: Row, done: list[Row]) -> tuple[str, ...]:
    change = summary.estimate("change", leader.name)
    lines = []
    if does_not_forget(change):
        lines.append(
            f"{leader.name} does not forget: its general score changed by {rough(change, 'points')},"
            f" less than {MARGIN:g} point lost at worst."
        )
    elif change.high < 0:
        lines.append(f"{leader.name} still forgets: {rough(change, 'points')} of the general score.")
    else:
        lines.append(
            f"Whether {leader.name} forgets is open: {rough(change, 'points')};"
            f" “does not forget” needs the lower end above −{MARGIN:g}."
        )
    worst = summary.worst_family(leader.name)
    if worst:
        lines.append(
            f"Its worst family is {worst}: {rough(summary.estimate(f'change:family:{worst}', leader.name), 'points')}."
        )
    alike = [row.name for row in done if row is not leader and _alike(summary, leader.name, row.name)]
    if alike:
        lines.append(f"Not separated from it on general ability: {', '.join(alike)}.")
    return (*lines, *_notes(summary, done))


def _alike(summary: Summary, one: str, other: str) -> bool:
    difference = summary.difference("change", one, other)
    return difference.known and difference.low <= 0 <= difference.high


def _notes(summary: Summary, done: list[Row]) -> tuple[str, ...]:
    bad = [row.name for row in summary.track(done[0].track) if not row.done]
    return (f"Without numbers, see what failed: {', '.join(bad)}.",) if bad else ()


def _keeps(summary: Summary, row: str) -> str:
    return rough(summary.estimate("retention", row), "%")


def _gains(summary: Summary, row: str) -> str:
    return rough(summary.estimate("gain", row), summary.gain_unit)


def _plain(name: str) -> str:
    return {"sft": "plain SFT", "low_lr": "SFT at a low learning rate"}.get(name, name)


def warnings(summary: Summary) -> list[str]:
    """What a reader must know before believing the table, worst first."""
    if summary.analysis is None:
        return ["The base model has no scores, so nothing can be said about gain or retention."]
    return [
        *_control(summary),
        *_counts(summary),
        *_people(summary),
        *_chance(summary),
        *_disagreeing(summary),
        *_missing(summary),
        *_fairness(summary),
    ]


def _control(summary: Summary) -> list[str]:
    lines = []
    for row in summary.rows:
        known = [summary.estimate(q, row.name) for q in ("gain", "change")] if row.role == "control" else []
        if any(e.known and (e.value != 0 or e.low != 0 or e.high != 0) for e in known):
            lines.append(
                f"The zero-budget control ({row.name}) differs from the base:"
                " the measuring itself is at fault, believe nothing below."
            )
    return lines


def _counts(summary: Summary) -> list[str]:
    lines = []
    for quantity, (group, few) in FEW.items():
        n = max((summary.estimate(quantity, row.name).n for row in summary.rows), default=0)
        coarse = _coarsest(summary, quantity)
        seen = f" The comparisons here resolve {points(coarse)} points at best." if np.isfinite(coarse) else ""
        if n < few:
            lines.append(f"Only {n:,} {group} items, fewer than {few}: differences of ten points and more can be chance.{seen}")
        elif n < ENOUGH:
            lines.append(f"{n:,} {group} items; a thousand or more are wanted for small differences.{seen}")
    return lines


def _people(summary: Summary) -> list[str]:
    """People's ratings of too few outputs."""
    judged = [summary.rating(row.name, summary.scales[-1]).n for row in summary.rows] if summary.scales else []
    if not judged or max(judged) >= FEW_JUDGED:
        return []
    return [f"Only {max(judged):,} prompts were judged by people, fewer than {FEW_JUDGED}: only large differences can be seen."]


def _coarsest(summary: Summary, quantity: str) -> float:
    found = [summary.estimate(quantity, row.name).detectable for row in summary.recipes]
    known = [value for value in found if np.isfinite(value) and value > 0]
    return min(known) if known else np.nan


def _chance(summary: Summary) -> list[str]:
    assert summary.analysis is not None
    near = summary.analysis.measures.query("near_chance")
    return [
        f"The base answers {line['task']} at chance or too near to tell ({number(100 * line['base'])} %"
        f" against {number(100 * line['chance'])} %, n = {line['items']:,}): what is lost there cannot be told; left out."
        for line in near.to_dict("records")
    ]


def _disagreeing(summary: Summary) -> list[str]:
    """Rows whose kept and change point to different sides."""
    lines = []
    for row in summary.recipes:
        kept, change = summary.estimate("retention", row.name), summary.estimate("change", row.name)
        if kept.known and change.known and (kept.value - 100) * change.value < 0 and abs(change.value) >= 0.05:
            lines.append(
                f"{row.name} keeps {points(kept.value)} % but its general score changed by {points(change.value)} points:"
                " the families are on different scales; believe the points, family by family."
            )
    return lines


def _missing(summary: Summary) -> list[str]:
    assert summary.analysis is not None
    asked = [row.name for row in summary.rows if row.role not in ("constant", "guess")]  # those answer the domain only
    lost = {row: n for row, n in summary.analysis.missing.items() if n > 0 and row in asked}
    if not lost:
        return []
    named = ", ".join(f"{row} {n:,}" for row, n in lost.items())
    return [f"Items without a score, left out in pairs with the base: {named}."]


def _fairness(summary: Summary) -> list[str]:
    assert summary.analysis is not None
    lines = [summary.analysis.covers()[0].upper() + summary.analysis.covers()[1:] + "."]
    if summary.trials.empty:
        lines.append("Untuned: every recipe ran with its default settings, so a poor row may be a poor setting.")
    return lines
