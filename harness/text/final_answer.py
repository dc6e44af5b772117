"""The final answer of a text that shows its working: what its writer marked as the answer.

Data sets and models mark it in a few ways:

    #### 72                          GSM8K, and what is trained on it
    \\boxed{72}                       MATH, and models that were trained to reason
    <answer>72</answer>              models that put thoughts and answer in tags of their own
    The answer is: 72                MetaMathQA, as the last line; "Answer: 72" and "答案：72" likewise

Pure functions of texts.
"""

from __future__ import annotations

import re

_HASHES = re.compile(r"^[ \t]*####[ \t]*(?P<answer>[-+\u2212$€£¥]?\(?\.?\d[\d.,/ ]*\)?[ \t]*%?)[ \t]*$", re.MULTILINE)
"""Marks of GSM8K before a number. The first counts: a base model goes on to the next question of its own."""
_LAST_LINE = re.compile(
    r"(?:####|(?:the )?(?:final )?answer(?: is)?[ \t]*[:：]|(?:最终)?答案(?:是|为)?[ \t]*[:：])[ \t]*(?P<answer>\S.*)",
    re.IGNORECASE,
)
"""What announces an answer that fills the rest of the last line. Elsewhere the same may be a heading."""
_TAGS = re.compile(
    r"<answer>(?P<tag>.*?)</answer>|<\|begin_of_box\|>(?P<box>.*?)<\|end_of_box\|>"
    r"|<\|answer_prefix\|>(?P<prefix>.*?)<\|answer_suffix\|>",
    re.DOTALL | re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{(?P<words>[^{}]*)\}")


def final_answer(text: str) -> str | None:
    """Return the part of a text that is marked as its answer; None if there is no mark, or nothing inside it."""
    answer = _tagged(text) or _boxed(text) or _hashed(text) or _last_line(text)
    return (answer or "").strip().strip("*").strip() or None


def _tagged(text: str) -> str | None:
    """Return the last answer in tags; a mark inside it counts too."""
    tags = list(_TAGS.finditer(text))
    if not tags:
        return None
    inside = next((part for part in tags[-1].groups() if part is not None), "")
    return final_answer(inside) or inside


def _boxed(text: str) -> str | None:
    """Return what the last box holds, its braces balanced."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    begin = boxes[-1].end()
    depth = 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return _WORDS.sub(lambda match: match["words"], text[begin:position])
    return None


def _hashed(text: str) -> str | None:
    match = _HASHES.search(text)
    return match["answer"] if match else None


def _last_line(text: str) -> str | None:
    lines = text.strip().splitlines()
    match = _LAST_LINE.match(lines[-1].strip().strip("*")) if lines else None
    return match["answer"] if match else None
