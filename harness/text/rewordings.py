"""The same question in other words, without a model: fields in another order, the question behind what it is about, a frame.

A rewrite changes nothing that the answer depends on, so an answer that changes with it was not about the question.
"""

from __future__ import annotations

import json
import re

_FIELD = re.compile(r"\s*[^\s:：][^:：\n]{0,40}[:：]\s*\S")
_HAN = re.compile("[\u4e00-\u9fff]")
FRAMES = ("Please answer this.\n{}", "请回答。\n{}")
"""What stands before a question in the last rewrite: for any script, for Chinese."""


def rewrites(text: str) -> list[str]:
    """Up to three rewrites of a question, each different from it: what has no fields or parts has fewer."""
    frame = FRAMES[bool(_HAN.search(text))]
    found = (_fields_reversed(text), _question_last(text), frame.format(text))
    return [one for one in dict.fromkeys(found) if one and one != text]


def _fields_reversed(text: str) -> str:
    """Runs of `name: value` lines, and a JSON object at the end, with their fields in reverse order; "" without any."""
    head, brace, tail = text.partition("{")
    if brace and (fields := _object(brace + tail)):
        return head + json.dumps(dict(reversed(fields.items())), ensure_ascii=False)
    lines = text.split("\n")
    places = [place for place, line in enumerate(lines) if _FIELD.match(line)]
    if len(places) < 2:
        return ""
    swapped = dict(zip(places, reversed(places), strict=True))
    return "\n".join(lines[swapped.get(place, place)] for place in range(len(lines)))


def _object(text: str) -> dict[str, object] | None:
    """The JSON object a text is, where it is one with two fields or more."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and len(found) > 1 else None


def _question_last(text: str) -> str:
    """The first line behind the others; "" where there is one line only."""
    first, _, rest = text.partition("\n")
    return f"{rest}\n{first}" if first.strip() and rest.strip() else ""
