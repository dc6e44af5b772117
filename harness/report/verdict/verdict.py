"""The verdict: what the one rule chooses, said only as firmly as the evidence allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.summary.format import duration, points, rough, visible
from harness.report.summary.recommend import (
    Advice,
    advise,
    describe,
    limits_of,
    out_sentence,
    rule_sentence,
    separated,
    sureness,
    track_advice,
)
from harness.report.summary.summary import Summary
from harness.report.verdict.cautions import Caution
from harness.report.verdict.decision import Kind, decide, forgetting
from harness.report.verdict.meters import other_meter
from harness.stats.analysis import MARGIN


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
    decision: Kind = Kind.NONE

    @property
    def separated(self) -> bool:
        """Whether the choice stands apart from any other recipe."""
        return self.advice is not None and bool(self.advice.apart)


def verdict_of(summary: Summary) -> Verdict:
    """The verdict of a comparison."""
    limits = limits_of(summary)
    rule = rule_sentence(limits)
    done = [row for row in summary.recipes if row.done]
    if not done:
        return Verdict("No recipe ended: there is nothing to judge.", rule, decision=Kind.TOO_LITTLE)
    if not any(summary.estimate("gain", row.name).known for row in done):
        sentence = "Gain could not be measured: the base has no scores in the domain."
        return Verdict(sentence, rule, details=_failed(summary), decision=Kind.TOO_LITTLE)
    advice = summary.computed(advise)
    if not any(summary.estimate("retention", row.name).known for row in done):
        sentence = "Forgetting could not be measured: no general family the base answers above chance has scores."
        return Verdict(sentence, rule, details=_failed(summary), advice=advice, decision=Kind.TOO_LITTLE)
    decision = decide(summary, advice)
    details = _details(summary, advice)
    return Verdict(decision.sentence, rule, sureness(advice), details, advice.row, advice, decision.kind)


def one_seed(summary: Summary, wanted: int = 3) -> str:
    """Why recipes of one seed are not compared, and what more seeds would cost."""
    done = [row for row in summary.recipes if row.done]
    runs = [max(0, wanted - len(row.seeds)) for row in done]
    seconds = sum(n * row.cost("ledger", "seconds") for n, row in zip(runs, done, strict=True))
    price = f", about {duration(seconds)} of training" if np.isfinite(seconds) else ""
    return (
        "Another training of one recipe may differ by more than two recipes do here, and the intervals are over items only."
        f" SEEDS={wanted} would add {sum(runs):,} runs{price}."
    )


def _details(summary: Summary, advice: Advice) -> tuple[str, ...]:
    lines = [one_seed(summary)] if advice.one_seed else [matched_sentence(summary)]
    if advice.refusal:
        lines.append(f"`lethe export` asks for --recipe: {advice.refusal}.")
    if advice.row is not None:
        change = summary.estimate("change", advice.row)
        lines += [forgetting(advice.row, change, MARGIN), _worst(summary, advice.row), *_domains(summary, advice.row)]
        lines += [_against_plain(summary, advice.row), _alike(summary, advice), track_advice(summary, advice)]
    lines += [out_sentence(advice), other_meter(summary).sentence, *_failed(summary)]
    return tuple(line for line in lines if line)


def matched_sentence(summary: Summary) -> str:
    """Say what is kept where methods have gained the same: by the one that keeps most, by its equals, by plain fine-tuning."""
    way = summary.matched
    able = {row.name: way.change(row.name) for row in summary.compared if way.change(row.name).known}
    if len(able) < 2:
        return ""
    best = max(able, key=lambda row: able[row].value)
    equals = []
    for row in able:
        apart = way.apart(row, best)
        if row != best and not (apart and apart.change.high < 0):
            equals.append(row)
    told = f"At the same gain, {points(way.matched.target)} {summary.gain_unit} ({way.said}), {best} keeps most:"
    told += f" its general score changes by {rough(able[best], 'points')}"
    plain = next((row for row in summary.references if row in able and row != best), None)
    told += f", that of {plain} by {rough(able[plain], 'points')}" if plain else ""
    return told + (f"; not separated from it: {', '.join(equals)}." if equals else "; every other keeps less.")


def _worst(summary: Summary, row: str) -> str:
    family = summary.worst_family(row)
    if not family:
        return ""
    return f"Its worst family is {family}: {rough(summary.estimate(f'change:family:{family}', row), 'points')}."


def _domains(summary: Summary, row: str) -> list[str]:
    """The gain in each domain of a sequence: their mean may hide that one was lost again."""
    gains = summary.stages.gains(row) if summary.stages else {}
    told = [f"{domain} {rough(gain, 'points')}" for domain, gain in gains.items()]
    return [f"Gain in each domain of the sequence: {', '.join(told)}."] if told else []


def _against_plain(summary: Summary, row: str) -> str:
    """Plain fine-tuning beside it: what the choice costs in gain and saves in forgetting."""
    plain = next((name for name in summary.references if name.split("(")[0] == "sft" and name != row), None)
    if plain is None:
        return ""
    return f"Plain fine-tuning ({plain}) {describe(summary, plain)}."


def _alike(summary: Summary, advice: Advice) -> str:
    assert summary.analysis is not None
    alike = [name for name in advice.others if advice.row and not separated(summary.analysis, advice.row, name)]
    return f"Not separated from it in gain or general score: {', '.join(alike)}." if alike else ""


def _failed(summary: Summary) -> tuple[str, ...]:
    bad = [row.name for row in summary.recipes if not row.done]
    return (f"Without numbers, see what failed: {', '.join(map(visible, bad))}.",) if bad else ()


def verdict_record(verdict: Verdict, cautions: Sequence[Caution]) -> str:
    """verdict.json: what the page says first, for cards, leaderboards and scripts."""
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
    """The same under the table of table.md."""
    lines = [verdict.sentence, verdict.sureness, verdict.rule, "Before believing it:"]
    told = "\n\n".join(visible(line, None) for line in lines if line)
    return f"\n{told}\n\n" + "".join(f"- {visible(caution.text, None)}\n" for caution in cautions)
