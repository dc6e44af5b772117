"""Prompts that know their conversation."""

from __future__ import annotations

from collections.abc import Iterable

from harness.files.turns import Turn


class Rendered(str):
    """A prompt as a template writes it: its tokens come from its conversation, not from its characters.

    What is added to it is how the answer begins.
    """

    turns: tuple[Turn, ...]
    opening: str
    """How the answer begins, where the prompt says so: an answer is this and what is said after it."""
    thinking: bool
    """Whether answers may begin with thoughts."""

    def __new__(cls, text: str, turns: Iterable[Turn] = (), opening: str = "", thinking: bool = False) -> Rendered:
        new = super().__new__(cls, text + opening)
        new.turns, new.opening, new.thinking = tuple(turns), opening, thinking
        return new

    def __add__(self, text: str) -> Rendered:
        bare = str(self)[: len(self) - len(self.opening)]
        return Rendered(bare, self.turns, self.opening + text, self.thinking)

    @property
    def asked(self) -> tuple[tuple[Turn, ...], str, bool]:
        """All that its tokens depend on."""
        return self.turns, self.opening, self.thinking
