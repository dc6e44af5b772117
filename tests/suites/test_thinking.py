"""The thinking suite: one closed thought that says something, and an answer after it."""

from __future__ import annotations

import json
import math

import pytest

from harness.tasks.suites import load_suite
from harness.text.thoughts import without_thoughts
from suites.thinking.build import FILE, rows
from suites.thinking.score import thought

ROW = {"answer": 43}
CASES = {
    "<think>\n64 - 24 is 40, plus 3.\n</think>\n\nThere are 43.": (1, 1, 1, 1),
    "<think>\n先算六十四减二十四。\n</think>\n\n现在有43本。": (1, 1, 1, 1),
    "64 - 24 is 40, plus 3.\n</think>\n\nThere are 43.": (1, 1, 1, 1),
    "<think>\n\n</think>\n\nThere are 43.": (0, 1, 1, 1),
    "There are 43.": (0, 0, 1, 1),
    "<think>\n64 - 24 is 40, plus 3, that is 43": (0, 0, 0, 0),
    "<think>\n64 - 24 is 40.\n</think>\n\n": (0, 1, 0, 0),
    "<think>\n40\n</think>\n\nThere are 44.": (1, 1, 1, 0),
    "<think>\n40\n</think>\n\nSo <think>again</think> There are 43.": (0, 0, 1, 1),
}


@pytest.mark.parametrize("raw", CASES)
def test_thoughts(raw: str) -> None:
    found = thought(without_thoughts(raw), ROW | {"raw": raw})
    assert next(iter(found)) == "kept"
    assert tuple(found[name] for name in ("kept", "closed", "answered", "right")) == CASES[raw]
    assert math.isnan(found["thought_words"]) == (found["closed"] == 0)


def test_the_length_of_a_thought() -> None:
    raw = "<think>\none two three\n</think>\n\n43"
    assert thought("43", ROW | {"raw": raw})["thought_words"] == 3


def test_the_file_is_what_the_builder_writes_and_asks_with_thoughts() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows()
    (task,) = load_suite("thinking")
    assert task.thinking
    assert task.area == "how"
    assert task.task.higher_is_better()["thought_words"] is None
