"""The form in which a model without a chat template is asked."""

from __future__ import annotations

import json

PLAIN = (
    "{{ start }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""For tokenizers without a template: system, user and an empty line after each, then the answer and the end token."""
QUESTION_HERE = "{question}"
"""Where the question stands in a plain form of the user's own."""


def plain_form(text: str) -> str:
    """Return the chat template of a plain form: `text` with the question in it, a blank and the answer, the end token.

    A system message, and a further question, stand behind an empty line. `\\n` in `text` is a line break. The blank is left out
    where `text` ends with one.
    """
    text = text.replace("\\n", "\n")
    before, _, after = text.partition(QUESTION_HERE)
    blank = "" if text[-1:].isspace() else " "
    opening, closing = (json.dumps(part, ensure_ascii=False) for part in (before, after))
    return (
        "{{ start }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '" + blank + "' + m['content'] }}{{ eos_token }}"
        "{% elif m['role'] == 'user' %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
        "{{ " + opening + " }}{{ m['content'] }}{{ " + closing + " }}"
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
