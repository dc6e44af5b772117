"""Decoding with continuous batching on a key-value cache.

Prompts are right-padded and run without a mask, except where several share a row (attention is causal, so the fast kernels
apply); what follows them is run on their key-value cache, with a mask over the padding in front. Both use nothing but the
public forward of a Hugging Face causal model. Which models can be decoded so is found by trying
(harness/decoding/capabilities.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoding.kv_cache import Prefix, extend, prefill
from harness.decoding.prefix_tree import Ids, rows_of
from harness.models.forward import device_of, width_of

PASSES = 4
"""Prompts of one part, in caches full: fewer would leave the cache idle at the end of each more often."""


# --- batches and models ------------------------------------------------------------------------------------------


def batched(
    entries: Sequence[Any], size: Callable[[Any], int], budget: int, places: Callable[[Any], int] = lambda _: 1, most: int = 0
) -> Iterator[list[Any]]:
    """Cut things into batches of similar size in tokens, longest first: at most `budget` tokens, padding included.

    `most`: where given, of the head's `places` in a batch.
    """
    group: list[Any] = []
    head = 0

    # Longest first: a batch is as wide as its first member, and a batch that is too large fails at once.
    for entry in sorted(entries, key=size, reverse=True):
        more = places(entry)
        if group and ((len(group) + 1) * size(group[0]) > budget or (most and head + more > most)):
            yield group
            group = []
            head = 0
        group.append(entry)
        head += more
    if group:
        yield group


# --- decoding -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """What to continue, by how many tokens at most; `ended` may stop it early, asked after each token."""

    tokens: Ids
    limit: int
    ended: Callable[[list[int]], bool]

    @property
    def room(self) -> int:
        """Tokens it may come to occupy."""
        return len(self.tokens) + self.limit


Choose = Callable[[Tensor], Tensor]
"""(B, V) logits -> (B,) next tokens."""


def most_likely(logits: Tensor) -> Tensor:
    """Greedy decoding."""
    return logits.argmax(-1)


def sampled(temperature: float) -> Choose:
    """Draw from softmax(logits / temperature) with the global generator of the logits' device."""
    return lambda logits: torch.multinomial((logits / temperature).softmax(-1), 1).squeeze(1)


@torch.no_grad()
def continuations(
    model: Any,
    prompts: Sequence[Prompt],
    stops: frozenset[int],
    budget: int,
    room: int | None = None,
    choose: Choose = most_likely,
    longest: int = 0,
) -> list[list[int]]:
    """Return the continuation of each prompt, its stop token included where it came.

    `budget`: padded tokens of one forward pass; `room`: tokens the cache may hold; `longest`: tokens of a row that several
    prompts may share while they are read. Rows that finish leave and waiting prompts take their places, a quarter of the
    batch at a time (continuous batching).
    """
    waiting = deque(_order(prompts))
    batch = _Batch(prompts, stops, device_of(model))
    while True:
        # Waiting prompts enter where rows have left; without any, the batch goes on smaller.
        while batch.loose:
            entering = _admitted(prompts, waiting, batch.staying, room or budget)
            batch.change(_enter(model, prompts, entering, budget, longest), choose)
            if not batch.rows:
                return batch.outputs

        # One token for every row, those that have ended included: leaving one by one would cost more.
        batch.latest = choose(batch.extended(model))
        batch.say(batch.rows, batch.latest)


class _Batch:
    """The prompts that are continued at once, each a row of one cache, and what has been said."""

    def __init__(self, prompts: Sequence[Prompt], stops: frozenset[int], device: torch.device) -> None:
        self.prompts = prompts
        self.stops = stops
        self.outputs: list[list[int]] = [[] for _ in prompts]
        self.rows: list[int] = []
        """Which prompt each row continues."""
        self.ended: set[int] = set()
        self.prefix: Prefix | None = None
        self.latest = torch.empty(0, dtype=torch.long, device=device)
        """The last token of each row."""

    @property
    def loose(self) -> bool:
        """Whether a quarter of the rows has ended, or rows that have ended hold the cache wider than the others need."""
        widest = max((self.prompts[row].room for row in self.rows), default=0)
        return 4 * len(self.ended) >= len(self.rows) or bool(self.ended and self.prefix and self.prefix.width >= widest)

    @property
    def staying(self) -> list[int]:
        return [row for row in self.rows if row not in self.ended]

    def change(self, entered: _Entered, choose: Choose) -> None:
        """Let rows that have ended leave, and others enter."""
        # The rows that stay, and those that enter, become one cache.
        kept = torch.tensor([i for i, row in enumerate(self.rows) if row not in self.ended], device=self.latest.device).long()
        held = [(self.prefix, kept)] if self.prefix and len(kept) else []
        self.rows = self.staying
        self.ended = set()
        self.latest = self.latest[kept]
        held += [(part, torch.arange(len(part.mask), device=kept.device)) for part in entered.parts]
        self.prefix = Prefix.join(held) if held else None
        if not entered.rows:
            return

        # The first token of an answer comes with the reading of its prompt.
        first = torch.cat([*map(choose, entered.logits)])
        self.say(entered.rows, first)
        self.rows = self.rows + entered.rows
        self.latest = torch.cat([self.latest, first])

    def say(self, rows: Sequence[int], tokens: Tensor) -> None:
        """Take down the next token of each of these rows."""
        for row, token in zip(rows, tokens.tolist(), strict=True):
            # Rows that have ended stay in the batch until it is cut, and say nothing more.
            if row not in self.ended:
                output = self.outputs[row]
                prompt = self.prompts[row]
                output.append(token)
                if len(output) >= prompt.limit or token in self.stops or prompt.ended(output):
                    self.ended.add(row)

    def extended(self, model: Any) -> Tensor:
        """Return (B, V) logits after each row's last token."""
        assert self.prefix is not None
        step = self.latest[:, None]
        all_rows = torch.arange(len(self.rows), device=self.latest.device)
        return extend(model, self.prefix, step, torch.ones_like(step), all_rows)


def parts(prompts: Sequence[Prompt], room: int) -> Iterator[list[int]]:
    """Return prompts by number, those decoded best together next to each other, in parts that fill the cache `PASSES` times."""
    part: list[int] = []
    full = 0
    for number in _order(prompts):
        if part and full + prompts[number].room > PASSES * room:
            yield part
            part = []
            full = 0
        part.append(number)
        full += prompts[number].room
    if part:
        yield part


def _order(prompts: Sequence[Prompt]) -> list[int]:
    """Return the order of decoding: long answers first, and long prompts among them."""
    # What takes longest begins first, so that short answers fill the end.
    return sorted(range(len(prompts)), key=lambda n: (prompts[n].limit, len(prompts[n].tokens)), reverse=True)


def _admitted(prompts: Sequence[Prompt], waiting: deque[int], rows: Sequence[int], room: int) -> list[int]:
    """Return the prompts that may join the batch: as many as the room allows, at least one if it is empty."""
    taken: list[int] = []

    # Every row of the cache is as wide as the widest: a long prompt takes room from all.
    widest = max((prompts[row].room for row in rows), default=0)
    while waiting:
        widest = max(widest, prompts[waiting[0]].room)
        full = (len(rows) + len(taken) + 1) * widest > room
        if full and (rows or taken):
            break
        taken.append(waiting.popleft())
    return taken


@dataclass
class _Entered:
    """Prompts read: what is remembered of them, the logits after them, and their numbers, part by part in one order."""

    parts: list[Prefix]
    logits: list[Tensor]
    rows: list[int]


def _enter(model: Any, prompts: Sequence[Prompt], entering: Sequence[int], budget: int, longest: int) -> _Entered:
    """Read prompts; common beginnings are read once."""
    # Equal prompts are read once and their cache is copied.
    asking: dict[Ids, list[int]] = {}
    for number in entering:
        asking.setdefault(prompts[number].tokens, []).append(number)
    copies = {text: len(numbers) for text, numbers in asking.items()}

    # Texts that begin alike share rows, so a common instruction is read once.
    entered = _Entered([], [], [])
    for group in batched(rows_of(asking, min(longest, budget), width_of(model)), lambda row: len(row.tokens), budget):
        prefix, logits = prefill(model, group, copies)
        entered.parts.append(prefix)
        entered.logits.append(logits)
        for row in group:
            for text in row.places:
                entered.rows += asking[text]
    return entered
