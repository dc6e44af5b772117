"""Long prompts: items that ask about facts which stand somewhere in a long plain text, made as long as the tokenizer says."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

from harness.errors import PlanError
from harness.files.item_row import Doc
from harness.store.schema import key_of

BEFORE = "Read this text. A question about it comes at the end.\n\n"
ROOM = 128
"""Tokens of an item's length that are left for the chat template, the question and the answer: a guess."""
CHARACTERS = 4
"""Characters of a token where no tokenizer is at hand."""


class Filler:
    """A plain text, of which every item gets a part: whole paragraphs, so many tokens, from a place of its own."""

    def __init__(self, text: str, count: Callable[[str], int] | None) -> None:
        self.paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        # Without a tokenizer the length is a guess, and stands in for it where nothing is asked of
        # a model.
        self.count = count or (lambda part: len(part) // CHARACTERS + 1)
        sizes = [self.count(paragraph + "\n\n") for paragraph in self.paragraphs]
        # twice, so that a part may begin anywhere and go on at the text's beginning
        self.ends = list(accumulate([*sizes, *sizes], initial=0))

    @property
    def size(self) -> int:
        """Tokens of the whole text."""
        return self.ends[len(self.paragraphs)]

    def prompt(self, doc: Doc) -> str:
        """Return an item's prompt: its part of the text, each fact between two paragraphs, and the question."""
        facts = doc["fill"]["facts"]
        wanted = doc["fill"]["tokens"] - ROOM - sum(self.count(text) for _, text in facts)
        # By a hash of the item, so that its part of the text is the same in every run.
        first = int(key_of([doc["prompt"], facts]), 16) % len(self.paragraphs)
        last = max(bisect_right(self.ends, self.ends[first] + wanted) - 1, first + 1)
        part = [self.paragraphs[index % len(self.paragraphs)] for index in range(first, last)]
        # the deepest first, so that the places of the others stay what they are
        for depth, text in sorted(facts, key=lambda fact: -fact[0]):
            part.insert(round(depth * len(part)), text)
        return BEFORE + "\n\n".join(part) + "\n\n" + doc["prompt"]


def fill(
    name: str, docs: Sequence[Doc], text: str, count: Callable[[str], int] | None, context: int | None
) -> tuple[list[Doc], list[str]]:
    """Return (the items with their long prompts, what the report must say); those that the context cannot hold are left out.

    `context`: tokens that the model reads; None: not known, so all stay.
    """
    filler = Filler(text, count)

    # A shorter filler would make items easier than they say.
    longest = max((doc["fill"]["tokens"] for doc in docs if "fill" in doc), default=0)
    if longest > filler.size:
        raise PlanError(f"{name}: an item asks for {longest:,} tokens of text, but the filler has {filler.size:,}; lengthen it")
    kept: list[Doc] = []
    left_out: Counter[int] = Counter()
    for doc in docs:
        tokens = doc["fill"]["tokens"] if "fill" in doc else 0
        # An item that does not fit would lose the facts that it asks about.
        if context is not None and tokens > context:
            left_out[tokens] += 1
        elif tokens:
            kept.append(doc | {"prompt": filler.prompt(doc)})
        else:
            kept.append(doc)
    if not left_out:
        return kept, []
    lengths = ", ".join(f"{tokens:,}" for tokens in sorted(left_out))
    note = f"{name}: {left_out.total()} items of {lengths} tokens are left out: the model's context is {context:,}."
    return kept, [note]
