"""Does every document of an lm-eval task say what is right?

lm-eval scores a document whose label is missing, hidden (-1, as in test splits), out of range or text ("1", "entailment") as
wrong, with a warning at most: a number that looks like a model's failure. Here such a task is refused before anything runs.
"""

from __future__ import annotations

from typing import Any

from harness.drawn import Drawn

SHOWN = 3
"""Faults told of a task: a file of a wrong form has one in every line."""


def unanswerable(task: Drawn) -> list[str]:
    """What is wrong with a task's documents, a few of them named."""
    found = [(doc["doc"], fault) for doc in task.docs if (fault := _fault(task.leaf(doc), doc["doc"]))]
    told = [f"item {str(doc)[:120]} {fault}" for doc, fault in found[:SHOWN]]
    return [*told, *([f"and {len(found) - SHOWN:,} more items like these"] if len(found) > SHOWN else [])]


def _fault(leaf: Any, doc: Any) -> str:
    if leaf.OUTPUT_TYPE == "multiple_choice":
        choices = leaf.doc_to_choice(doc)
        gold = leaf.doc_to_text(doc) if leaf.multiple_input else leaf.doc_to_target(doc)
        right = gold if isinstance(gold, list) else [gold]
        texts = all(isinstance(choice, str) for choice in choices)
        if texts and right and all(_among(one, choices) for one in right):
            return ""
        return f"has the label {gold!r} and {len(choices)} choices; give each its right choice, from 0 to {len(choices) - 1}"
    target = leaf.doc_to_target(doc)
    answers = target if isinstance(target, list) else [target]
    return "" if answers and all(str(answer).strip() for answer in answers) else "has no answer; give each item its own"


def _among(gold: Any, choices: list[str]) -> bool:
    return gold in choices if isinstance(gold, str) else isinstance(gold, int) and 0 <= gold < len(choices)
