"""Forward passes on a key-value cache: what a model remembers of prompts, and greedy decoding with continuous batching.

Prompts are right-padded and run without a mask (attention is causal, so the fast kernels apply); what follows them is run
on their key-value cache, with a mask over the padding. Both use nothing but the public forward of a Hugging Face causal
model. Models for which padding inside a cache is not harmless (recurrent layers, sliding windows) get batches of equal length.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.model import head_at

Ids = tuple[int, ...]


@dataclass
class Prefix:
    """What the model remembers of B prompts."""

    cache: Any
    mask: Tensor
    """(B, T) 1 at real tokens (virtual ones in front included), 0 at padding."""

    def select(self, rows: Tensor) -> Prefix:
        """Keep, repeat or reorder rows, in place."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
        return self

    @staticmethod
    def join(parts: Sequence[Prefix]) -> Prefix:
        """All rows in one cache, their real tokens moved to the front; the first part's cache is reused."""
        if len(parts) == 1:
            return parts[0]
        width = max(int(part.mask.sum(1).max()) for part in parts)
        orders = [part.mask.argsort(dim=1, descending=True, stable=True)[:, :width] for part in parts]
        for layers in zip(*(part.cache.layers for part in parts), strict=False):
            for name in ("keys", "values"):
                packed = [_packed(getattr(layer, name), order, width) for layer, order in zip(layers, orders, strict=False)]
                setattr(layers[0], name, torch.cat(packed))
        masks = [
            F.pad(part.mask.gather(1, order), (0, width - order.shape[1])) for part, order in zip(parts, orders, strict=False)
        ]
        return Prefix(parts[0].cache, torch.cat(masks))


def _packed(states: Tensor, order: Tensor, width: int) -> Tensor:
    """(B, H, T, D) keys or values in the (B, T') order, padded to `width`."""
    index = order[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return F.pad(states.gather(2, index), (0, 0, 0, width - order.shape[1]))


def padded(rows: Sequence[Ids], device: Any) -> tuple[Tensor, Tensor]:
    """Right-padded (B, T) tokens and mask. Padding is token 0: nothing ever attends to it."""
    width = max(map(len, rows))
    tokens = torch.tensor([row + (0,) * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return tokens.to(device), mask.to(device)


def prefill(model: Any, prompts: Sequence[Ids]) -> tuple[Prefix, Tensor]:
    """Read B prompts: what is remembered of them, and the (B, V) fp32 logits after each."""
    tokens, mask = padded(prompts, device_of(model))
    width = tokens.shape[1]
    last = torch.arange(len(prompts), device=tokens.device) * width + mask.sum(1) - 1
    with head_at(model, last, width):
        out = model(input_ids=tokens, use_cache=True)
    virtual = out.past_key_values.get_seq_length() - width  # remembered before the prompt: prefix tuning and the like
    return Prefix(out.past_key_values, F.pad(mask, (virtual, 0), value=1)), out.logits[0].float()


def extend(model: Any, prefix: Prefix, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """Read (B, t) more tokens after each prompt, whose memory grows; (S, V) fp32 logits at flat `places` of them."""
    start = prefix.mask.sum(1, keepdim=True)
    prefix.mask = torch.cat([prefix.mask, mask], 1)
    positions = start + torch.arange(tokens.shape[1], device=tokens.device)
    extra = {"position_ids": positions} if takes_positions(model) else {}
    with head_at(model, places, tokens.shape[1]):
        memory = {"past_key_values": prefix.cache, "use_cache": True}
        out = _innermost(model)(input_ids=tokens, attention_mask=prefix.mask, **memory, **extra)  # virtual tokens once
    prefix.cache = out.past_key_values
    return out.logits[0].float()


# --- batches and models ------------------------------------------------------------------------------------------


def batched(
    things: Sequence[Any], sizes: Callable[[Any], tuple[int, int]], budget: int, equal: bool = False
) -> Iterator[list[Any]]:
    """Cut things into batches of similar size, longest first: at most `budget` tokens, padding included.

    `sizes`: tokens read at once (padded to the batch's longest) and tokens added later. `equal`: only equal first sizes
    together.
    """
    group: list[Any] = []
    head = tail = 0
    for thing in sorted(things, key=sizes, reverse=True):
        first, later = sizes(thing)
        wide = (len(group) + 1) * (head + max(tail, later)) > budget
        if group and (wide or (equal and first != head)):
            yield group
            group, head, tail = [], 0, 0
        group.append(thing)
        head, tail = max(head, first), max(tail, later)
    if group:
        yield group


def _innermost(model: Any) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def takes_positions(model: Any) -> bool:
    """Whether the model is told positions; those that are not (ALiBi) read them off the mask."""
    return "position_ids" in inspect.signature(_innermost(model).forward).parameters


def padding_harmless(model: Any) -> bool:
    """Whether a cache may hold padding under a mask: full attention everywhere."""
    config = _innermost(model).config.get_text_config()  # type: ignore[union-attr]
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"]
    return set(kinds) == {"full_attention"} and not getattr(_innermost(model), "_is_stateful", False)


def device_of(model: Any) -> torch.device:
    return next(model.parameters()).device


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
    """Draws from softmax(logits / temperature) with the global generator of the logits' device."""
    return lambda logits: torch.multinomial((logits / temperature).softmax(-1), 1).squeeze(1)


@torch.no_grad()
def continuations(
    model: Any,
    prompts: Sequence[Prompt],
    stops: frozenset[int],
    budget: int,
    room: int | None = None,
    choose: Choose = most_likely,
) -> list[list[int]]:
    """The continuation of each prompt, its stop token included where it came.

    `budget`: padded tokens of one forward pass; `room`: tokens the cache may hold. Rows that finish leave and waiting
    prompts take their places, a quarter of the batch at a time (continuous batching).
    """
    outputs: list[list[int]] = [[] for _ in prompts]
    equal = not padding_harmless(model)
    order = sorted(range(len(prompts)), key=lambda i: _order(prompts[i], equal), reverse=True)
    waiting, rows, done = deque(order), list[int](), set[int]()
    prefix, latest = None, torch.empty(0, dtype=torch.long, device=device_of(model))
    while True:
        if not done and (entering := _admitted(prompts, waiting, rows, room or budget, equal)):
            prefix, first, entered = _entered(model, prompts, entering, prefix, budget, choose)
            rows, latest = rows + entered, torch.cat([latest, first])
        if prefix is None or not rows:
            return outputs
        for row, token in zip(rows, latest.tolist(), strict=False):
            if row not in done:
                outputs[row].append(token)
                full = len(outputs[row]) >= prompts[row].limit
                if full or token in stops or prompts[row].ended(outputs[row]):
                    done.add(row)
        if 4 * len(done) >= len(rows):
            kept = torch.tensor([i for i, row in enumerate(rows) if row not in done], device=latest.device).long()
            rows, latest, done = [row for row in rows if row not in done], latest[kept], set()
            prefix = prefix.select(kept) if rows else None
        if prefix is not None:
            step, all_rows = latest[:, None], torch.arange(len(rows), device=latest.device)
            latest = extend(model, prefix, step, torch.ones_like(step), all_rows)
            latest = choose(latest)


def _order(prompt: Prompt, equal: bool) -> tuple[int, int]:
    """Long answers first; where a batch must be of equal length, long prompts first."""
    length = len(prompt.tokens)
    return (length, prompt.limit) if equal else (prompt.limit, length)


def _admitted(prompts: Sequence[Prompt], waiting: deque[int], rows: Sequence[int], room: int, equal: bool) -> list[int]:
    """Those who may join the batch: as many as the room allows, one at least where it is empty."""
    taken: list[int] = []
    if equal and rows:
        return taken
    widest = max((prompts[row].room for row in rows), default=0)
    while waiting:
        one = prompts[waiting[0]]
        widest = max(widest, one.room)
        full = (len(rows) + len(taken) + 1) * widest > room
        unequal = equal and taken and len(one.tokens) != len(prompts[taken[0]].tokens)
        if (full and (rows or taken)) or unequal:
            break
        taken.append(waiting.popleft())
    return taken


def _entered(
    model: Any, prompts: Sequence[Prompt], entering: Sequence[int], prefix: Prefix | None, budget: int, choose: Choose
) -> tuple[Prefix, Tensor, list[int]]:
    """Read new prompts and put them behind those being decoded: all of it, the (B,) first tokens of the new, their order."""
    parts, first, order = [prefix] if prefix else [], [], []
    for rows in batched(entering, lambda row: (len(prompts[row].tokens), 0), budget):
        fresh, logits = prefill(model, [prompts[row].tokens for row in rows])
        parts.append(fresh)
        first.append(choose(logits))
        order += rows
    return Prefix.join(parts), torch.cat(first), order
