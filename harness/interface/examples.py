"""What is trained on: tokenised examples, and micro-batches of them.

Shapes: a batch holds B rows of T tokens, of which S are supervised (their next-token loss is trained).
The language-model head runs only at those S places, so per-token tensors are flat, `(S,)`, and logits `(S, V)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """One tokenised training sequence."""

    id: str
    """Hash of the record it came from."""
    tokens: tuple[int, ...]
    """Token ids, template included."""
    supervised: tuple[bool, ...]
    """True where this token is a target: the answers and their stop tokens."""
    source: str = "domain"
    """`domain`, `general`, `generated` or `anchor` (general data for a penalty alone): the ledger's token classes."""

    stage: int = 1
    """Which of the plan's domain files it comes from, from 1."""
    part: float = 1.0
    """Share of its record's targets that it holds: below 1 where SPLIT cut it."""
    shown: tuple[int, ...] | None = None
    """What the base reads, for `run.base_logits`, in place of the first `hidden` tokens; None: it reads what the model does."""
    hidden: int = 0
    """How many tokens those are: none of them a target."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def as_taught(self) -> Example:
        """What the base reads for `run.base_logits`: the same targets behind what is `shown`."""
        if self.shown is None:
            return self
        tokens = (*self.shown, *self.tokens[self.hidden :])
        supervised = (False,) * len(self.shown) + self.supervised[self.hidden :]
        return replace(self, tokens=tokens, supervised=supervised, shown=None, hidden=0)


@dataclass(frozen=True)
class Batch:
    """One micro-batch, right-padded or packed; examples never attend to each other."""

    tokens: Tensor
    """(B, T) token ids."""
    mask: Tensor
    """(B, T) 1 at real tokens, 0 at padding."""
    places: Tensor
    """(S,) flat positions b * T + t whose logits predict a supervised token."""
    labels: Tensor
    """(S,) the supervised tokens, in the order of `places`."""
    examples: tuple[Example, ...]
    """The B examples, in row order; all in one row where they are packed."""
    documents: tuple[int, ...] = ()
    """Lengths of the examples of a packed batch, which stand end to end in its one row; empty: an example a row."""
    cache: dict[str, Any] = field(default_factory=dict, repr=False)
    """What was computed once for this batch (the base's logits), keyed by its name."""
    whole: Batch | None = field(default=None, repr=False)
    """The micro-batch of which this holds a piece of the places; None if it holds all of them."""
    begin: int = 0
    """Index among the places of `whole` at which the piece begins."""

    def piece(self, begin: int, end: int) -> Batch:
        """Return this micro-batch with its supervised places from `begin` to `end` alone; itself if these are all."""
        if (begin, end) == (0, len(self.places)):
            return self
        return replace(self, places=self.places[begin:end], labels=self.labels[begin:end], cache={}, whole=self, begin=begin)

    @property
    def rows(self) -> Tensor:
        """(S,) the example each supervised token belongs to: its row, where examples are not packed."""
        if self.documents:
            ends = torch.tensor(self.documents, device=self.places.device).cumsum(0)
            return torch.bucketize(self.places, ends, right=True)
        return self.places // self.tokens.shape[1]

    def from_source(self, source: str) -> Tensor:
        """Return (S,) True where the supervised token's row came from `source`."""
        flags = torch.tensor([e.source == source for e in self.examples], device=self.places.device)
        return flags[self.rows]


Step = list[Example]
"""The examples of one optimizer step."""
Weights = dict[str, Tensor]
"""Plain parameter name -> effective fp32 weight."""


def last_answer(example: Example) -> int:
    """Return the place where an example's last answer begins: the first of its last run of supervised tokens."""
    index = len(example) - 1
    while index > 0 and not example.supervised[index]:
        index -= 1
    while index > 0 and example.supervised[index - 1]:
        index -= 1
    return index
