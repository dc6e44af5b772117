"""EvalTask: a task with the facts that the report needs, and the texts that a model reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.vocabulary import Area

CHANNELS = {"multiple_choice": "choice", "generate_until": "generation"}


@dataclass(frozen=True)
class EvalTask:
    """One lm-eval task and what it stands for."""

    name: str
    family: str
    """Tasks of one family are averaged first."""
    group: str
    """`domain` or `general`."""
    seen: bool | None
    """Whether methods may draw on this family; None for the domain."""
    channel: str
    """likelihood | choice | generation"""
    metric: str
    """The primary metric."""
    higher_better: bool
    chance: float | None
    """Score of a guess; None: one over the number of choices, item by item."""
    chat: bool
    """Whether prompts go through the chat template."""
    task: Any
    """The lm-eval task."""
    items: int
    note: str = ""
    """What the report should say about how it is scored."""
    suite: str = ""
    """The suite it was asked for as."""
    area: Area = Area.CAN
    """The column group of its family."""
    thinking: bool = False
    """Whether it is asked with thoughts, and scored with them."""
    fluency: bool = False
    """Whether its scorer is told how the base reads an answer."""


@dataclass(frozen=True)
class Reader:
    """What suites must know of the model that reads them."""

    count: Callable[[str], int] | None = None
    """Tells how many tokens a text has: generated answers get no more room than needed."""
    context: int | None = None
    """Tokens that it reads; longer items are left out."""


ANY_MODEL = Reader()
"""Nothing is known of the model: texts are measured in characters, and no item is too long."""
