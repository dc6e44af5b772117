"""Chance of an answer that the prompt itself names: who picks one of k named things is right in one case of k. No torch here.

Three forms are recognised; others have a chance of 0:

    alternatives   "Is 66 or 14 smaller?", "red, green or blue?": the answer is one of the things between commas and "or" in a
                   sentence that asks
    statements     "Ann brings peas. Bo brings figs. What does Bo bring?": the answer is in one of several sentences that differ
                   in it and a subject only, and the question names that subject and no other
    rows           "the smallest of 46 31 2 16?": the answer is one of three or more numbers or letters in a row, and the
                   question asks for one of them, not for their number, sum or mean
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from harness.text.answer_metrics import normalise, words

_SENTENCE = re.compile(r"[^.!?\n。！？]+")
_BETWEEN = re.compile(r",?\s+or\s+|\s*(?:还是|或者|或)\s*|\s*[,，、;；]\s*", re.IGNORECASE)
_OR = re.compile(r"or|还是|或", re.IGNORECASE)
_ASKS = {"which", "what", "who", "whom", "whose", "where", "when", "how", "choose", "pick", "answer", "say"}
"""First words of a part that asks and names nothing, as the first part of "Which is larger, 3 or 5?"."""
_RUN = re.compile(r"(?<![\w.])(?:[a-z]|\d+)(?:[ ,]+(?:[a-z]|\d+)(?!\w)){2,}", re.IGNORECASE)
_PICKS = re.compile(
    r"\b(?:which|first|second|third|last|middle|most|least|best|worst|max(?:imum)?|min(?:imum)?|[a-z]{3,}est)\b|最|第|哪",
    re.IGNORECASE,
)
"""Words that ask for one thing of a row: for its place, or for the largest."""
_COMPUTES = re.compile(
    r"\bhow (?:many|much)\b|\b(?:sum|total|mean|median|average|count|number of|product|difference|add)\b"
    r"|多少|几个|总|平均|之和",
    re.IGNORECASE,
)
"""Words that ask for a computed number, which is in the row by accident only."""
SUBJECT = 2
"""Words, besides the answer's own, in which two statements may differ."""


def named_chance(prompt: str, targets: Sequence[str]) -> float:
    """Return 1/k if one of the targets is one of k things that the prompt names to choose from, else 0."""
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
    """Return the sentences that ask: those with a question mark, and the last one."""
    sentences = list(_SENTENCE.finditer(prompt))
    asking = []
    for sentence in sentences:
        mark = prompt[sentence.end() : sentence.end() + 1]
        if mark in ("?", "？") or sentence is sentences[-1]:
            asking.append(sentence[0])
    return asking


def _alternatives(sentence: str, wanted: list[str]) -> int:
    """Return how many things a sentence joins by "or" if `wanted` is one of them, else 0."""
    # The list ends with the part behind the first "or".
    separators = [match[0] for match in _BETWEEN.finditer(sentence)]
    last = next((number for number, text in enumerate(separators, 1) if _OR.search(text)), 0)
    if not last:
        return 0
    parts = [words(part) for part in _BETWEEN.split(sentence)]
    parts = [part for part in parts[: last + 1] if part]
    if len(parts) < 2:
        return 0
    if parts[0][0] in _ASKS and len(parts) > 2:
        parts = parts[1:]

    # Of the first and the last part only the words beside the separator belong to the list.
    size = len(wanted)
    members = [parts[0][-size:], *parts[1:-1], parts[-1][:size]]
    return len(members) if wanted in members else 0


def _statements(prompt: str, wanted: list[str]) -> int:
    """Return how many different things sentences like that of `wanted` have in its place; 0 if none is asked for."""
    size = len(wanted)
    sentences = [words(sentence) for sentence in _SENTENCE.findall(prompt)]
    asking: set[str] = set()
    for sentence in _asking(prompt):
        asking.update(words(sentence))
    most = 0
    for statement in sentences:
        for begin in range(len(statement) - size + 1):
            if statement[begin : begin + size] != wanted:
                continue

            # Sentences like this one differ in the answer and a short subject at most, and share one word at least.
            allowed = min(size + SUBJECT, len(statement) - 1)
            alike = []
            for other in sentences:
                if len(other) == len(statement) and _differing(statement, other) <= allowed:
                    alike.append(other)
            span = range(begin, begin + size)
            if _asked_for(statement, alike, span, sentences, asking):
                names = {tuple(other[begin : begin + size]) for other in alike}
                most = max(most, len(names))
    return most


def _asked_for(statement: list[str], alike: list[list[str]], span: range, sentences: list[list[str]], asking: set[str]) -> bool:
    """Return whether the question (`asking`: its words) is about this statement, whose answer is at `span`.

    It is if it names the statement's subject, directly or by way of one more sentence, and no other statement's. A question
    that names two subjects compares or computes, and one that names none may ask anything.
    """
    # The subject is what differs between the statements beside the answer.
    varying = []
    for index in range(len(statement)):
        if index not in span and any(other[index] != statement[index] for other in alike):
            varying.append(index)
    other_words = []
    for other in alike:
        if any(other[index] != statement[index] for index in varying):
            other_words.append({other[index] for index in varying})
    other_subjects = set().union(*other_words) - set(statement)
    subject = {statement[index] for index in varying}.difference(*other_words)
    if other_subjects & asking:
        return False
    if subject & asking:
        return True

    # "Bo is a cook. Bo brings figs. What does the cook bring?" names the subject by another sentence about it.
    common = set(chain.from_iterable(alike))
    linked = [set(sentence) for sentence in sentences if sentence not in alike and subject & set(sentence)]
    return any(sentence_words & asking - common for sentence_words in linked)


def _run(prompt: str, wanted: list[str]) -> int:
    """Return how many different numbers or letters are in a row with `wanted`; 0 if it is in none, or none is asked for."""
    if len(wanted) != 1 or not _PICKS.search(prompt) or _COMPUTES.search(prompt):
        return 0
    rows = [words(match[0]) for match in _RUN.finditer(prompt)]
    return max((len(set(row)) for row in rows if wanted[0] in row), default=0)


def _differing(first: list[str], other: list[str]) -> int:
    """Return in how many words two sentences of equal length differ."""
    return sum(a != b for a, b in zip(first, other, strict=True))
