"""Records: what the user's file holds, read from any known form into chat messages. No torch here.

A record's form is told by its fields, so one file may mix forms; fields that no form knows are ignored:

    messages | conversations      chat; every assistant turn is trained
    instruction, input?, output   Alpaca
    prompt, completion | response
    question, context?, choices?, answer
    system?                       in any form: the system prompt of that record
    text                          plain text, for continued pre-training (`accept`)

Whatever is wrong is reported once, together: file, record, field, cure.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.errors import PlanError
from harness.sources import read_rows

FAULTS_SHOWN = 20
ROLES = {"system": "system"} | dict.fromkeys(("user", "human"), "user") | dict.fromkeys(("assistant", "gpt"), "assistant")
KINDS = ("kind", "type", "category", "subject")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOOSE = "Answer this multiple-choice question with the letter of the correct option."
CHOOSE_ZH = "请回答下面的单项选择题，只输出正确选项的字母。"
HAN = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Turn:
    """One message: `role` is system, user or assistant; or `text`, alone in its record."""

    role: str
    content: str


@dataclass(frozen=True)
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


def record_id(messages: tuple[Turn, ...]) -> str:
    """Name a conversation by its content; line ends, outer blanks and Unicode composition do not count."""
    plain = [[m.role, unicodedata.normalize("NFC", "\n".join(m.content.splitlines()).strip())] for m in messages]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()[:16]


def read_records(source: str, accept: str = "chat") -> list[Record]:
    """All records of a file or hub data set, in order; all faults in one `PlanError`. `accept`: chat, text or both."""
    faults: list[str] = []
    rows = read_rows(source, faults)
    records = [Reader(where, row, faults, accept).record() for where, row in rows]
    if not rows and not faults:
        faults.append(f"{source} holds no records; give it at least one")
    if len(faults) > FAULTS_SHOWN:
        faults = [*faults[:FAULTS_SHOWN], f"and {len(faults) - FAULTS_SHOWN:,} more faults in {source}"]
    if faults:
        raise PlanError(*faults)
    return [record for record in records if record is not None]


def missing(value: Any) -> bool:
    """Absent, null or NaN: csv and parquet have no other way to leave a field out."""
    return value is None or (isinstance(value, float) and math.isnan(value))


@dataclass
class Reader:
    """Reads one row; what is wrong with it goes to `faults`."""

    where: str
    row: Any
    faults: list[str]
    accept: str

    def record(self) -> Record | None:
        """The row as a record, or None where it has faults."""
        before = len(self.faults)
        if not isinstance(self.row, dict):
            self.fault(f"is {json_type(self.row)}; write an object with named fields")
            return None
        self.row = {key: value for key, value in self.row.items() if not missing(value)}
        form = next((FORMS[field] for field in FORMS if field in self.row), None)
        if self.accept == "text":
            form = plain
        if form is None:
            self.fault(f"has no known fields (it has {listed(self.row)}); {ACCEPTED}")
            return None
        turns, choices = form(self)
        if len(self.faults) > before:
            return None
        messages = tuple(turns)
        kinds = (self.row[name] for name in KINDS if isinstance(self.row.get(name), str) and self.row[name].strip())
        return Record(record_id(messages), messages, self.where, choices, next(kinds, None))

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.where}: {text}")

    def text(self, field: str, optional: bool = False) -> str:
        """A field's text; "" where it is optional and missing or blank."""
        if field not in self.row:
            if not optional:
                self.fault(f"no '{field}'; add it, as text (it has {listed(self.row)})")
            return ""
        return self.checked(f"'{field}'", self.row[field], optional)

    def checked(self, name: str, value: Any, optional: bool = False) -> str:
        """The value, if it is text a tokenizer can take."""
        if not isinstance(value, str):
            self.fault(f"{name} is {json_type(value)}, not text; write it as a string")
        elif not value.strip():
            if not optional:
                self.fault(f"{name} is empty; fill it or remove the record")
        elif "\0" in value:
            self.fault(f"{name} has a NUL character at place {value.index(chr(0)) + 1}; remove it")
        elif found := re.search("[\ud800-\udfff]", value):
            code = f"U+{ord(found[0]):04X}"
            self.fault(f"{name} has half a surrogate pair ({code}) at place {found.start() + 1}; write the whole character")
        else:
            return value
        return ""

    def system(self) -> list[Turn]:
        text = self.text("system", optional=True)
        return [Turn("system", text)] if text else []

    def single(self, prompt: str, answer: str) -> list[Turn]:
        return [*self.system(), Turn("user", prompt), Turn("assistant", answer)]


Parsed = tuple[list[Turn], tuple[str, ...] | None]


def alpaca(reader: Reader) -> Parsed:
    """instruction, then input on a new line where there is one -> output."""
    parts = reader.text("instruction"), reader.text("input", optional=True)
    return reader.single("\n".join(filter(None, parts)), reader.text("output")), None


def completion(reader: Reader) -> Parsed:
    """prompt -> completion (or response)."""
    answer = "response" if "response" in reader.row and "completion" not in reader.row else "completion"
    return reader.single(reader.text("prompt"), reader.text(answer)), None


def plain(reader: Reader) -> Parsed:
    """Text without a question."""
    if reader.accept == "chat":
        reader.fault(f"plain text ('text') is for continued pre-training; give mode cpt, or {ACCEPTED}")
        return [], None
    return [Turn("text", reader.text("text"))], None


def chat(reader: Reader) -> Parsed:
    """messages [{role, content}] or conversations [{from, value}]; a system prompt may stand first or in `system`."""
    field = "messages" if "messages" in reader.row else "conversations"
    entries = reader.row[field]
    if not isinstance(entries, list) or not entries:
        reader.fault(f"'{field}' is {json_type(entries)}; write a list of messages, each with a role and its text")
        return [], None
    turns = reader.system()
    for place, entry in enumerate(entries, 1):
        if (turn := message(reader, f"'{field}' {place}", entry)) is None:
            continue
        if turn.role != "system":
            turns.append(turn)
        elif place > 1 or turns:
            where = "after the first message" if place > 1 else "beside the field 'system'"
            reader.fault(f"'{field}' {place} is a system message {where}; keep one, as the first message")
        elif turn.content:
            turns.append(turn)
    present = {t.role for t in turns}
    known = {ROLES.get(str(role_of(e)).lower()) for e in entries}  # a turn with a fault of its own is not missing too
    for role in ("user", "assistant"):
        if role not in present | known:
            reader.fault(f"'{field}' has no {role} message; add one or remove the record")
    return turns, None


def role_of(entry: Any) -> Any:
    return entry.get("role", entry.get("from")) if isinstance(entry, dict) else None


def message(reader: Reader, name: str, entry: Any) -> Turn | None:
    """One entry of a chat, or None where it has a fault."""
    if not isinstance(entry, dict):
        reader.fault(f"{name} is {json_type(entry)}; write an object with 'role' and 'content'")
        return None
    given = role_of(entry)
    role = ROLES.get(given.lower()) if isinstance(given, str) else None
    if role is None:
        reader.fault(f"{name} has the role {given!r}; use one of {', '.join(ROLES)}")
        return None
    field = "content" if "content" in entry or "value" not in entry else "value"
    before = len(reader.faults)
    text = reader.checked(f"{name} {field}", entry.get(field), optional=role == "system")
    return Turn(role, text) if len(reader.faults) == before else None


def question(reader: Reader) -> Parsed:
    """question, then context on a new line where there is one (as Alpaca's input follows its instruction) -> answer."""
    prompt = "\n".join(filter(None, (reader.text("question"), reader.text("context", optional=True))))
    if "choices" not in reader.row:
        return reader.single(prompt, reader.text("answer")), None
    options = choices_of(reader)
    if not options:
        return [], None
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    first = CHOOSE_ZH if len(HAN.findall(prompt)) > 0.3 * len(prompt) else CHOOSE
    return reader.single("\n".join([first, prompt, *lines]), chosen(reader, options)), options


def choices_of(reader: Reader) -> tuple[str, ...]:
    """The options, from a list or (in csv) its JSON; () where they have a fault."""
    value = reader.row["choices"]
    if isinstance(value, str):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        size = f"a list of {len(value)}" if isinstance(value, list) else json_type(value)
        reader.fault(f"'choices' is {size}; write a list of 2 to {len(LETTERS)} texts")
        return ()
    before = len(reader.faults)
    options = tuple(reader.checked(f"'choices' {place}", option) for place, option in enumerate(value, 1))
    return options if len(reader.faults) == before else ()


def chosen(reader: Reader, options: tuple[str, ...]) -> str:
    """The letter of the answer, given as letter, index from 0 or text; a letter wins ("C" may be an option's text too)."""
    value = reader.row.get("answer")
    letters = LETTERS[: len(options)]
    if isinstance(value, int) and not isinstance(value, bool):
        readings = {value} & set(range(len(options)))
    elif not (given := reader.text("answer").strip()):
        return ""
    elif len(given) == 1 and given in letters:
        return given
    else:
        readings = {i for i, option in enumerate(options) if given in (str(i), option.strip())}
    if len(readings) == 1:
        return LETTERS[readings.pop()]
    what = "could be " + " or ".join(LETTERS[i] for i in sorted(readings)) if readings else "is none of the choices"
    reader.fault(f"'answer' {value!r} {what}; give a letter from A to {letters[-1]}")
    return ""


FORMS: dict[str, Callable[[Reader], Parsed]] = {
    "messages": chat, "conversations": chat, "instruction": alpaca, "prompt": completion, "question": question,
    "output": alpaca, "completion": completion, "response": completion, "answer": question, "text": plain,
}  # fmt: skip
"""Field -> form, the telling fields first: a record without its question still gets the right error."""
ACCEPTED = "use instruction/input/output, messages, conversations, prompt/completion or question/choices/answer"


def listed(row: dict[Any, Any]) -> str:
    return ", ".join(f"'{key}'" for key in list(row)[:8]) or "none"


def json_type(value: Any) -> str:
    """A value's type in the words of JSON, short values shown."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if isinstance(value, (list, dict)) and not value:
        return f"{names[type(value)]} without entries"
    return f"the number {value}" if type(value) in (int, float) else names.get(type(value), type(value).__name__)
