"""Whether the documents of an lm-eval task have a right answer: a score over those that have none would be wrong."""

from __future__ import annotations

from typing import Any

from harness.tasks.subset import Drawn

SHOWN = 3
"""Faults told of a task: a file of a wrong form has one in every line."""


def unanswerable(task: Drawn) -> list[str]:
    """Return what is wrong with a task's documents, a few of them named."""
    faults = [(doc["doc"], fault) for doc in task.docs if (fault := _fault(task.leaf(doc), doc["doc"]))]
    sentences = [f"item {str(doc)[:120]} {fault}" for doc, fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        sentences.append(f"and {len(faults) - SHOWN:,} more items like these")
    return sentences


def _fault(leaf: Any, doc: Any) -> str:
    if leaf.OUTPUT_TYPE == "multiple_choice":
        # lm-eval gives the index of the right choice, its text, or several of them.
        choices = leaf.doc_to_choice(doc)
        gold = leaf.doc_to_text(doc) if leaf.multiple_input else leaf.doc_to_target(doc)
        right = gold if isinstance(gold, list) else [gold]
        texts = all(isinstance(choice, str) for choice in choices)
        if texts and right and all(_among(choice, choices) for choice in right):
            return ""
        return f"has the label {gold!r} and {len(choices)} choices; give each its right choice, from 0 to {len(choices) - 1}"
    target = leaf.doc_to_target(doc)
    answers = target if isinstance(target, list) else [target]
    # An empty reference would make every empty answer right.
    return "" if answers and all(str(answer).strip() for answer in answers) else "has no answer; give each item its own"


def _among(gold: Any, choices: list[str]) -> bool:
    return gold in choices if isinstance(gold, str) else isinstance(gold, int) and 0 <= gold < len(choices)
