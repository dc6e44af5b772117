"""Whether families that a suite calls held out are: what their items share with the general pool. No torch here.

Three comparisons per family, of which one is enough to call it seen:

    wording    at least 10 % of its items occur in the pool, by the rule of harness/data/contamination.py
    templates  at least 20 % of its items have a frame that a turn of the pool has. A frame is a question with a gap for every
               number and single letter, and for every word that fewer than 5 % of the family's items contain; at least three
               words must be left
    source     suite and pool are the same file or data set

The shares are guesses. A declared `seen = true` stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.alike.grams import words
from harness.data.contamination import ContaminatedTask, question
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.store.schema import key_of

WORDING = 0.1
"""Share of a family's items with their wording in the pool, from which the family counts as seen."""
TEMPLATES = 0.2
"""Share of its items with a template in the pool, likewise."""
FREQUENT = 0.05
"""Share of a family's items that contain a word, from which the word is part of a template."""
LEAST_WORDS = 3
"""Words that a frame must have."""
TEXTS = 150
"""Items of held-out families whose questions and right answers are texts to measure drift on."""
MOST_RECORDS = 20_000
"""Records of the pool that are searched for templates, sampled by a hash of their content."""


@dataclass(frozen=True)
class Family:
    """A general family of items, and what it shares with the general pool."""

    family: str
    declared: str
    """`seen` or `held out`, as the suite says."""
    items: int
    wording: float
    """Share of its items whose wording occurs in the pool."""
    templates: float
    """Share of its items that have the frame of a turn of the pool."""
    source: bool
    """Whether suite and pool are the same file or data set."""

    @property
    def seen(self) -> bool:
        """Whether methods that draw on the pool may have seen it."""
        return self.declared == "seen" or self.wording >= WORDING or self.templates >= TEMPLATES or self.source

    @property
    def note(self) -> str:
        """The sentence of the report where this finding contradicts the suite; else empty."""
        if self.declared == "seen" or not self.seen:
            return ""
        # Any of three signs is enough; the sentence names all that hold.
        reasons = []
        if self.source:
            reasons.append("suite and general data are one source")
        if self.wording >= WORDING:
            reasons.append(f"the wording of {self.wording:.0%} of its {self.items:,} items stands there")
        if self.templates >= TEMPLATES:
            reasons.append(f"{self.templates:.0%} of its {self.items:,} items have a template that stands there")
        return f"{self.family} is declared held out from the general data, but {', and '.join(reasons)}: it counts as seen."

    def record(self) -> dict[str, Any]:
        """Return the entry of comparison.json."""
        return asdict(self) | {"seen": self.seen}


def check_families(
    tasks: Sequence[Any], pool: Sequence[Record], contaminated: Sequence[ContaminatedTask], source: str
) -> list[Family]:
    """Return what each general family of these tasks (EvalTask) shares with the pool; `source`: where the pool is from."""
    # A sample by hash: frames are looked for in each turn, and a pool may have a million.
    sampled = sorted(pool, key=lambda record: key_of(["templates", record.id]))[:MOST_RECORDS]
    pool_words = []
    for record in sampled:
        pool_words += [words(turn.content) for turn in record.messages if turn.role in ("user", "text")]

    # Items are taken by task, families by name: a family may have several tasks.
    in_pool: Mapping[str, int] = {entry.task: len(entry.places.get("general", ())) for entry in contaminated}
    families: dict[str, list[Any]] = {}
    for task in tasks:
        if task.group == "general":
            families.setdefault(task.family, []).append(task)
    return [_family(name, members, pool_words, in_pool, source) for name, members in families.items()]


def _family(
    name: str, tasks: Sequence[Any], pool_words: Sequence[Sequence[str]], in_pool: Mapping[str, int], source: str
) -> Family:
    """Return what one family shares with the pool; `in_pool`: task -> items whose wording occurs there."""
    questions = []
    for task in tasks:
        questions += [words(question(task.task, doc)) for doc in task.task.eval_docs]
    # A family is seen if every task of it is.
    declared = all(task.seen for task in tasks)
    contaminated = sum(in_pool.get(task.name, 0) for task in tasks)
    return Family(
        family=name,
        declared="seen" if declared else "held out",
        items=len(questions),
        wording=contaminated / max(1, len(questions)),
        templates=0.0 if declared else shared_frames(questions, pool_words),
        source=any(_same_source(task, source) for task in tasks),
    )


def shared_frames(questions: Sequence[Sequence[str]], pool: Sequence[Sequence[str]]) -> float:
    """Return the share of the questions whose frame one of the pool's texts has; all are given as words."""
    counts = Counter[str]()
    for question_words in questions:
        counts.update(set(question_words))

    # A word that stands in many questions and fills no gap belongs to the template.
    least = max(2, FREQUENT * len(questions))
    frequent = {word for word, count in counts.items() if count >= least and not _filled_in(word)}

    # A frame of one or two words ("What is ...?") is anybody's phrase.
    frames = [_frame(question_words, frequent) for question_words in questions]
    specific = {frame for frame in frames if sum(word != "" for word in frame) >= LEAST_WORDS}
    if not specific:
        return 0.0

    # The pool's texts are cut into frames by the same words, so that like frames are equal.
    shared = specific & {_frame(text_words, frequent) for text_words in pool}
    return sum(frame in shared for frame in frames) / max(1, len(frames))


def _filled_in(word: str) -> bool:
    """Return whether a word fills a template's gap, however frequent it is: a number, or one letter of the Latin alphabet."""
    return word.isdigit() or (len(word) == 1 and word.isascii() and word.isalpha())


def _frame(text_words: Sequence[str], frequent: set[str]) -> tuple[str, ...]:
    """Return the frequent words with a gap ("") for all others; several others in a row are one gap."""
    frame: list[str] = []
    for word in text_words:
        kept = word if word in frequent else ""
        # Gaps in a row are one, so that a longer name makes the same frame.
        if kept or not frame or frame[-1]:
            frame.append(kept)
    return tuple(frame)


def _same_source(task: Any, source: str) -> bool:
    """Return whether a task's items come from the file or data set that the pool is from."""
    # lm-eval's own tasks name their data set, which may be what the pool was made from.
    data_set = getattr(getattr(task.task, "config", None), "dataset_path", None)
    origins = [str(name) for name in (task.suite, data_set) if name]
    if Path(source).is_file():
        return Path(source).resolve() in [Path(origin).resolve() for origin in origins]
    return bool(source) and source.partition(":")[0] in origins


def held_out_texts(tasks: Sequence[Any]) -> list[Record]:
    """Return items of the held-out families as conversations, hash-sampled, equally many of each task.

    Each is a question and its right answer. Items without a question (pairs of sentences, texts) have nothing to answer and
    are left out.
    """
    held_out = [task for task in tasks if task.group == "general" and task.seen is False]
    records: dict[str, Record] = {}
    for task in held_out:
        conversations = []
        for doc in task.task.eval_docs:
            record = _conversation(task.task, doc)

            # The same items for every model, and as many of each task.
            if record is not None:
                conversations.append(record)
        conversations.sort(key=lambda record: record.id)  # ids are hashes of the content
        for record in conversations[: max(1, TEXTS // len(held_out))]:
            records[record.id] = record
    return list(records.values())


def _conversation(task: Any, doc: Any) -> Record | None:
    """Return an item's question and its right answer as a record; None where it lacks one of them."""
    prompt = task.doc_to_text(doc)
    answer = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(answer, int):
        choices = task.doc_to_choice(doc)
        answer = choices[answer] if 0 <= answer < len(choices) else ""
    # Some tasks accept several answers: the first is the reference.
    if isinstance(answer, (list, tuple)):
        answer = answer[0] if answer else ""
    if not isinstance(prompt, str) or not prompt.strip() or not str(answer).strip():
        return None
    turns = (Turn("user", prompt), Turn("assistant", str(answer).strip()))
    return Record(record_id(turns), turns, "an item of a held-out family")
