"""Contamination: suite items whose wording occurs in what is trained on. No torch here.

An item is contaminated if at least 70 % of the 8-grams of its question occur in training texts (PaLM's rule: Chowdhery et al.
2022, arXiv:2204.02311, section 8). Words are those of harness/alike/grams.py: without case and punctuation, and each
Chinese character is one. A question of fewer than 8 words is contaminated if it is a whole turn of a training text: as a part
of one it may be anybody's phrase. Grams that more than 1 % of a task's items contain (at least 20) are its boilerplate, and do
not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.alike.grams import words
from harness.files.records import Record

GRAM = 8
SHARE = 0.7
BOILERPLATE = 0.01
LEAST_BOILERPLATE = 20
RULE = f"at least {SHARE:.0%} of a question's {GRAM}-grams of words (shorter: all of it) stand in training texts"
Gram = tuple[str, ...]


@dataclass(frozen=True)
class ContaminatedTask:
    """The items of one task whose wording occurs in training texts."""

    task: str
    suite: str
    items: int
    places: dict[str, tuple[int, ...]]
    """Source of training texts (`domain`, `general`) -> indices of the items that occur in it."""
    excluded: tuple[int, ...]
    """Indices of the items that are not evaluated."""
    examples: tuple[str, ...]
    """The beginnings of some contaminated questions."""

    @property
    def note(self) -> str:
        """The sentence that the report shows."""
        counts = [f"{len(indices):,} in the {name} data" for name, indices in self.places.items() if indices]
        where = " and ".join(counts)
        left = f"{len(self.excluded):,} are not evaluated" if self.excluded else "all are evaluated"
        return f"{self.task}: of {self.items:,} items {where} that is trained on stand ({RULE}); {left}."

    def record(self) -> dict[str, Any]:
        """Return the entry of comparison.json."""
        task = {"task": self.task, "suite": self.suite, "items": self.items, "examples": list(self.examples)}
        counts = {name: len(indices) for name, indices in self.places.items()}
        places = {name: list(indices) for name, indices in self.places.items()}
        return task | counts | {"excluded": len(self.excluded), "places": places}


def question(task: Any, doc: Any) -> str:
    """Return what an item asks: its prompt without examples.

    Items without a prompt (pairs of sentences, texts) are taken as they are.
    """
    # Some tasks ask nothing in the prompt: their choices or their target are then what training
    # could have shown.
    prompt = task.doc_to_text(doc)
    if isinstance(prompt, str) and prompt.strip():
        return prompt
    if task.OUTPUT_TYPE == "multiple_choice":
        return " ".join(map(str, task.doc_to_choice(doc)))
    return str(task.doc_to_target(doc))


class Index:
    """The grams of the items, to be looked for in training texts. Only the items' own grams take memory."""

    def __init__(self, questions: Iterable[str]) -> None:
        self.wanted: set[Gram] = set()
        # Only what items hold is looked for, so a large pool of records costs time and no memory.
        for text in questions:
            self.wanted.update(grams(words(text)))

    def in_texts(self, texts: Iterable[str]) -> set[Gram]:
        """Return the grams of the items that occur in these texts."""
        present: set[Gram] = set()
        for text in texts:
            text_words = words(text)
            for begin in range(len(text_words) - GRAM + 1):
                gram = tuple(text_words[begin : begin + GRAM])
                if gram in self.wanted:
                    present.add(gram)

            # A short question counts only where it is the whole text.
            if len(text_words) < GRAM and tuple(text_words) in self.wanted:
                present.add(tuple(text_words))
        return present


def grams(text_words: Sequence[str]) -> list[Gram]:
    """Return the 8-grams of a text's words; a shorter text is one gram."""
    if not text_words:
        return []
    begins = range(max(1, len(text_words) - GRAM + 1))
    return [tuple(text_words[begin : begin + GRAM]) for begin in begins]


def contaminated(questions: Sequence[str], present: set[Gram]) -> list[int]:
    """Return the indices of the questions of which at least 70 % of the grams are present, boilerplate aside."""
    # A gram that many questions share is the task's wording, not this question's.
    grams_of = [set(grams(words(text))) for text in questions]
    counts = Counter[Gram]()
    for question_grams in grams_of:
        counts.update(gram for gram in question_grams if len(gram) == GRAM)
    limit = max(LEAST_BOILERPLATE, BOILERPLATE * len(questions))

    # An item all of whose grams are boilerplate says nothing, and is kept.
    indices = []
    for index, question_grams in enumerate(grams_of):
        rare = [gram for gram in question_grams if counts[gram] <= limit]
        if rare and sum(gram in present for gram in rare) >= SHARE * len(rare):
            indices.append(index)
    return indices


def search(tasks: Sequence[Any], sources: Mapping[str, Sequence[Record]], exclude: bool = True) -> list[ContaminatedTask]:
    """Return what the general tasks (EvalTask) have in common with each source of training records; one entry per such task.

    With `exclude`, items that occur in the domain's data are excluded, and so are items of held-out families that occur in the
    general pool. Seen families may feed methods by their definition, and the report keeps the two apart.
    """
    questions_of: dict[str, list[str]] = {}
    for task in tasks:
        if task.group == "general":
            questions_of[task.name] = [question(task.task, doc) for doc in task.task.eval_docs]

    # The training texts are read once, for all tasks together.
    index = Index(chain.from_iterable(questions_of.values()))
    present = {name: index.in_texts(_texts(records)) for name, records in sources.items()}

    findings = []
    for task in tasks:
        questions = questions_of.get(task.name, [])
        places = {name: tuple(contaminated(questions, source_grams)) for name, source_grams in present.items()}
        everywhere = sorted(set().union(*places.values()))
        if not everywhere:
            continue

        # In a seen family the general pool may hold the wording: that is what seen means, so only
        # the domain's data excludes.
        strict = [places[name] for name in places if name != "general" or not task.seen]
        excluded = sorted(set().union(*strict)) if exclude else []
        examples = [" ".join(questions[number].split())[:160] for number in everywhere[:3]]
        findings.append(ContaminatedTask(task.name, task.suite, len(questions), places, tuple(excluded), tuple(examples)))
    return findings


def _texts(records: Iterable[Record]) -> Iterator[str]:
    """Yield each turn of these records, and all turns of a record in a row: a question may span two."""
    for record in records:
        # A question may span two turns, so the record is read as a whole too.
        turns = [turn.content for turn in record.messages if turn.role != "system"]
        yield from turns
        if len(turns) > 1:
            yield "\n".join(turns)
