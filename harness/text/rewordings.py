"""The same question in other words, without a model.

The fields are in another order, the question comes after its text, or a frame is put around it. Nothing that the answer depends
on changes, so an answer that changes did not follow the question.
"""

from __future__ import annotations

import json
import re

_FIELD = re.compile(r"\s*[^\s:：][^:：\n]{0,40}[:：]\s*\S")
_HAN = re.compile("[\u4e00-\u9fff]")
FRAMES = ("Please answer this.\n{}", "请回答。\n{}")
"""The frame of a question: for any script, and for Chinese."""


def rewrites(text: str) -> list[str]:
    """Return up to three rewrites of a question, each different from it; fewer if it has no fields or parts."""
    frame = FRAMES[1] if _HAN.search(text) else FRAMES[0]
    candidates = (_fields_reversed(text), _question_last(text), frame.format(text))
    return [candidate for candidate in dict.fromkeys(candidates) if candidate and candidate != text]


def _fields_reversed(text: str) -> str:
    """Return the text with its `name: value` lines, or a JSON object at its end, in reverse order; empty if it has neither."""
    head, brace, tail = text.partition("{")
    if brace and (fields := _object(brace + tail)):
        return head + json.dumps(dict(reversed(fields.items())), ensure_ascii=False)
    lines = text.split("\n")
    fields_at = [number for number, line in enumerate(lines) if _FIELD.match(line)]
    if len(fields_at) < 2:
        return ""
    rewritten = list(lines)
    for number, mirrored in zip(fields_at, reversed(fields_at), strict=True):
        rewritten[number] = lines[mirrored]
    return "\n".join(rewritten)


def _object(text: str) -> dict[str, object] | None:
    """Return the JSON object that a text is; None unless it is one with two fields or more."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and len(value) > 1 else None


def _question_last(text: str) -> str:
    """Return the text with its first line behind the others; empty if it has one line only."""
    first, _, rest = text.partition("\n")
    return f"{rest}\n{first}" if first.strip() and rest.strip() else ""
