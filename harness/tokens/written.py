"""A conversation as a template writes it, cut where an answer begins and ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.files.turns import Turn
from harness.text.thoughts import Marks, marked, split_thoughts


class NotLocal(Exception):
    """A template writes a turn differently, depending on turns far from it."""


@dataclass(frozen=True)
class Written:
    """One answer of a conversation as the template writes it. Users' texts have guards."""

    prompt: str
    answer: str
    """Without its stop."""
    whole: str
    """All up to and with the stop."""
    foreign: bool = False
    """Whether the template writes the answer's turn differently than it begins one: the answer stands as in the record."""
    cut: tuple[str, ...] = field(default=(), compare=False)
    """The prompt cut behind earlier turns, so that the prompts of a long conversation share most pieces."""


@dataclass(frozen=True)
class Step:
    """An answer, or the prompt for one, and what stands before it: prompt, answer, stop, prompt, and so on to a prompt."""

    lead: list[str]
    answer: str
    stable: bool
    """Whether the answers before it stand in the prompt as they were answered; if not, the lead is one piece."""
    foreign: bool


def turn_without_thoughts(turn: Turn) -> Turn:
    """Return an assistant's turn without the thoughts it begins with; another turn as it is."""
    if turn.role != "assistant":
        return turn
    return replace(turn, content=split_thoughts(turn.content)[1])


def with_marks(turn: Turn, marks: Marks) -> Turn:
    """Return an assistant's turn with its thoughts in these marks; another turn as it is."""
    if turn.role != "assistant":
        return turn
    return replace(turn, content=marked(turn.content, marks))
