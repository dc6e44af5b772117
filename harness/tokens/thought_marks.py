"""The marks that a chat template writes around thoughts: known by name, or found by giving it thoughts in their own field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from harness.fields.table import THOUGHTS
from harness.text.thoughts import Marks, marks_of

QUESTION = "Lethe asked, No. 3"
THOUGHT = "Lethe thought, No. 3"
ANSWER = "Lethe answered, No. 3"
NOT_UNDERSTOOD = "The chat template writes thoughts in a way that is not understood: they are read as part of the answer."


@dataclass(frozen=True)
class TemplateMarks:
    """How a template writes thoughts."""

    marks: Marks | None = None
    note: str = ""
    """What the report must say of it."""


def marks_of_template(tokenizer: Any, source: str, control: re.Pattern[str]) -> TemplateMarks:
    """Return the marks of a template whose source is given. `control` finds the names of control tokens."""
    named = marks_of(source)
    if named is not None and named.close.lower() in source.lower():
        return TemplateMarks(named)

    # Marks that nobody knows by name, or of which the template has one: tried.
    try:
        written = _marks_of_field(tokenizer, source, control)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
        return TemplateMarks(named)  # what the template does not take is said later, in words
    return TemplateMarks(written.marks or named, written.note)


def _marks_of_field(tokenizer: Any, source: str, control: re.Pattern[str]) -> TemplateMarks:
    """Return the marks around thoughts in a field of their own; none where the template has no place for one."""
    question = {"role": "user", "content": QUESTION}
    answer = {"role": "assistant", "content": ANSWER}
    options = {"chat_template": source, "tokenize": False, "enable_thinking": True, "thinking": True}
    text = tokenizer.apply_chat_template([question, answer | dict.fromkeys(THOUGHTS, THOUGHT)], **options)
    if THOUGHT not in text:
        return TemplateMarks()

    # The marks are what stands between the answer's header and the thought, and between the thought and the answer.
    header, _, end = tokenizer.apply_chat_template([question, answer], **options).rpartition(ANSWER)
    before, _, rest = text.partition(THOUGHT)
    closing, _, _ = rest.partition(ANSWER)
    opening = before.removeprefix(header)
    if ANSWER not in rest or opening == before or not (opening.strip() and closing.strip()):
        return TemplateMarks(note=NOT_UNDERSTOOD)

    # What ends an answer cannot end a thought too: generation would stop there.
    stop = control.search(end)
    if stop and stop[0] in opening + closing:
        return TemplateMarks(
            note=f"The chat template closes thoughts with {stop[0]}, as answers: a model stops after its thoughts."
        )
    return TemplateMarks(Marks(opening.strip(), closing.strip(), tight=not opening.endswith("\n")))
