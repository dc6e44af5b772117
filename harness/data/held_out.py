"""Whether families that a suite calls held out are: what their items have in common with the general pool. No torch here.

Three comparisons a family, of which one is enough to call it seen:

    wording    at least 10 % of its items stand in the pool, by the rule of harness/data/contamination.py
    templates  at least 20 % of its items have a frame that a turn of the pool has. A frame is a question with every number and
               single letter left open, and every word that fewer than 5 % of the family's items hold; three words at least must
               be left
    source     suite and pool are one file or data set

The shares are guesses. A declared `seen = true` stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.data.contamination import Found, question
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.store.schema import key_of
from harness.text.near_duplicates import words

WORDING, TEMPLATES = 0.1, 0.2
FREQUENT, LEAST_WORDS = 0.05, 3
TEXTS = 150
"""Items of held-out families whose questions and right answers are texts to measure drift on."""
MOST_RECORDS = 20_000
"""Records of the pool that are looked through for templates, drawn by content."""


@dataclass(frozen=True)
class Family:
    """What was found of one general family."""

    family: str
    declared: str
    """`seen` or `held out`, as the suite says."""
    items: int
    wording: float
    """Share of its items whose wording stands in the pool."""
    templates: float
    """Share of its items that have the frame of a turn of the pool."""
    source: bool
    """Whether suite and pool are one file or data set."""

    @property
    def seen(self) -> bool:
        """Whether methods that draw on the pool may have seen it."""
        return self.declared == "seen" or self.wording >= WORDING or self.templates >= TEMPLATES or self.source

    @property
    def note(self) -> str:
        """The sentence that the report shows where the suite is contradicted; else ""."""
        if self.declared == "seen" or not self.seen:
            return ""
        reasons = ["suite and general data are one source"] * self.source
        reasons += [f"the wording of {self.wording:.0%} of its {self.items:,} items stands there"] * (self.wording >= WORDING)
        reasons += [f"{self.templates:.0%} of its {self.items:,} items have a template that stands there"] * (
            self.templates >= TEMPLATES
        )
        return f"{self.family} is declared held out from the general data, but {', and '.join(reasons)}: it counts as seen."

    def record(self) -> dict[str, Any]:
        """As comparison.json keeps it."""
        return asdict(self) | {"seen": self.seen}


def check_families(tasks: Sequence[Any], pool: Sequence[Record], contaminated: Sequence[Found], source: str) -> list[Family]:
    """What each general family of these tasks (EvalTask) has in common with the pool; `source`: where the pool is from."""
    drawn = sorted(pool, key=lambda record: key_of(["templates", record.id]))[:MOST_RECORDS]
    said = [words(turn.content) for record in drawn for turn in record.messages if turn.role in ("user", "text")]
    held: Mapping[str, int] = {found.task: len(found.places.get("general", ())) for found in contaminated}
    families: dict[str, list[Any]] = {}
    for task in tasks:
        if task.group == "general":
            families.setdefault(task.family, []).append(task)
    checked = []
    for name, own in families.items():
        questions = [words(question(task.task, doc)) for task in own for doc in task.task.eval_docs]
        declared = all(task.seen for task in own)
        checked.append(
            Family(
                name,
                "seen" if declared else "held out",
                len(questions),
                sum(held.get(task.name, 0) for task in own) / max(1, len(questions)),
                0.0 if declared else shared_frames(questions, said),
                any(_same_source(task, source) for task in own),
            )
        )
    return checked


def shared_frames(questions: Sequence[Sequence[str]], pool: Sequence[Sequence[str]]) -> float:
    """Share of the questions whose frame one of the pool's texts has; all as words."""
    counts = Counter(word for said in questions for word in set(said))
    frequent = {word for word, n in counts.items() if n >= max(2, FREQUENT * len(questions)) and not _filled_in(word)}
    frames = [_frame(said, frequent) for said in questions]
    telling = {frame for frame in frames if sum(word != "" for word in frame) >= LEAST_WORDS}
    found = telling & {_frame(said, frequent) for said in pool} if telling else set()
    return sum(frame in found for frame in frames) / max(1, len(frames))


def _filled_in(word: str) -> bool:
    """Whether a word is what templates are filled in with, however frequent: a number, or one letter of the Latin alphabet."""
    return word.isdigit() or (len(word) == 1 and word.isascii() and word.isalpha())


def _frame(said: Sequence[str], frequent: set[str]) -> tuple[str, ...]:
    """The words with all others left open; several open words in a row are one."""
    frame: list[str] = []
    for word in said:
        kept = word if word in frequent else ""
        if kept or not frame or frame[-1]:
            frame.append(kept)
    return tuple(frame)


def _same_source(task: Any, source: str) -> bool:
    """Whether a task's items come from the file or data set that the pool is from."""
    data_set = getattr(getattr(task.task, "config", None), "dataset_path", None)
    places = [str(name) for name in (task.suite, data_set) if name]
    if Path(source).is_file():
        return Path(source).resolve() in [Path(place).resolve() for place in places]
    return bool(source) and source.partition(":")[0] in places


def held_out_texts(tasks: Sequence[Any]) -> list[Record]:
    """Items of the held-out families as conversations, drawn by content, as many of each task.

    Each is what is asked, and the right answer. Items without a question (pairs of sentences, texts) have nothing to answer
    and are left out.
    """
    own = [task for task in tasks if task.group == "general" and task.seen is False]
    records: dict[str, Record] = {}
    for task in own:
        found = [record for doc in task.task.eval_docs if (record := _conversation(task.task, doc))]
        drawn = sorted(found, key=lambda record: record.id)[: max(1, TEXTS // len(own))]
        records |= {record.id: record for record in drawn}
    return list(records.values())


def _conversation(task: Any, doc: Any) -> Record | None:
    """An item's question and its right answer; None where it has not both."""
    asked, answer = task.doc_to_text(doc), task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(answer, int):
        choices = task.doc_to_choice(doc)
        answer = choices[answer] if 0 <= answer < len(choices) else ""
    if isinstance(answer, (list, tuple)):
        answer = answer[0] if answer else ""
    if not isinstance(asked, str) or not asked.strip() or not str(answer).strip():
        return None
    turns = (Turn("user", asked), Turn("assistant", str(answer).strip()))
    return Record(record_id(turns), turns, "an item of a held-out family")
