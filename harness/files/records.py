"""Records: what the user's file holds, read from any known form into chat messages. No torch here.

A record's form is told by the fields that it must have (`FORMS`), so one file may mix forms; a record that is whole in two
forms is refused. harness/fields/table.py has every field's meaning; what is not read is counted and named once.

Whatever is wrong is reported once, together: file, record, field, cure.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from harness.errors import PlanError
from harness.fields.names import nearest
from harness.fields.refusals import refusals
from harness.fields.table import ANSWERS, CHATS, CHOICES, HISTORIES, KINDS, LETTERS, SYSTEMS, THOUGHTS, Place
from harness.files.choices import has_options, read_choice, read_options, unlabelled
from harness.files.formats import read_rows
from harness.files.row import Row, listed, shortened, unread_note
from harness.files.turns import FIRST_WORDS, Turn, read_chat, read_history, read_system, with_thoughts

CHOOSE = "Answer this multiple-choice question with the letter of the correct option."
CHOOSE_ZH = "请回答下面的单项选择题，只输出正确选项的字母。"
HAN = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Record:
    """One training or test conversation."""

    id: str
    """16 hex digits of its messages: the same content has the same id, wherever it stands."""
    messages: tuple[Turn, ...]
    origin: str
    """Where it stands, as an error would say it: "finance.json record 17"."""
    choices: tuple[str, ...] | None = None
    """The options of a multiple-choice question; the answer is then a letter."""
    kind: str | None = None
    """What the file calls its kind, type, category or subject."""

    @property
    def text(self) -> str:
        """A plain text, which is no conversation; "" for a conversation."""
        return self.messages[0].content if self.messages[0].role == "text" else ""

    @property
    def answer(self) -> int:
        """Where the last answer that is trained stands; -1 where none does."""
        places = [index for index, turn in enumerate(self.messages) if turn.role == "assistant" and turn.trained]
        return places[-1] if places else -1


def record_id(messages: tuple[Turn, ...]) -> str:
    """Name a conversation by its content; line ends, outer blanks and Unicode composition do not count."""
    plain = []
    for message in messages:
        text = unicodedata.normalize("NFC", "\n".join(message.content.splitlines()).strip())
        # A turn that is not trained makes another record; ids of records without such turns are as they always were.
        plain.append([message.role, text] if message.trained else [message.role, text, 0])
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()[:16]


def read_records(source: str, accept: str = "chat", notes: list[str] | None = None) -> list[Record]:
    """Return all records of a file or hub data set, in order; all faults in one `PlanError`.

    `accept`: chat, text or both. What the report must say of the file is added to `notes`.
    """
    faults: list[str] = []
    records: list[Record] = []
    unread: Counter[str] = Counter()
    number = 0
    for where, value in read_rows(source, faults):
        number += 1
        record = read_record(where, value, faults, unread, accept)
        if record is not None:
            records.append(record)
    # An empty file is a mistake, unless reading it has said already what is wrong.
    if not number and not faults:
        faults.append(f"{source} holds no records; give it at least one")
    if faults:
        raise PlanError(*shortened(faults, source))
    if notes is not None:
        notes += notes_of(source, unread)
    return records


def notes_of(source: str, unread: Counter[str]) -> list[str]:
    """Return sentences on what a file holds and nobody read."""
    name = re.split("[/:]", source)[-1]
    first_words = unread.pop(FIRST_WORDS, 0)
    notes = unread_note(name, unread)
    if first_words:
        what = "begin with the assistant: what it says before a question is left out"
        notes.append(f"{name}: {first_words:,} conversations {what}.")
    return notes


def read_record(where: str, value: Any, faults: list[str], unread: Counter[str], accept: str = "chat") -> Record | None:
    """Return one row as a record, or None where it has faults."""
    before = len(faults)
    row = Row.open(where, value, faults)
    if row is None:
        return None
    row.take_answers(several=False)
    form = form_of(row, accept) if len(faults) == before else None
    if form is None:
        return None

    # The form reads its fields; what is left over is refused, or counted.
    reader = Reader(row, unread, accept)
    turns = form.read(reader)
    kinds = [text for name in KINDS if isinstance(text := row.values.get(name), str) and text.strip()]
    row.read.update(KINDS)
    read_text = "\n".join(turn.content for turn in turns)
    row.check_fields([*form.names, *SYSTEMS, *HISTORIES], unread, read_text if turns and form is not TEXT else None)
    if len(faults) == before and form is not TEXT and not any(turn.role == "assistant" and turn.trained for turn in turns):
        row.fault("trains no turn of the assistant; leave it out, or give one of its turns weight 1")
    if len(faults) > before:
        return None
    messages = tuple(turns)
    return Record(record_id(messages), messages, where, reader.choices, kinds[0] if kinds else None)


@dataclass
class Reader:
    """What the forms read with: the row, and what is told beside its turns."""

    row: Row
    unread: Counter[str]
    accept: str
    choices: tuple[str, ...] | None = None

    def single(self, prompt: str, answer: str) -> list[Turn]:
        """Return a question and its answer, behind the system prompt and earlier turns."""
        answered = Turn("assistant", with_thoughts(self.row.any_text(THOUGHTS), answer))
        return [*read_system(self.row), *read_history(self.row), Turn("user", prompt), answered]

    def required(self, names: Sequence[str]) -> str:
        """Return the text of the one of these fields that the row has; the first is named where it has none.

        Two that differ are a fault.
        """
        row = self.row
        present = [name for name in names if row.has(name)] or [names[0]]
        if len(present) == 1 or all(_blank(row.values.get(name)) for name in present):
            return row.text(present[0])
        return row.any_text(present)


def _blank(value: Any) -> bool:
    """Return whether a value is a text that says nothing."""
    return isinstance(value, str) and not value.strip()


@dataclass(frozen=True)
class Form:
    """A way to write a record: the fields it must have, any name of each, and those it may have."""

    needs: tuple[tuple[str, ...], ...]
    may: tuple[str, ...]
    read: Callable[[Reader], list[Turn]] = field(compare=False)

    @property
    def names(self) -> list[str]:
        return [*chain.from_iterable(self.needs), *self.may]

    def missing(self, row: Row) -> int:
        """Return how many of the fields that it must have a row lacks."""
        return sum(row.first(names) is None for names in self.needs)


def _chat(reader: Reader) -> list[Turn]:
    return read_chat(reader.row, reader.unread)


def _alpaca(reader: Reader) -> list[Turn]:
    """instruction, then input on a new line where there is one -> output."""
    instruction = reader.required(("instruction",))
    subject = reader.row.any_text(("input", "context"))
    return reader.single("\n".join(filter(None, (instruction, subject))), reader.required(("output", "response")))


def _completion(reader: Reader) -> list[Turn]:
    """prompt -> completion (or response)."""
    return reader.single(reader.required(("prompt", "query")), reader.required(("completion", "response")))


def _question(reader: Reader) -> list[Turn]:
    """question, then context on a new line where there is one (as Alpaca's input follows its instruction) -> answer."""
    row = reader.row
    prompt = "\n".join(filter(None, (reader.required(("question",)), row.any_text(("context", "input")))))
    if not has_options(row):
        return reader.single(prompt, reader.required(("answer", "response")))
    options = read_options(row)
    if options is None:
        return []
    reader.choices = unlabelled(options.texts)
    return reader.single(choice_prompt(prompt, reader.choices), LETTERS[read_choice(row, options)])


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """Return how training asks a multiple-choice question: by lettered options, for a letter."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    first = CHOOSE_ZH if len(HAN.findall(question)) > 0.3 * len(question) else CHOOSE
    return "\n".join([first, question, *lines])


def _plain(reader: Reader) -> list[Turn]:
    """Return text without a question."""
    if reader.accept == "chat":
        reader.row.fault(f"plain text ('text') is for continued pre-training; give mode cpt, or {ACCEPTED}")
        return []
    return [Turn("text", reader.row.text("text"))]


CHAT = Form((CHATS,), (), _chat)
ALPACA = Form((("instruction",), ("output", "response")), ("input", "context"), _alpaca)
COMPLETION = Form((("prompt", "query"), ("completion", "response")), (), _completion)
QUESTION = Form((("question",), (*ANSWERS, "response")), (*CHOICES, "context", "input"), _question)
TEXT = Form((("text",),), (), _plain)
FORMS = (CHAT, ALPACA, COMPLETION, QUESTION)
ACCEPTED = "use instruction/input/output, messages, conversations, prompt/completion or question/choices/answer"


def form_of(row: Row, accept: str) -> Form | None:
    """Return the form whose fields a row has, else the closest one. Without a single closest one: None, and a fault."""
    if accept == "text":
        return TEXT
    whole = [form for form in FORMS if not form.missing(row)]
    if len(whole) > 1:
        named = " and ".join("/".join(row.first(names) or "" for names in form.needs) for form in whole)
        row.fault(f"is whole in two forms ({named}), and only one can be read; drop the fields of the other")
        return None
    if whole:
        return whole[0]

    # Preference data often have no answer but their own.
    refused = refusals(Place.RECORD, row.values)
    for sentence in refused:
        row.fault(sentence)
    if refused:
        return None

    # A record that lacks a field is told by the form that it has begun: by its question rather than by its answer.
    begun = [form for form in FORMS if form.missing(row) < len(form.needs)]
    begun.sort(key=lambda form: row.first(form.needs[0]) is None)
    if row.has("text") and (accept == "both" or not begun):
        return TEXT
    if begun:
        return begun[0]

    # Nothing is known here: most often a name is misspelt.
    names = list(chain.from_iterable(form.names for form in FORMS))
    meant = ""
    for name in row.values:
        near = nearest(name, names)
        if near and near != name:
            meant = f"did you mean '{near}' by '{name}'? "
            break
    row.fault(f"has no known fields (it has {listed(row.values)}); {meant}{ACCEPTED}")
    return None
