"""Output quality of free answers (harness/evaluation/free_answers.py): each measure, its interval over prompts, its change
against the base.

Corpus measures are taken here from the stored texts, so none needs a model. Several seeds of a row are averaged: intervals
cover the choice of prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate, estimate_of
from harness.stats.resample import draws, estimated, jackknifed
from harness.text.rules import fits
from harness.text.text_quality import (
    FIRST_WORDS,
    FORMATS,
    content_words,
    corpus_compression,
    distinct,
    formatting,
    marked,
    self_bleu,
    self_repetition,
    slots,
    words,
    zlib_bits,
)

SETS = {
    "general_greedy": "General prompts, greedy",
    "general_sampled": "General prompts, sampled at temperature 0.7",
    "domain_greedy": "Domain prompts, greedy",
    "domain_sampled": "Domain prompts, sampled at temperature 0.7",
}
BLEU_TEXTS = 30
"""Texts whose self-BLEU is taken: its cost grows with their square."""


@dataclass(frozen=True)
class Measure:
    """One column: how it is read, and whether higher is better (None: neither)."""

    name: str
    title: str
    better: bool | None
    about: str


MEASURES = (
    Measure("rep3_word", "rep-3", False, "share of a text's word 3-grams that repeat an earlier one (Chinese: characters)"),
    Measure("rep3_token", "rep-3, tokens", False, "the same over tokens"),
    Measure("rep4_word", "rep-4", False, "the same over word 4-grams"),
    Measure("distinct2", "distinct-2", True, f"unique over all 2-grams in the first {FIRST_WORDS} words of texts that long"),
    Measure("self_repetition", "repeated across", False, "share of a text's 4-grams that another text has too"),
    Measure("self_bleu", "self-BLEU", False, "BLEU-4 of a text against the others"),
    Measure("compression", "compression", True, "gzip's size over the texts' size, all texts end to end"),
    Measure("no_stop", "no stop", False, "share of texts that ran into the limit"),
    Measure("length_tokens", "tokens", None, "length"),
    Measure("length_ratio", "length over base's", None, "words of all texts over those of the base's own answers: verbosity"),
    Measure("lists", "lists", None, "share of texts with a list"),
    Measure("headings", "headings", None, "share of texts with a heading or a bold line"),
    Measure("fences", "code fences", None, "share of texts with a fenced block"),
    Measure("facts", "facts per 100 tokens", True, "key facts of the reference found (numbers, content words) per 100 tokens"),
    Measure("zlib_bits", "zlib bits per token", True, "what zlib needs for all texts, end to end"),
    Measure("content_words", "content words", True, "share of words that are not function words"),
    Measure("base_bits_per_byte", "base bits per byte", False, "how the base itself reads the texts: fluency"),
    Measure(
        "leakage", "domain template", False, "share of texts with a set phrase of the training answers that the base never says"
    ),
    Measure("format_valid", "format", True, "share of texts in the form that was asked for"),
    Measure("stability", "stable", True, "share of rewordings of a prompt whose answer reads the same"),
)
_MEANS = ("rep3_word", "rep3_token", "rep4_word", "no_stop", "length_tokens", "base_bits_per_byte", "stability")
_DERIVED = (*FORMATS, "self_repetition", "self_bleu", "leakage", "format_valid")
_RATIOS = {"facts": ("facts_found", "hundred_tokens"), "content_words": ("content", "words")}
_CORPUS: dict[str, Callable[[Sequence[str], int], float]] = {
    "distinct2": lambda texts, _: distinct(texts, 2),
    "compression": lambda texts, _: corpus_compression(texts),
    "zlib_bits": zlib_bits,
}
COLUMNS = ["row", "set", "measure", "value", "low", "high", "change", "change low", "change high", "n", "prompts"]


def quality_of(summary: Summary) -> pd.DataFrame:
    """Return `quality_table` of a comparison."""
    return quality_table(summary.answers, summary.computed(phrases_of), summary.base, summary.record)


def phrases_of(summary: Summary) -> set[tuple[str, ...]]:
    """Return `domain_phrases` of a comparison."""
    return domain_phrases(summary.record, summary.texts(summary.base), summary.answers, summary.base)


def quality_table(answers: pd.DataFrame, phrases: set[tuple[str, ...]], base: str, record: Mapping[str, Any]) -> pd.DataFrame:
    """Return one line a row, set of prompts and measure: quality.csv; `phrases` as from `domain_phrases`."""
    # A comparison that asked no free answers has no such table.
    if answers.empty:
        return pd.DataFrame(columns=COLUMNS)
    texts = _texts(answers, phrases, record.get("answer_format"))

    # In the order of `SETS`, whichever of them were asked.
    present = set(answers["task"])
    lines = []
    for name in SETS:
        if name not in present:
            continue
        part = _Set(answers[answers["task"] == name], texts[texts["task"] == name], base)
        lines += [{"set": name} | line for line in part.lines()]
    return pd.DataFrame(lines)[COLUMNS]


def domain_phrases(record: Mapping[str, Any], scores: pd.DataFrame, answers: pd.DataFrame, base: str) -> set[tuple[str, ...]]:
    """Return the domain's template : 3-grams common in the training answers, less what general references and any answer
    of the base to a general prompt hold."""
    # What training taught as a form, and would be out of place elsewhere.
    phrases = {tuple(gram) for gram in record.get("template") or []}

    # A phrase that the base says too is no sign of the domain.
    for table in (scores, answers):
        general = table[(table["group"] == "general") & (table["row"] == base) & table["output"].notna()]
        for text in {*general["output"], *general["target"].dropna()}:
            phrases -= marked(str(text))
    return phrases


def _texts(answers: pd.DataFrame, phrases: set[tuple[str, ...]], form: Mapping[str, Any] | None) -> pd.DataFrame:
    """Return the texts, and what is counted on each; measures over several texts go by row, seed and set."""
    table = answers[answers["primary"].astype(bool)].reset_index(drop=True)

    # Counts on each text; ratios are taken later, over all texts of a draw.
    texts = table["output"].fillna("")
    targets = table["target"].fillna("")
    facts = [slots(text, target) for text, target in zip(texts, targets, strict=True)]
    wanted = np.array([n for _, n in facts])
    table["facts_found"] = np.where(wanted > 0, [n for n, _ in facts], np.nan)
    table["hundred_tokens"] = np.where(wanted > 0, table["score"] / 100, np.nan)
    table["content"] = [len(content_words(text)) for text in texts]
    table["words"] = [len(words(text)) for text in texts]
    looks = [formatting(text) for text in texts]
    for name in FORMATS:
        table[name] = [look[name] for look in looks]
    table["long"] = (table["words"] >= FIRST_WORDS).astype(float)

    # The domain's phrases are out of place in general answers only; its form is asked for in its own.
    leaks = [float(not phrases.isdisjoint(marked(text))) if phrases else math.nan for text in texts]
    table["leakage"] = np.where(table["group"] == "general", leaks, np.nan)
    valid = [float(fits(form, text)) if form else math.nan for text in texts]
    table["format_valid"] = np.where(table["group"] == "domain", valid, np.nan)

    # Measures over several texts: within one row, seed and set.
    for name in ("self_repetition", "self_bleu"):
        table[name] = math.nan
    for _, part in table.groupby(["row", "seed", "task"]):
        table.loc[part.index, "self_repetition"] = self_repetition(part["output"].fillna("").to_list())
        few = part.sort_values("item").index[:BLEU_TEXTS]
        table.loc[few, "self_bleu"] = self_bleu(table.loc[few, "output"].fillna("").to_list())
    return table


class _Set:
    """One set of prompts, every row's answers to it."""

    def __init__(self, answers: pd.DataFrame, texts: pd.DataFrame, base: str) -> None:
        """`texts`: the answers' texts with what is counted on each (`_texts`)."""
        self.texts = texts
        self.base = base
        self._corpora: dict[tuple[str, str], np.ndarray] = {}
        self.rows = list(dict.fromkeys(answers["row"]))

        # Answers to one question and its rewordings resample together.
        clusters = texts.drop_duplicates("item").set_index("item")["cluster"].sort_index()
        self.items = clusters.index
        self.counts = draws(clusters.to_list())

        # (prompt) x (row) of each number: what was stored, and what is derived here.
        stored = answers[answers["metric"].isin(_MEANS)]
        self.means = stored.pivot_table(index="item", columns=["metric", "row"], values="score", aggfunc="mean")
        names = ["long", *_DERIVED, *chain.from_iterable(_RATIOS.values())]
        self.derived = {name: texts.pivot_table(index="item", columns="row", values=name, aggfunc="mean") for name in names}

    def lines(self) -> list[dict[str, Any]]:
        """Return a line for each row and measure that it has."""
        lines = []
        for row in self.rows:
            for measure in MEASURES:
                value, change = self._both(measure.name, row)
                if value.known:
                    spread = {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
                    moved = {"change": change.value, "change low": change.low, "change high": change.high}
                    lines.append({"row": row, "measure": measure.name, "prompts": len(self.items)} | spread | moved)
        return lines

    def _both(self, name: str, row: str) -> tuple[Estimate, Estimate]:
        """Return a measure of a row, and its change against the base: on prompts where both have it, or corpus against
        corpus.
        """
        # Measures of a whole corpus have no value of one text, and resample by leaving prompts out.
        if name in _CORPUS:
            return self._corpus(name, row)
        if name in _RATIOS:
            over, under = _RATIOS[name]
            value, mine = estimated(self._of(over, row), self._of(under, row), self.counts)
            start, its = estimated(self._of(over, self.base), self._of(under, self.base), self.counts)
            return value, _difference(value, start, mine - its)
        # A ratio to the base, so the base itself is 1.
        if name == "length_ratio":
            value, draws_of_it = estimated(self._of("words", row), self._of("words", self.base), self.counts)
            return value, _difference(value, Estimate(1.0, n=value.n), draws_of_it - 1)

        # A prompt counts where both rows have a value for it.
        level = self._of(name, row)
        reference = self._of(name, self.base)
        value, _ = estimated(level, np.isfinite(level).astype(float), self.counts)
        moved = level - reference
        return value, estimated(moved, np.isfinite(moved).astype(float), self.counts)[0]

    def _of(self, name: str, row: str) -> np.ndarray:
        """Return (n,) a number of each prompt's answer, NaN where it has none."""
        # What was measured with the model is stored; the rest is derived from the texts.
        table = self.derived.get(name)
        if table is None:
            table = self.means[name] if name in self.means.columns.get_level_values(0) else pd.DataFrame(index=self.items)
        column = table[row] if row in table else pd.Series(dtype=float)
        return column.reindex(self.items).to_numpy(float)

    def _corpus(self, name: str, row: str) -> tuple[Estimate, Estimate]:
        """Return a measure of all texts of a row together, and its change: spreads from leaving each prompt out."""
        level = self._left_out(name, row)
        # The base's corpus without the same prompt: then the difference is paired.
        reference = self._left_out(name, self.base)
        value = jackknifed(level[0], level[1:], (0.0, 1.0 if name == "distinct2" else np.inf))
        change = jackknifed(level[0] - reference[0], level[1:] - reference[1:])

        # Only texts of a certain length enter it: one of them has no spread.
        if name == "distinct2":
            n = int((self._of("long", row) > 0).sum())
            of_base = int((self._of("long", self.base) > 0).sum())
            value = replace(value, n=n) if n > 1 else Estimate(value.value, n=n)
            change = change if min(n, of_base) > 1 else Estimate(change.value)
        return value, change

    def _left_out(self, name: str, row: str) -> np.ndarray:
        """Return (1 + n,) a corpus measure of all texts, then without each prompt; the mean over seeds."""
        key = (name, row)
        if key not in self._corpora:
            part = self.texts[self.texts["row"] == row]
            seeds = [_without_each(_CORPUS[name], texts, list(self.items)) for _, texts in part.groupby("seed")]
            self._corpora[key] = np.mean(seeds, axis=0) if seeds else np.full(1 + len(self.items), np.nan)
        return self._corpora[key]


def _without_each(function: Callable[[Sequence[str], int], float], part: pd.DataFrame, items: Sequence[str]) -> np.ndarray:
    texts = dict(zip(part["item"], part["output"].fillna(""), strict=True))
    tokens = dict(zip(part["item"], part["score"], strict=True))

    def of(left_out: str | None) -> float:
        kept = [item for item in items if item in texts and item != left_out]
        return function([texts[item] for item in kept], int(sum(tokens[item] for item in kept)))

    return np.array([of(None), *(of(item) for item in items)])


def _difference(value: Estimate, start: Estimate, replicates: np.ndarray) -> Estimate:
    # As few as the side with fewer: the interval rests on both.
    return estimate_of(value.value - start.value, np.array([]), replicates, min(value.n, start.n))
