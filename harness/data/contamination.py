"""Contamination: suite items whose wording stands in what is trained on. No torch here.

An item is contaminated where at least 70 % of the 8-grams of its question stand in training texts (PaLM's rule: Chowdhery et
al. 2022, arXiv:2204.02311, section 8). Words are those of harness/text/near_duplicates.py: case and punctuation aside, a
Chinese character
is one. A question of fewer than 8 words is contaminated where it is a whole turn of a training text: as a part of one it may be
anybody's phrase. Grams that more than 1 % of a task's items hold (20 at least) are its boilerplate and tell nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.files.records import Record
from harness.text.near_duplicates import words

GRAM = 8
SHARE = 0.7
BOILERPLATE = 0.01
LEAST_BOILERPLATE = 20
RULE = f"at least {SHARE:.0%} of a question's {GRAM}-grams of words (shorter: all of it) stand in training texts"
Gram = tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The items of one task whose wording stands in training texts."""

    task: str
    suite: str
    items: int
    places: dict[str, tuple[int, ...]]
    """What is trained on (`domain`, `general`) -> places of the items that stand in it."""
    excluded: tuple[int, ...]
    """Those that are not evaluated."""
    examples: tuple[str, ...]
    """The beginnings of some."""

    @property
    def note(self) -> str:
        """The sentence that the report shows."""
        where = " and ".join(f"{len(some):,} in the {name} data" for name, some in self.places.items() if some)
        left = f"{len(self.excluded):,} are not evaluated" if self.excluded else "all are evaluated"
        return f"{self.task}: of {self.items:,} items {where} that is trained on stand ({RULE}); {left}."

    def record(self) -> dict[str, Any]:
        """As comparison.json keeps it."""
        counts = {name: len(some) for name, some in self.places.items()}
        told = {"task": self.task, "suite": self.suite, "items": self.items, "examples": list(self.examples)}
        return told | counts | {"excluded": len(self.excluded), "places": {k: list(v) for k, v in self.places.items()}}


def question(task: Any, doc: Any) -> str:
    """What an item asks: its prompt without examples; sentences and texts that have none are read themselves."""
    asked = task.doc_to_text(doc)
    if isinstance(asked, str) and asked.strip():
        return asked
    if task.OUTPUT_TYPE == "multiple_choice":
        return " ".join(map(str, task.doc_to_choice(doc)))
    return str(task.doc_to_target(doc))


class Index:
    """Which grams of the items stand in training texts: only the items' own are remembered."""

    def __init__(self, questions: Iterable[str]) -> None:
        self.wanted = {gram for text in questions for gram in grams(words(text))}

    def held(self, texts: Iterable[str]) -> set[Gram]:
        """Those of the wanted grams that the texts hold."""
        found: set[Gram] = set()
        for text in texts:
            said = words(text)
            found.update(gram for i in range(len(said) - GRAM + 1) if (gram := tuple(said[i : i + GRAM])) in self.wanted)
            if len(said) < GRAM and tuple(said) in self.wanted:
                found.add(tuple(said))
        return found


def grams(said: Sequence[str]) -> list[Gram]:
    """The 8-grams of a text's words; a shorter text is one gram."""
    return [tuple(said[i : i + GRAM]) for i in range(max(1, len(said) - GRAM + 1))] if said else []


def contaminated(questions: Sequence[str], held: set[Gram]) -> list[int]:
    """Places of the questions whose telling grams stand, at least to 70 %, among these."""
    own = [set(grams(words(text))) for text in questions]
    counts = Counter[Gram](gram for found in own for gram in found if len(gram) == GRAM)
    limit = max(LEAST_BOILERPLATE, BOILERPLATE * len(questions))
    telling = [[gram for gram in found if counts[gram] <= limit] for found in own]
    return [place for place, found in enumerate(telling) if found and sum(g in held for g in found) >= SHARE * len(found)]


def search(tasks: Sequence[Any], sources: Mapping[str, Sequence[Record]], exclude: bool = True) -> list[Found]:
    """What the general tasks (EvalTask) have in common with each source of training records, by task that has anything.

    With `exclude`, items that stand in the domain's data are excluded, and items of held-out families that stand in the general
    pool: seen families may feed methods by their definition, and the report tells the two apart.
    """
    asked = {task.name: [question(task.task, doc) for doc in task.task.eval_docs] for task in tasks if task.group == "general"}
    index = Index(text for questions in asked.values() for text in questions)
    held = {name: index.held(turn for r in records for turn in _texts(r)) for name, records in sources.items()}
    found = []
    for task in tasks:
        questions = asked.get(task.name, [])
        places = {name: tuple(contaminated(questions, grams_)) for name, grams_ in held.items()}
        everywhere = sorted({place for some in places.values() for place in some})
        if everywhere:
            strict = [name for name in places if name != "general" or not task.seen]
            excluded = tuple(sorted({place for name in strict for place in places[name]})) if exclude else ()
            examples = tuple(" ".join(questions[place].split())[:160] for place in everywhere[:3])
            found.append(Found(task.name, task.suite, len(questions), places, excluded, examples))
    return found


def _texts(record: Record) -> list[str]:
    """Each turn, and all of them in a row: a question may stand over two."""
    turns = [turn.content for turn in record.messages if turn.role != "system"]
    return [*turns, "\n".join(turns)] if len(turns) > 1 else turns
