"""Thoughts in the marks of many models, and what only looks like them."""

from __future__ import annotations

import pytest

from harness.text.thoughts import PAIRS, split_thoughts, unknown_mark, without_thoughts

OPEN_CHANNEL = "<|channel|>analysis<|message|>"
CHANNELS = f"{OPEN_CHANNEL}so<|end|><|start|>assistant<|channel|>final<|message|>buy<|return|>"
SOLUTION = "<|begin_of_thought|>\nso\n<|end_of_thought|>\n\n<|begin_of_solution|>\nbuy\n<|end_of_solution|>"


def test_every_known_pair_is_read():
    for pair in PAIRS:
        for opening, closing in ((pair.open, pair.close), (pair.open.upper(), pair.close.upper())):
            assert split_thoughts(f"{opening}\nso\n{closing}\n\nbuy") == ("so", "buy"), pair
            unended = f"{opening} so buy"
            assert without_thoughts(unended) == (unended if pair.words else ""), pair


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("buy", (None, "buy")),
        ("so</think>buy", ("so", "buy")),
        ("<think>\n\n</think>\n\nbuy", ("", "buy")),
        ("<think>a</think><thinking>b</thinking>buy", ("a\nb", "buy")),
        (CHANNELS, ("so", "buy")),
        ("<|start|>assistant" + CHANNELS, ("so", "buy")),
        ("<|channel|>final<|message|>buy<|return|>", ("", "buy")),
        (SOLUTION, ("so", "buy")),
        ("<|START_THINKING|>so<|END_THINKING|><|START_RESPONSE|>buy<|END_RESPONSE|>", ("so", "buy")),
        ("buy </reasoning> now", (None, "buy </reasoning> now")),
        ("buy<|end|>", (None, "buy<|end|>")),
        ("<|channel>thought\nso<channel|>buy", ("so", "buy")),
        ("<|channel>thought\n<channel|>buy", ("", "buy")),
        ("<unused94>thought\nso<unused95>buy", ("so", "buy")),
        ("Here is my thought process: so\n\nHere is my response:\n\nbuy", ("so", "buy")),
        ("Here is my response:\nbuy", (None, "Here is my response:\nbuy")),
        ("<scratchpad>so</scratchpad>\nbuy", ("so", "buy")),
        ("<ponder>so</ponder>buy", (None, "<ponder>so</ponder>buy")),
    ],
)
def test_thoughts_and_answer(answer, expected):
    assert split_thoughts(answer) == expected
    assert without_thoughts(answer) == expected[1]


def test_what_only_looks_like_a_mark_is_told():
    for text in ("<ponder>so</ponder>buy", "<|cot_thought|>a", "a <REFLECTION>b", "[thought]a", "so <|channel|>x"):
        assert unknown_mark(text) in text and unknown_mark(text), text
    for text in ("see [here](x) [1]", "a <b>c</b>", "I think <so>", "<think>so</think>buy", CHANNELS):
        assert unknown_mark(text) == "", text
