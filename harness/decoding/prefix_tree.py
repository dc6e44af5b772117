"""Texts that begin alike share a row: a common beginning is read once.

A row is a prefix tree laid out in a line. Every token has the position it has in its own text, and a mask shows it the tokens
before it in that text and no others, so its logits are those of the text read alone (to rounding; measured before it is used).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.models.forward import device_of, has_virtual_tokens, head_at, head_dtype, innermost, same_logits

Ids = tuple[int, ...]

LONGEST = 2048
"""Tokens of a row that several texts share: its mask is their square."""
REACH = 2
"""Attending to `REACH * hidden size` tokens is taken to cost what all else costs a token: FLOPs say 6, a CPU core about 2."""
SPANS = ("window", "chunk", "span", "local")
"""What stands in the names of a configuration's entries that say how far local attention sees ..."""
COUNTS = ("layer", "expert", "head", "pattern")
"""... and in those of other entries with such words, which count something."""


class Row:
    """Texts that the model reads in one row."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.places: dict[Ids, np.ndarray] = {}
        """Text -> where its tokens stand in the row."""
        self.common: list[int] = []
        """Tokens at the beginning of each text that the text before it brought."""

    def add(self, text: Ids, common: int) -> None:
        """Add one text more, of which the last one had so many first tokens."""
        # The common beginning stands where the text before put it: only the rest is new.
        last = next(reversed(self.places.values()), np.empty(0, int))
        fresh = np.arange(len(self.tokens), len(self.tokens) + len(text) - common)
        self.places[text] = np.concatenate([last[:common], fresh])
        self.tokens += text[common:]
        self.common.append(common)

    @property
    def positions(self) -> np.ndarray:
        """(T,) each token's place in its own text."""
        numbers = np.zeros(len(self.tokens), int)
        for places in self.places.values():
            numbers[places] = np.arange(len(places))
        return numbers

    def show(self, visible: np.ndarray) -> None:
        """Set what each of the T tokens sees of the others in an all-false (T, T) table."""
        for places, common in zip(self.places.values(), self.common, strict=True):
            visible[np.ix_(places[common:], places)] = np.tri(len(places) - common, len(places), common, dtype=bool)


def rows_of(texts: Iterable[Ids], longest: int, width: int) -> list[Row]:
    """Return texts in rows: neighbours in sorted order share one of at most `longest` tokens where that costs less
    than two rows.

    `width`: the model's hidden size, which says what attention costs beside the rest. `longest` 0: a row each.
    """

    def cost(size: int) -> float:
        # Attention's part grows with the square of a row.
        return size + size * size / (REACH * width)

    rows: list[Row] = []
    last: Ids = ()
    for text in sorted(set(texts)):
        # In sorted order, texts that begin alike are neighbours.
        common = _common(last, text)

        # A shared row saves the common beginning and costs a larger mask: whichever is less.
        size = len(rows[-1].tokens) + len(text) - common if rows else longest + 1
        if size > longest or cost(size) >= cost(len(rows[-1].tokens)) + cost(len(text)):
            rows.append(Row())
            common = 0
        rows[-1].add(text, common)
        last = text
    return rows


def _common(first: Ids, second: Ids) -> int:
    """Return the length of the common beginning."""
    differing = (index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differing, min(len(first), len(second)))


def padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    """Return right-padded (B, T) tokens and mask. Padding is token 0: nothing ever attends to it."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return tokens.to(device), mask.to(device)


def read(model: Any, rows: Sequence[Row], places: Sequence[np.ndarray], **options: Any) -> tuple[Tensor, Any]:
    """Return one pass over rows: (S, V) fp32 logits at these places of each row in turn, and the model's whole answer."""
    device = device_of(model)
    # Right-padded: causal attention never looks there.
    tokens, _ = padded([row.tokens for row in rows], device)
    width = tokens.shape[1]
    flat = np.concatenate([row_places + row * width for row, row_places in enumerate(places)])

    # A row of one text needs no mask of its own.
    if any(len(row.places) > 1 for row in rows):
        options |= _view(rows, width, device, head_dtype(model))
    with head_at(model, torch.from_numpy(flat).to(device), width):
        out = model(input_ids=tokens, **options)
    return out.logits[0].float(), out


def _view(rows: Sequence[Row], width: int, device: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return (B, T) positions and the (B, 1, T, T) additive mask."""
    visible = np.zeros((len(rows), 1, width, width), bool)
    positions = np.zeros((len(rows), width), int)
    for number, row in enumerate(rows):
        size = len(row.tokens)
        row.show(visible[number, 0, :size, :size])
        positions[number, :size] = row.positions
    hidden = torch.from_numpy(~visible).to(device)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)
    return {"attention_mask": mask, "position_ids": torch.from_numpy(positions).to(device)}


@torch.no_grad()
def longest_shared(model: Any) -> int:
    """Return tokens that a row of several texts may have; 0 where the model cannot be told what a token sees.

    That is tried out: two texts in one row must have the logits that they have alone. Local attention sees everything in a row
    that is no longer than its span, which only the configuration tells.
    """
    # Virtual tokens stand in front of a row, and a row of several texts would share them.
    if has_virtual_tokens(model):
        return 0

    # A model that refuses masks or positions of our own reads each text in its own row.
    try:
        apart = _keeps_apart(model)
    except Exception:  # it does not take such masks or positions, and says so in its own way
        return 0
    return min([LONGEST, *_spans(innermost(model).config)]) if apart else 0


def _spans(config: Any) -> list[int]:
    """Return how far the model's local attention sees, as far as its configuration says."""
    # Configurations name windows differently; entries that count something are no lengths.
    entries = config.get_text_config().to_dict()
    named = {k: v for k, v in entries.items() if any(word in k for word in SPANS) and not any(word in k for word in COUNTS)}
    return [value for value in named.values() if isinstance(value, int) and not isinstance(value, bool) and value > 0]


def _keeps_apart(model: Any) -> bool:
    texts = ((5, 6, 7, 8, 9, 5, 6), (5, 6, 7, 9, 8, 7, 5, 9))

    # Two texts that share three tokens, read in one row and each alone.
    together = rows_of(texts, LONGEST, LONGEST)
    alone = rows_of(texts, 0, LONGEST)
    expected, _ = read(model, alone, [np.arange(len(row.tokens)) for row in alone], use_cache=False)
    order = np.concatenate([together[0].places[text] for text in chain.from_iterable(row.places for row in alone)])
    computed, _ = read(model, together, [order], use_cache=False)
    return same_logits(computed, expected, head_dtype(model))
