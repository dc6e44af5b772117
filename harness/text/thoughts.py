"""Thoughts: what a model writes between <think> and </think> before its answer.

They are trained where the data has them, and never scored: a scorer reads the answer after them.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
MARKS = (OPEN, CLOSE)
NONE = f"{OPEN}\n\n{CLOSE}\n\n"
"""Thoughts that are skipped, as Qwen 3 writes them."""
_FIRST = re.compile(rf"\s*(?:{OPEN})?((?:(?!{OPEN}).)*?){CLOSE}\s*", re.DOTALL)
_OPENED = re.compile(rf"{OPEN}\s*\Z")
_SKIPPED = re.compile(rf"{OPEN}\s*{CLOSE}\s*\Z")


def split_thoughts(answer: str) -> tuple[str | None, str]:
    """Return (thoughts, the answer after them); None where it has none. Blocks that follow each other count as one.

    The opening mark may be missing: where a prompt ends with it, answers begin inside.
    """
    thoughts: list[str] = []
    while block := _FIRST.match(answer):
        thoughts.append(block[1].strip())
        answer = answer[block.end() :]
    return ("\n".join(filter(None, thoughts)) if thoughts else None), answer


def without_thoughts(output: str, inside: bool = False) -> str:
    """Return what a scorer reads of an output: nothing while a thought is open. `inside`: the prompt opened one."""
    _, closed, answer = output.rpartition(CLOSE)
    if closed:
        return answer.lstrip()
    return "" if inside or output.lstrip().startswith(OPEN) else output


def ending_of(prompt: str) -> str:
    """Return the thoughts, open or skipped, that a prompt ends with; "" for none."""
    found = _OPENED.search(prompt) or _SKIPPED.search(prompt)
    return found[0] if found else ""


def is_open(ending: str) -> bool:
    """Whether a prompt's ending leaves a thought open."""
    return bool(_OPENED.search(ending))


def after_prompt(ending: str, answer: str, thoughts: str, thinking: bool) -> str:
    """Return the answer as it follows a prompt with this ending, its thoughts written once.

    `answer` is what a template writes behind the prompt less the ending: it may have left out the record's `thoughts`, or
    have put empty ones before them.
    """
    own, said = split_thoughts(answer)
    once = answer.count(OPEN) <= 1
    if answer.startswith(ending) and once and (own or not thoughts or not thinking):
        return answer[len(ending) :]
    kept = (own or thoughts) if thinking else ""
    if is_open(ending):
        return f"{kept}\n{CLOSE}\n\n{said}"
    if ending or not kept:
        return said
    return f"{OPEN}\n{kept}\n{CLOSE}\n\n{said}"
