"""The words that stored records are written in, as types.

Each is a string too, so that records hold the plain word, and a word that was read compares equal to its member: compare with
`==`, not with `is`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from harness.errors import PlanError


class Word(StrEnum):
    """A word of a fixed list. Raises PlanError where a record has another one."""

    @classmethod
    def _missing_(cls, value: Any) -> None:
        words = ", ".join(cls)
        raise PlanError(
            f"a record's {cls.__name__.lower()} is {value!r}, which is none of {words};"
            " it is damaged, or another version of Lethe wrote it"
        )


class Role(Word):
    """What a row of the table is there for."""

    BASE = "base"
    """The untouched model, which every other row is compared with."""
    CONTROL = "control"
    """Plain fine-tuning with a budget of zero: it must read exactly as the base."""
    UNTRAINED = "untrained"
    """A recipe with a budget of zero whose wrapped model differs from the base before any training."""
    RECIPE = "recipe"
    """A recipe that is trained and compared."""
    CONSTANT = "constant"
    """No model: the training answer that scores best, given to every item."""
    GUESS = "guess"
    """No model: one of an item's choices, at random."""

    @property
    def has_model(self) -> bool:
        """Whether a model is behind the row."""
        return self not in (Role.CONSTANT, Role.GUESS)


class Area(Word):
    """What a general family is about: the column groups of tables, after CapTrack's taxonomy (arXiv:2603.06610)."""

    CAN = "can"
    """Knowledge and skills."""
    WILL = "will"
    """What it does unasked: refusal, compliance, verbosity, formatting."""
    HOW = "how"
    """How it goes about it: instructions, tools, turns, length."""

    @property
    def meaning(self) -> str:
        """The group in words."""
        return {
            Area.CAN: "knowledge, skills",
            Area.WILL: "refusal, compliance",
            Area.HOW: "instructions, tools, turns, length",
        }[self]


class Track(Word):
    """What a recipe may draw on. Recipes of one track are ranked together."""

    FREE = "free"
    """No general data."""
    GENERAL = "general"
    """General data too."""

    @property
    def title(self) -> str:
        """The track in words, as the end of a sentence."""
        return {Track.FREE: "without general data", Track.GENERAL: "with general data"}[self]


class Status(Word):
    """How a run ended."""

    DONE = "done"
    """The budget is spent, or its method ended it: the only status with scores."""
    DIVERGED = "diverged"
    """The loss or a gradient was not finite."""
    OVERDRAWN = "overdrawn"
    """What the method asked for before the first step took the whole budget."""
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    """Any other error, or a lost process."""

    @property
    def is_answer(self) -> bool:
        """Whether the method ended the run. Another try of any other run may end differently."""
        return self in (Status.DONE, Status.DIVERGED, Status.OVERDRAWN)


class EvalKind(Word):
    """An evaluation of a run: the first part of its file's name under `evals/`."""

    FINAL = "final"
    """All items, asked of the finished model."""
    QUALITY = "quality"
    """Free answers to fixed prompts, and what is measured on each."""
    CURVE = "curve"
    """A fixed sub-sample of the final items, at fractions of the budget."""
    PATH = "path"
    """Dev items along the line from the base to the trained model."""
    DEV = "dev"
    """Dev items of a trial of a tuning, which never sees a test item."""
    STAGES = "stages"
    """The domain's items after each stage but the last, where several data files are trained on in turn."""
    PROBE = "probe"
    """General items after the recovery probe."""
    RETENTION = "retention"
    """General dev items that a method asks for while it trains. Not stored."""
