"""A key-value cache of prompts whose rows are added, removed and grown in place.

Rows end at one place, padding in front, as transformers' own batches do: what reads a distance off places (local attention,
ALiBi) then finds the right one. Every layer keeps all tokens, and masks hide those outside its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from harness.decoding.prefix_tree import Ids, Row, padded, read
from harness.models.forward import has_virtual_tokens, head_at, innermost, takes_positions

SLACK = 32
"""Tokens of room that a cache layer takes beyond what it holds, at least; else a quarter more."""
STATES = ("keys", "values")


class Growing(DynamicLayer):
    """A layer of the cache with room: new tokens are written behind the others; all is copied only when the room is used up."""

    def __init__(self, filled: Any) -> None:
        """Go on from a filled layer."""
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self.rooms: dict[str, Tensor] = {}
        """What is held, and the room behind it."""
        for name in STATES:
            self.take(name, getattr(filled, name), filled.keys.shape[2])

    def take(self, name: str, room: Tensor, size: int) -> None:
        """Go on with (B, H, T', D) states of which the first `size` tokens are held."""
        self.rooms[name] = room
        setattr(self, name, room[:, :, :size])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        size = self.get_seq_length()
        for name, room in self.rooms.items():
            self.take(name, room.index_select(0, beam_idx.to(room.device)), size)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self._behind("keys", key_states), self._behind("values", value_states)
        return self.keys, self.values

    def _behind(self, name: str, new: Tensor) -> Tensor:
        """Return (B, H, T + t, D) the held states and the new ones."""
        # New room is a quarter larger than needed, so that copying stays rare.
        held, room = getattr(self, name), self.rooms[name]
        size, end = held.shape[2], held.shape[2] + new.shape[2]
        if end > room.shape[2]:
            room = held.new_empty(*held.shape[:2], with_slack(end), held.shape[3])
            room[:, :, :size] = held
        room[:, :, size:end] = new
        self.rooms[name] = room
        return room[:, :, :end]


def with_slack(tokens: int) -> int:
    return tokens + max(SLACK, tokens // 4)


@dataclass
class Prefix:
    """What the model remembers of B prompts."""

    cache: Any
    mask: Tensor
    """(B, T) 1 at real tokens (virtual ones included), 0 at padding."""

    @property
    def width(self) -> int:
        """Places in use."""
        return self.mask.shape[1]

    def select(self, rows: Tensor) -> Prefix:
        """Keep, repeat or reorder rows, in place."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
        return self

    @staticmethod
    def join(parts: Sequence[tuple[Prefix, Tensor]]) -> Prefix:
        """Return these rows of each part in one cache, their real tokens moved to its end; the first part's cache is reused."""
        # All rows end at the same place: their padding moves to the front.
        masks = [part.mask[rows] for part, rows in parts]
        sizes = torch.cat([mask.sum(1) for mask in masks])
        width = int(sizes.max())
        orders = [_to_the_end(mask, width) for mask in masks]
        wanted = [(rows, order) for (_, rows), order in zip(parts, orders, strict=True)]
        for layers in zip(*(part.cache.layers for part, _ in parts), strict=True):
            for name in STATES:
                rooms = [layer.rooms[name] for layer in layers]
                layers[0].take(name, _gathered(rooms, wanted, with_slack(width)), width)
        mask = (torch.arange(width, device=sizes.device) >= width - sizes[:, None]).long()
        return Prefix(parts[0][0].cache, mask)


def _to_the_end(mask: Tensor, width: int) -> Tensor:
    """Return (B, width) places of each row's tokens in a (B, T) mask: padding first, then the real ones in order."""
    order = mask.argsort(dim=1, stable=True)[:, -width:]
    return F.pad(order, (width - order.shape[1], 0))


def _gathered(states: Sequence[Tensor], wanted: Sequence[tuple[Tensor, Tensor]], width: int) -> Tensor:
    """Return (B, H, width, D): of each part these rows, tokens in the (B, T) order; what stands behind those is masked."""
    _, heads, _, size = states[0].shape
    gathered = states[0].new_empty(sum(len(rows) for rows, _ in wanted), heads, width, size)
    begin = 0
    for part, (rows, order) in zip(states, wanted, strict=True):
        # Heads and tokens of a row lie one after the other: one gather on flat places takes all of them.
        order = F.pad(order[:, :width], (0, max(0, width - order.shape[1])))
        lines = (rows[:, None] * heads + torch.arange(heads, device=rows.device))[:, :, None] * part.shape[2] + order[:, None]
        target = gathered[begin : begin + len(rows)].view(-1, size)
        torch.index_select(part.contiguous().view(-1, size), 0, lines.flatten().to(part.device), out=target)
        begin += len(rows)
    return gathered


def prefill(model: Any, rows: Sequence[Row], copies: Mapping[Ids, int] | None = None) -> tuple[Prefix, Tensor]:
    """Read prompts, several of which may share a row: what is remembered of each, and the (B, V) fp32 logits after it.

    Prompts come in the rows' order, each as often as `copies` says (once).
    """
    last = [np.array([places[-1] for places in row.places.values()]) for row in rows]
    memory = {} if has_virtual_tokens(model) else {"past_key_values": DynamicCache()}
    logits, out = read(model, rows, last, use_cache=True, **memory)

    # One row of the cache for each text, also where several shared a row while they were read.
    cache = out.past_key_values
    device = logits.device
    texts: list[Ids] = []
    row_of_text: list[int] = []
    places_of_text: list[np.ndarray] = []
    for number, row in enumerate(rows):
        texts += row.places
        row_of_text += [number] * len(row.places)
        places_of_text += row.places.values()
    times = torch.tensor([(copies or {}).get(text, 1) for text in texts], device=device)
    again = torch.arange(len(texts), device=device).repeat_interleave(times)
    if len(texts) > len(rows):
        _separate(cache, row_of_text, places_of_text)

    # Windows and recurrent states forget or mix tokens: such a cache cannot be rearranged.
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        raise TypeError(f"{type(model).__name__} remembers more than keys and values")
    cache.layers = [Growing(layer) for layer in cache.layers]
    _, mask = padded(texts, device)
    virtual = cache.get_seq_length() - mask.shape[1]  # remembered before the prompt: prefix tuning and the like
    prefix = Prefix(cache, F.pad(mask, (virtual, 0), value=1))
    return (prefix, logits) if len(again) == len(texts) else (prefix.select(again), logits[again])


def _separate(cache: Any, rows: Sequence[int], places: Sequence[np.ndarray]) -> None:
    """Give each text of shared rows a row of its own: text i stands in row `rows[i]` at `places[i]`."""
    width = max(map(len, places))
    index = torch.from_numpy(np.stack([np.pad(kept, (0, width - len(kept))) for kept in places]))
    for layer in cache.layers:
        order, source = index.to(layer.keys.device), torch.tensor(rows, device=layer.keys.device)
        for name in STATES:
            setattr(layer, name, _gathered([getattr(layer, name)], [(source, order)], width))


def extend(model: Any, prefix: Prefix, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """Read (B, t) more tokens after each prompt, whose memory grows; (S, V) fp32 logits at flat `places` of them."""
    # A token's position counts the real tokens before it, not the padding.
    start = prefix.mask.sum(1, keepdim=True)
    prefix.mask = torch.cat([prefix.mask, mask], 1)
    positions = start + torch.arange(tokens.shape[1], device=tokens.device)
    extra = {"position_ids": positions} if takes_positions(model) else {}
    with head_at(model, places, tokens.shape[1]):
        memory = {"past_key_values": prefix.cache, "use_cache": True}
        out = innermost(model)(input_ids=tokens, attention_mask=prefix.mask, **memory, **extra)  # virtual tokens once
    prefix.cache = out.past_key_values
    return out.logits[0].float()
