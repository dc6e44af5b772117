"""Whether an answer has one closed thought that says something, and an answer after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.text.answer_metrics import best
from harness.text.text_quality import words
from harness.text.thoughts import split_thoughts, unknown_mark

DIRECTIONS = {"thought_words": None}


def thought(output: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Score an answer; `row["raw"]` is the answer with its thoughts, `output` what is left without them.

    kept = closed, not empty, and followed by an answer in which no other thought stands; thought_words = its length; right =
    whether the answer has the number asked for, whatever became of the thought.
    """
    raw = str(row.get("raw", output))
    thoughts, _ = split_thoughts(raw)
    closed = thoughts is not None and not unknown_mark(raw) and not unknown_mark(thoughts)
    said = bool(thoughts and thoughts.strip())
    answered = bool(output.strip())
    scores = {"kept": closed and said and answered, "closed": closed, "answered": answered}
    found = {name: float(score) for name, score in scores.items()}
    found["thought_words"] = float(len(words(thoughts or ""))) if closed else math.nan
    found["right"] = best("numeric", output, [str(row["answer"])], (), {}) if answered else 0.0
    return found
