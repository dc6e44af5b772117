"""The turns of a conversation, in the ways that files write them: chats, earlier turns, system prompts. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.fields.refusals import refusals
from harness.fields.table import CHATS, HISTORIES, SUPERVISED, SYSTEMS, THOUGHTS, Place, names_read
from harness.fields.values import CONTENT_NAMES, ROLE_NAMES, given, is_label, number_of
from harness.files.row import Row, json_type, structured
from harness.text.json_reader import Repeated

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard", "ai"), "assistant"),
}
"""What files call who speaks."""
TOOL_ROLES = ("tool", "tools", "function", "functions", "ipython", "observation", "function_call", "tool_call", "tool_response")
TURN_NAMES = frozenset(names_read(Place.TURN))


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: `role` is system, user or assistant; or `text`, alone in its record."""

    role: str
    content: str
    trained: bool = True
    """Whether an assistant's turn is supervised; others never are."""


def with_thoughts(thoughts: str, answer: str) -> str:
    """Return an answer behind its thoughts, as models that think write both."""
    return f"<think>\n{thoughts.strip()}\n</think>\n\n{answer}" if thoughts.strip() else answer


def read_system(row: Row) -> list[Turn]:
    """Return the record's system prompt, from a field of its own."""
    text = row.any_text(SYSTEMS)
    if is_label(text):
        name = row.first(name for name in SYSTEMS if row.values.get(name) == text)
        row.fault(f"'{name}' is the word {text!r}, which is no system prompt; rename the field where it names something else")
    return [Turn("system", text)] if text else []


def read_history(row: Row) -> list[Turn]:
    """Earlier turns: [[question, answer], ...], or a list of messages."""
    turns: list[Turn] = []
    for name in HISTORIES:
        if not row.has(name):
            continue
        entries = structured(row.value(name))
        # An empty history says nothing; two that say something may contradict each other.
        if not given(entries):
            continue
        if turns:
            row.fault(f"has '{name}' beside another history; keep one")
        if not isinstance(entries, list):
            row.fault(f"'{name}' is {json_type(entries)}; write a list of [question, answer] or of messages")
            continue
        for number, entry in enumerate(entries, 1):
            turns += _earlier(row, f"'{name}' {number}", entry)
    return turns


def _earlier(row: Row, name: str, entry: Any) -> list[Turn]:
    """Return one entry of a history: a pair of texts, or a message."""
    # Both published forms: pairs of texts, and messages with roles.
    if isinstance(entry, list) and len(entry) == 2:
        question = row.checked(f"{name} question", entry[0])
        answer = row.checked(f"{name} answer", entry[1])
        return [Turn("user", question), Turn("assistant", answer)]
    if isinstance(entry, dict):
        turn = read_message(row, name, entry, Counter())
        if turn and turn.role == "system":
            row.fault(f"{name} is a system message amid the history; write it as 'system'")
        return [turn] if turn else []
    row.fault(f"{name} is {json_type(entry)}; write [question, answer] or a message")
    return []


def read_chat(row: Row, unread: Counter[str]) -> list[Turn]:
    """messages [{role, content}] or conversations [{from, value}]; a system prompt may stand first or in a field."""
    field = row.first(CHATS) or CHATS[0]
    entries = structured(row.value(field))
    if not isinstance(entries, list) or not entries:
        row.fault(f"'{field}' is {json_type(entries)}; write a list of messages, each with a role and its text")
        return []
    other = next((name for name in CHATS if name != field and given(row.value(name))), None)
    if other and _spoken(structured(row.values[other])) != _spoken(entries):
        row.fault(f"has '{field}' and '{other}', which mean the same and differ; keep one")
    turns = [*read_system(row), *read_history(row)]
    for number, entry in enumerate(entries, 1):
        turn = read_message(row, f"'{field}' {number}", entry, unread)
        if turn is None:
            continue
        if turn.role != "system":
            turns.append(turn)
        elif number == 1 and len(turns) == 1 and turns[0] == turn:
            continue  # the field says the same
        elif number > 1 or turns:
            where = "after the first message" if number > 1 else "beside the field 'system'"
            row.fault(f"'{field}' {number} is a system message {where}; keep one, as the first message")
        elif turn.content:
            turns.append(turn)

    # A turn with a fault of its own is not missing too.
    present = {turn.role for turn in turns} | {ROLES.get(str(role_of(entry)).lower()) for entry in entries}
    for role in ("user", "assistant"):
        if role not in present:
            row.fault(f"'{field}' has no {role} message; add one or remove the record")
    return _from_first_question(turns, unread)


FIRST_WORDS = "an assistant's turn before any question"
"""What `unread` calls the turns with which many ShareGPT conversations begin."""


def _from_first_question(turns: list[Turn], unread: Counter[str]) -> list[Turn]:
    """Return the turns less answers before the first question: nothing asked for them, so they are neither read nor trained."""
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), len(turns))
    if any(turn.role == "assistant" for turn in turns[:first]):
        unread[FIRST_WORDS] += 1
    return [turn for index, turn in enumerate(turns) if index >= first or turn.role == "system"]


def _spoken(entries: Any) -> Any:
    """Return who says what in the entries of a chat, whatever their fields are called."""
    if not isinstance(entries, list):
        return entries
    return [(ROLES.get(str(role_of(entry)).lower()), _said(entry)) for entry in entries]


def _said(entry: Any) -> Any:
    return _first_value(entry, CONTENT_NAMES) if isinstance(entry, dict) else entry


def role_of(entry: Any) -> Any:
    return _first_value(entry, ROLE_NAMES) if isinstance(entry, dict) else None


def _first_value(entry: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the first of these fields' values that is not null."""
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def read_message(row: Row, name: str, entry: Any, unread: Counter[str]) -> Turn | None:
    """Return one entry of a chat, or None where it has a fault. Fields of it that nobody reads are counted."""
    if not isinstance(entry, dict):
        row.fault(f"{name} is {json_type(entry)}; write an object with 'role' and 'content'")
        return None
    if isinstance(entry, Repeated):
        row.fault(f"{name} has the field '{entry.twice}' twice; keep one")
        return None
    written = role_of(entry)
    role = ROLES.get(written.strip().lower()) if isinstance(written, str) else None
    if role is None:
        if isinstance(written, str) and written.strip().lower() in TOOL_ROLES:
            row.fault(f"{name} has the role {written!r}: tools are not rendered here; leave such records out")
        else:
            row.fault(f"{name} has the role {written!r}; use one of {', '.join(ROLES)}")
        return None

    # All faults of a turn together, then what it says.
    before = len(row.faults)
    for sentence in refusals(Place.TURN, entry):
        row.fault(f"{name}: {sentence}")
    text = _content(row, name, entry, optional=role == "system")
    thoughts = _thoughts(row, name, entry, role)
    trained = _trained(row, name, entry, role)
    if len(row.faults) > before:
        return None
    for key, value in entry.items():
        if key not in TURN_NAMES and given(value):
            unread[f"{name.split()[0].strip(chr(39))}.{key}"] += 1
    return Turn(role, with_thoughts(thoughts, text), trained)


def _content(row: Row, name: str, entry: Mapping[str, Any], optional: bool) -> str:
    """Return what is said: a text, or a list of parts that are all texts."""
    field = next((key for key in CONTENT_NAMES if entry.get(key) is not None), None) or "content"
    value = entry.get(field)
    # Parts of other types are images and sounds, without which the text would mean something else.
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        kinds = [str(part.get("type", "text")) for part in value]
        other = next((kind for kind in kinds if kind not in ("text", "input_text", "output_text")), None)
        if other:
            row.fault(f"{name} {field} has a part of type {other!r}; models of text alone are trained here: leave it out")
            return ""
        value = "".join(str(part.get("text", "")) for part in value)
    return row.checked(f"{name} {field}", value, optional)


def _thoughts(row: Row, name: str, entry: Mapping[str, Any], role: str) -> str:
    fields = [key for key in THOUGHTS if given(entry.get(key))]
    if not fields:
        return ""
    if role != "assistant":
        row.fault(f"{name} has '{fields[0]}', but only an assistant thinks; drop it")
        return ""
    texts = {row.checked(f"{name} {key}", entry[key]) for key in fields}
    if len(texts) > 1:
        row.fault(f"{name} has {' and '.join(map(repr, fields))}, which differ; keep one")
    return texts.pop()


def _trained(row: Row, name: str, entry: Mapping[str, Any], role: str) -> bool:
    """Return whether the turn is supervised: 0 or false in any of the fields that say so says no."""
    trained = True
    for key in SUPERVISED:
        value = entry.get(key)
        if value is None:
            continue
        # A weight between would train a turn a little, which no method here does.
        number = number_of(value)
        if number not in (0, 1):
            row.fault(f"{name} has '{key}' {value!r}; turns are trained (1) or not (0), nothing between")
        elif role != "assistant" and number == 1 and key != "weight":
            row.fault(f"{name} has '{key}' {value!r}, but only the assistant's turns are trained; drop it there")
        elif number == 0:
            trained = role != "assistant" and trained
    return trained
