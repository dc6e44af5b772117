"""The verdict: what the rule chooses, worded only as firmly as the evidence allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.summary.format import duration, points, rough
from harness.report.summary.recommend import Advice, advise, limits_of, separated
from harness.report.summary.rule import rule_sentence
from harness.report.summary.summary import Summary
from harness.report.verdict.advice_text import describe, out_sentence, sureness, track_advice
from harness.report.verdict.caution import Caution
from harness.report.verdict.decision import Kind, decide, forgetting
from harness.report.verdict.elsewhere import differing, measured_sentences
from harness.report.verdict.meters import other_meter
from harness.stats.analysis import MARGIN
from harness.stats.quantity_name import change_of_family
from harness.visible import markdown_text, visible


@dataclass(frozen=True)
class Verdict:
    """The answer to "which recipe?", over the rows of both tracks."""

    sentence: str
    rule: str
    """The rule that gave it, in one sentence."""
    sureness: str = ""
    """How often the rule would take the same recipe again."""
    details: tuple[str, ...] = ()
    row: str | None = None
    """The recipe chosen; None where there is none."""
    advice: Advice | None = None
    decision: Kind = Kind.TOO_LITTLE

    @property
    def separated(self) -> bool:
        """Whether the choice stands apart from any other recipe."""
        return self.advice is not None and bool(self.advice.apart)


def verdict_of(summary: Summary) -> Verdict:
    """Return the verdict of a comparison."""
    rule = rule_sentence(limits_of(summary))

    # What cannot be judged at all: nothing ended, or nothing was scored.
    done = [row for row in summary.recipes if row.done]
    if not done and summary.measured:
        sentences = measured_sentences(summary)
        return Verdict(sentences[0], "", details=(*sentences[1:], *differing(summary), *_failed(summary)))
    if not done:
        return Verdict("No recipe ended: there is nothing to judge.", rule)
    if not any(summary.estimate("gain", row.name).known for row in done):
        return Verdict("Gain could not be measured: the base has no scores in the domain.", rule, details=_failed(summary))
    advice = summary.computed(advise)
    if not any(summary.estimate("retention", row.name).known for row in done):
        sentence = "Forgetting could not be measured: no general family the base answers above chance has scores."
        return Verdict(sentence, rule, details=_failed(summary), advice=advice)

    decision = decide(summary, advice)
    return Verdict(
        sentence=decision.sentence,
        rule=rule,
        sureness=sureness(advice),
        details=_details(summary, advice),
        row=advice.row,
        advice=advice,
        decision=decision.kind,
    )


def one_seed(summary: Summary, wanted: int = 3) -> str:
    """Return why recipes of one seed are not compared, and what more seeds would cost."""
    done = [row for row in summary.recipes if row.done]
    runs = 0
    seconds = 0.0
    # Counted to the number that was wished for: rows may have different numbers of seeds.
    for row in done:
        lacking = max(0, wanted - len(row.seeds))
        runs += lacking
        seconds += lacking * row.cost("ledger", "seconds")
    price = f", about {duration(seconds)} of training" if np.isfinite(seconds) else ""
    return (
        "Another training of one recipe may differ by more than two recipes do here, and the intervals are over items only."
        f" SEEDS={wanted} would add {runs:,} runs{price}."
    )


def _details(summary: Summary, advice: Advice) -> tuple[str, ...]:
    """Return the sentences below the verdict, those that say nothing left out."""
    lines = [one_seed(summary)] if advice.one_seed else [matched_sentence(summary)]
    if advice.refusal:
        lines.append(f"lethe export asks for --recipe: {advice.refusal}.")
    # Of the recipe that is advised: what it forgets, where most, and what it stands apart from.
    if advice.row is not None:
        lines.append(forgetting(advice.row, summary.estimate("change", advice.row), MARGIN))
        lines.append(_worst(summary, advice.row))
        lines += _domains(summary, advice.row)
        lines.append(_against_plain(summary, advice.row))
        lines.append(_alike(summary, advice))
        lines.append(track_advice(summary, advice))
    lines += measured_sentences(summary) if summary.measured else []
    lines.append(out_sentence(advice))
    lines.append(other_meter(summary).sentence)
    lines += _failed(summary)
    return tuple(line for line in lines if line)


def matched_sentence(summary: Summary) -> str:
    """Return a sentence on ability kept at equal gain: of the best recipe, its equals and plain fine-tuning."""
    way = summary.matched
    # Settings of one method are one curve.
    compared = [row.name for row in summary.compared]
    labels = way.labels(compared)
    row_of = way.entries(compared)
    able = {}
    for label, row in row_of.items():
        change = way.change(row)
        if change.known:
            able[label] = change
    if len(able) < 2:
        return ""

    # Equal to the best are those whose difference from it does not exclude zero.
    best = max(able, key=lambda label: able[label].value)
    equals = []
    for label in able:
        apart = way.apart(row_of[label], row_of[best])
        if label != best and not (apart and apart.change.high < 0):
            equals.append(label)
    sentence = f"At the same gain, {points(way.matched.target)} {summary.gain_unit} ({way.description}), {best} keeps most:"
    sentence += f" its general score changes by {rough(able[best], 'points')}"
    references = [labels.get(row) for row in summary.references]
    plain = next((label for label in references if label in able and label != best), None)
    if plain is not None:
        sentence += f", that of {plain} by {rough(able[plain], 'points')}"
    return sentence + (f"; not separated from it: {', '.join(equals)}." if equals else "; every other keeps less.")


def _worst(summary: Summary, row: str) -> str:
    family = summary.worst_family(row)
    if not family:
        return ""
    return f"Its worst family is {family}: {rough(summary.estimate(change_of_family(family), row), 'points')}."


def _domains(summary: Summary, row: str) -> list[str]:
    """Return the gain in each domain of a sequence: their mean may hide that one was lost again."""
    gains = summary.stages.gains(row) if summary.stages else {}
    parts = [f"{domain} {rough(gain, 'points')}" for domain, gain in gains.items()]
    return [f"Gain in each domain of the sequence: {', '.join(parts)}."] if parts else []


def _against_plain(summary: Summary, row: str) -> str:
    """Return the numbers of plain fine-tuning: what the choice costs in gain and saves in forgetting."""
    # Plain fine-tuning, whatever settings its text has.
    plain = next((name for name in summary.references if name.split("(")[0] == "sft" and name != row), None)
    if plain is None:
        return ""
    return f"Plain fine-tuning ({plain}) {describe(summary, plain)}."


def _alike(summary: Summary, advice: Advice) -> str:
    assert summary.analysis is not None
    alike = [name for name in advice.others if advice.row and not separated(summary.analysis, advice.row, name)]
    return f"Not separated from it in gain or general score: {', '.join(alike)}." if alike else ""


def _failed(summary: Summary) -> tuple[str, ...]:
    names = [visible(row.name) for row in summary.tuned if not row.done]
    return (f"Without numbers, see what failed: {', '.join(names)}.",) if names else ()


def verdict_record(verdict: Verdict, cautions: Sequence[Caution]) -> str:
    """Return the text of verdict.json: what the page says first, for cards, leaderboards and scripts."""
    record = {
        "row": verdict.row,
        "decision": verdict.decision.value,
        "separated": verdict.separated,
        "refusal": verdict.advice.refusal if verdict.advice else verdict.sentence,
        "again": verdict.advice.again if verdict.advice and verdict.advice.shares else None,
        "sentence": verdict.sentence,
        "rule": verdict.rule,
        "sureness": verdict.sureness,
        "details": list(verdict.details),
        "warnings": [{"text": caution.text, "rows": list(caution.rows)} for caution in cautions],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def verdict_markdown(verdict: Verdict, cautions: Sequence[Caution]) -> str:
    """Return the same as Markdown, for the end of table.md."""
    lines = [verdict.sentence, verdict.sureness, verdict.rule, "Before believing it:"]
    paragraphs = "\n\n".join(markdown_text(line) for line in lines if line)
    warnings = "".join(f"- {markdown_text(caution.text)}\n" for caution in cautions)
    return f"\n{paragraphs}\n\n{warnings}"
