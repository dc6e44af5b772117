"""The fields of data files: one table of names, what each means, and whether it is read or refused. No torch here.

DATA, TEST and SUITES share it, and `make docs` writes docs/formats.md's list from it. A field that is not in the table is
not read; each file's unread fields are counted and named once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Place(StrEnum):
    """Where a field stands."""

    RECORD = "record"
    TURN = "turn"
    ITEM = "item"


def given(value: Any) -> bool:
    """Return whether a value says anything: blank texts, empty lists, empty objects and null do not."""
    # NaN, which differs from itself, is how csv and parquet leave a cell empty.
    if value is None or value != value:
        return False
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null")
    return not (isinstance(value, (list, dict)) and not value)


def judges(value: Any) -> bool:
    """Return whether a label says that an answer is good or bad: true or false, 0 or 1."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "false", "0", "1", "desirable", "undesirable")
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def weighs(value: Any) -> bool:
    """Return whether a weight is another one than 1."""
    return given(value) and number_of(value) != 1


def lists(value: Any) -> bool:
    """Return whether a value is several texts, also as the JSON in a cell of csv."""
    if isinstance(value, str):
        return value.strip()[:1] in ("[", "{") and given(value)
    return isinstance(value, (list, dict)) and len(value) > 0


def tells(value: Any) -> bool:
    """Return whether a value is a passage to be read, not a file's name or a number: so many words (a guess), or
    several texts.
    """
    return lists(value) or (isinstance(value, str) and len(value.split()) >= PASSAGE)


def number_of(value: Any) -> float | None:
    """Return a value as a number, also from a csv cell; None where it is none."""
    if isinstance(value, str):
        words = {"true": 1.0, "false": 0.0}
        text = value.strip().lower()
        if text in words:
            return words[text]
        try:
            return float(text)
        except ValueError:
            return None
    return float(value) if isinstance(value, (bool, int, float)) else None


@dataclass(frozen=True)
class Field:
    """One meaning, under all the names that files give it."""

    place: Place
    names: tuple[str, ...]
    meaning: str
    """What it is, where it is read; what is wrong and the cure, where it is refused."""
    refused: Callable[[Any], bool] | None = None
    """Which values are refused; None: the field is read."""
    instead: str = ""
    """The field that should have been used: refused only in forms that read that one."""


R, T, I = Place.RECORD, Place.TURN, Place.ITEM  # noqa: E741
CHATS = ("messages", "conversations")
SYSTEMS = ("system", "system_prompt", "system_message")
HISTORIES = ("history", "conversation_history", "chat_history")
CHOICES = ("choices", "options")
ANSWERS = ("answer", "answer_idx", "answer_index", "answerKey", "answer_key")
ACCEPTED = "answers"
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
SUPERVISED = ("weight", "train", "training", "trainable", "supervised", "loss", "loss_weight", "loss_mask")
PREFERENCES = (
    *("chosen", "chosen_response", "chosen_answer", "chosen_output", "preferred", "preferred_output", "winner", "better"),
    *("rejected", "rejected_response", "rejected_responses", "rejected_answer", "rejected_output", "non_preferred_output"),
    *("loser", "worse", "kto_tag"),
)
JUDGEMENTS = ("label", "is_correct", "is_right", "correct", "desirable")
OTHER_CHOICES = (
    *("candidates", "alternatives", "endings", "answer_choices", "answer_options", "possible_answers", "multiple_choice"),
    *("distractors", "wrong_answers", "wrong_choices", "incorrect_options"),
)
PASSAGES = ("passage", "paragraph", "article", "story", "document", "documents", "contexts", "background")
KINDS = ("kind", "type", "category", "subject")
CLUSTERS = ("cluster", "subject", "phenomenon")
RULES = ("required", "forbidden", "schema", "bounds")
PASSAGE = 8
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

TABLE = (
    Field(R, CHATS, "the turns of a chat: a list of objects with `role` and `content`, or `from` and `value`"),
    Field(R, ("instruction",), "the task; trained with `output` or `response`"),
    Field(R, ("input", "context"), "what the task or question is about: stands on a line below it"),
    Field(R, ("prompt", "query"), "what the user says; trained with `completion` or `response`"),
    Field(R, ("question",), "what is asked; with `answer` or `response`, or with `choices` and `answer`"),
    Field(R, ("output", "completion", "response"), "the answer that is trained"),
    Field(R, ("text",), "plain text, for continued pre-training; as a suite's item only where nothing else stands beside it"),
    Field(
        R,
        CHOICES,
        'the options of a multiple-choice question: a list of texts, {"A": text, ...}, {"text": [...], "label": [...]}'
        ' or [{"key": "A", "value": text}, ...]',
    ),
    Field(R, tuple("ABCDE"), "the options, one a column, beside `question`"),
    Field(
        R,
        ANSWERS,
        "the answer; beside options a letter (`B`, `(B)`, `B.`), an index from 0, a key or an option's text; two that disagree"
        " are refused",
    ),
    Field(
        R,
        (ACCEPTED,),
        'the accepted answers, as SQuAD has them: a list of texts or {"text": [...]}; a record that is trained has one',
    ),
    Field(R, SYSTEMS, "the record's system prompt"),
    Field(R, HISTORIES, "earlier turns, [[question, answer], ...] or a list of messages; their answers are trained too"),
    Field(R, ("reasoning_content",), "the thoughts before the answer: written as <think> in front of it"),
    Field(R, KINDS, "what the record's kind is called: test records of one kind are one task"),
    Field(R, ("id",), "a name of your own"),
    Field(
        R,
        PREFERENCES,
        "is preference data, and only one right answer a record is trained here; write a file of the chosen answers alone",
        given,
    ),
    Field(
        R,
        JUDGEMENTS,
        "says whether an answer is good or bad (preference data, as for KTO), and all answers are trained here as right ones;"
        " keep the records with a good answer and drop the field (drop it too where it is no judgement)",
        judges,
    ),
    Field(
        R,
        OTHER_CHOICES,
        "are options to choose from under a name that is not read; write all of them as `choices`",
        lists,
        "choices",
    ),
    Field(
        R,
        PASSAGES,
        "is read with the question, under a name that is not read; call it `context` (or drop it, where it is not asked about)",
        tells,
        "context",
    ),
    Field(
        R,
        (*SUPERVISED, "mask", "sample_weight"),
        "weighs a whole record, and all records are trained alike here; drop the records of weight 0 and the field",
        weighs,
    ),
    Field(
        R,
        ("image", "images", "audio", "audios", "video", "videos"),
        "is not text, and models of text alone are trained here; leave such records out",
        given,
    ),
    Field(
        R,
        ("tools", "functions", "tool_calls", "function_call"),
        "are tools, which are not rendered here: a record would be trained without what it calls; leave such records out",
        given,
    ),
    Field(T, ("role", "from"), "who speaks: system, user or assistant, under any of their usual names"),
    Field(T, ("content", "value"), "what is said: a text, or a list of parts of type text"),
    Field(T, THOUGHTS, "an assistant's thoughts: written as <think> in front of its answer"),
    Field(T, SUPERVISED, "0 or false: the assistant's turn is read but not trained; 1 or true: trained, as by default"),
    Field(
        T,
        ("mask", "train_detail", "training_detail"),
        "is used in opposite ways by different tools; write `weight` 0 on turns that are not to be trained",
        given,
    ),
    Field(
        T,
        ("image", "images", "audio", "audios", "video", "videos"),
        "is not text, and models of text alone are trained here; leave such records out",
        given,
    ),
    Field(
        T,
        ("tool_calls", "function_call", "tool_call_id", "tools", "functions"),
        "is a tool's call, which is not rendered here: the turn would be trained without it; leave such records out",
        given,
    ),
    Field(I, ("type",), "how the item is scored (docs/suites.md)"),
    Field(I, ("tolerance", "unit"), "of numeric answers"),
    Field(I, ("rewrites",), "the question in other words"),
    Field(I, ("fill",), "of long prompts: tokens of the sidecar's filler text before the question, and facts that stand in it"),
    Field(I, ("chance",), "the score of a guess, from 0 to below 1"),
    Field(I, ("solution",), "how the answer is found: given in few-shot examples"),
    Field(I, RULES, "rules that the output must keep"),
    Field(I, ("instruction_id_list", "kwargs"), "IFEval's instructions and their settings"),
    Field(I, CLUSTERS, "items of one cluster resample together"),
)
"""Every field that is read or refused."""

APART = re.compile(
    r"(option|choice|opt|op|ans|ending)[_ ]?([a-f]|\d)|[a-j]|correct_answer|incorrect_answers?|distractor_?\d?", re.I
)
"""Names of single options, which would be dropped: write `choices` instead."""
APART_CURE = "is one of several options a field; write them as `choices`, a list of texts"
READ = frozenset(name for field in TABLE if not field.refused for name in field.names)
KNOWN = frozenset(name for field in TABLE for name in field.names)
"""What a column must be called to be converted from parquet."""


def refusals(place: Place, values: dict[str, Any], names: Iterable[str] = ()) -> list[str]:
    """Return what stands in a record or turn that changes what it means and is not read, a sentence each.

    `names`: the fields that the record's form reads.
    """
    faults = []
    read = set(names)
    for field in TABLE:
        if field.place is place and field.refused and (not field.instead or field.instead in read):
            bad = [f"'{name}'" for name in field.names if name in values and field.refused(values[name])]
            if bad:
                faults.append(f"{' and '.join(bad)} {field.meaning}")
    return faults


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that a field's name was meant to be: the same but for case, blanks and signs, or one letter off."""
    plain = _plain(name)
    for candidate in names:
        if plain == _plain(candidate):
            return candidate

    # Short names are a letter away from words that mean something else: `text` and `test`.
    long = [candidate for candidate in names if len(candidate) > 4]
    return next((candidate for candidate in long if _one_letter_off(plain, _plain(candidate))), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _one_letter_off(first: str, second: str) -> bool:
    """Return whether a letter more, less, changed, or two exchanged, makes one the other."""
    if abs(len(first) - len(second)) > 1 or first == second:
        return False

    # Up to here both are the same; what follows must be, too, but for one letter.
    start = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    if len(first) != len(second):
        longer, shorter = (first, second) if len(first) > len(second) else (second, first)
        return longer[start + 1 :] == shorter[start:]
    exchanged = first[start : start + 2] == second[start : start + 2][::-1] and first[start + 2 :] == second[start + 2 :]
    return exchanged or first[start + 1 :] == second[start + 1 :]
