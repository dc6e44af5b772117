"""Chance of an answer that stands in the prompt: whoever picks one of the named things is right in one of k. No torch here.

Three forms are recognised, others are not guessed at:

    alternatives   "Is 66 or 14 smaller?", "red, green or blue?": the answer is one of the things between commas and "or" in a
                   sentence that asks
    statements     "Ann brings peas. Bo brings figs. What does Bo bring?": the answer stands in one of several sentences that
                   are alike but for it and a subject, and the question names that subject and no other
    rows           "the smallest of 46 31 2 16?": the answer is one of three or more numbers or letters in a row, and one of
                   them is asked for, not their number, sum or mean
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.text.answer_metrics import normalise, words

_SENTENCE = re.compile(r"[^.!?\n。！？]+")
_BETWEEN = re.compile(r",?\s+or\s+|\s*(?:还是|或者|或)\s*|\s*[,，、;；]\s*", re.IGNORECASE)
_OR = re.compile(r"or|还是|或", re.IGNORECASE)
_ASKS = {"which", "what", "who", "whom", "whose", "where", "when", "how", "choose", "pick", "answer", "say"}
"""A first part that begins so asks and names nothing: "Which is larger, 3 or 5?"."""
_RUN = re.compile(r"(?<![\w.])(?:[a-z]|\d+)(?:[ ,]+(?:[a-z]|\d+)(?!\w)){2,}", re.IGNORECASE)
_PICKS = re.compile(
    r"\b(?:which|first|second|third|last|middle|most|least|best|worst|max(?:imum)?|min(?:imum)?|[a-z]{3,}est)\b|最|第|哪",
    re.IGNORECASE,
)
"""What asks for one of a row: its place, or the one that is more than the others."""
_COMPUTES = re.compile(
    r"\bhow (?:many|much)\b|\b(?:sum|total|mean|median|average|count|number of|product|difference|add)\b"
    r"|多少|几个|总|平均|之和",
    re.IGNORECASE,
)
"""What asks for a number that is computed, and which only by accident stands in the row."""
SUBJECT = 2
"""Words, besides the answer's own, in which two statements may differ."""


def named_chance(prompt: str, targets: Sequence[str]) -> float:
    """1/k where one of the targets is one of k things that the prompt names to choose from; else 0."""
    for target in targets:
        wanted = words(normalise(target))
        if not wanted:
            continue
        counts = [_alternatives(sentence, wanted) for sentence in _asking(prompt)]
        k = max([*counts, _statements(prompt, wanted), _run(prompt, wanted)])
        if k > 1:
            return 1 / k
    return 0.0


def _asking(prompt: str) -> list[str]:
    """The sentences that ask: those with a question mark, and the last one."""
    found = list(_SENTENCE.finditer(prompt))
    return [one[0] for one in found if one is found[-1] or prompt[one.end() : one.end() + 1] in ("?", "？")]


def _alternatives(sentence: str, wanted: list[str]) -> int:
    """How many things a sentence joins by "or", where `wanted` is one of them; else 0."""
    separators = [found[0] for found in _BETWEEN.finditer(sentence)]
    parts = [words(part) for part in _BETWEEN.split(sentence)]
    last = next((place for place, text in enumerate(separators, 1) if _OR.search(text)), 0)
    parts = [part for part in parts[: last + 1] if part]
    if not last or len(parts) < 2:
        return 0
    if parts[0][0] in _ASKS and len(parts) > 2:
        parts = parts[1:]
    size = len(wanted)
    members = [parts[0][-size:], *parts[1:-1], parts[-1][:size]]
    return len(members) if wanted in members else 0


def _statements(prompt: str, wanted: list[str]) -> int:
    """How many different things stand where `wanted` stands, in sentences like its own; 0 where none is asked for."""
    size = len(wanted)
    said = [words(sentence) for sentence in _SENTENCE.findall(prompt)]
    asked = {word for sentence in _asking(prompt) for word in words(sentence)}
    places = [(one, place) for one in said for place in range(len(one) - size + 1) if one[place : place + size] == wanted]
    most = 0
    for own, place in places:
        allowed = min(size + SUBJECT, len(own) - 1)
        alike = [other for other in said if len(other) == len(own) and _differing(own, other) <= allowed]
        span = range(place, place + size)
        if _asked_for(own, alike, span, said, asked):
            most = max(most, len({tuple(other[place : place + size]) for other in alike}))
    return most


def _asked_for(own: list[str], alike: list[list[str]], span: range, said: list[list[str]], asked: set[str]) -> bool:
    """Whether the question is about this statement: it names its subject, itself or by way of one more sentence, and none of
    the others'. A question that names two subjects compares or computes, and one that names none may ask anything.
    """
    places = [i for i in range(len(own)) if i not in span and any(other[i] != own[i] for other in alike)]
    words_there = [{other[i] for i in places} for other in alike if any(other[i] != own[i] for i in places)]
    others = set().union(*words_there) - set(own)
    subject = {own[i] for i in places}.difference(*words_there)
    if others & asked:
        return False
    common = {word for statement in alike for word in statement}
    linked = [sentence for sentence in said if sentence not in alike and subject & set(sentence)]
    return bool(subject & asked) or any(set(sentence) & asked - common for sentence in linked)


def _run(prompt: str, wanted: list[str]) -> int:
    """How many different numbers or letters stand in a row with `wanted`; 0 where it is in none, or none of them is wanted."""
    if len(wanted) != 1 or not _PICKS.search(prompt) or _COMPUTES.search(prompt):
        return 0
    runs = [words(found[0]) for found in _RUN.finditer(prompt)]
    return max((len(set(run)) for run in runs if wanted[0] in run), default=0)


def _differing(one: list[str], other: list[str]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
