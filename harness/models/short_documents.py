"""Attention within the documents of a packed row, for short documents on a CPU: documents of like length at once.

One call a document is mostly overhead where documents are short, and one call for all of them pads the shortest to the longest.
So neighbours of like length (packing puts the longest first) make a segment, in which they are padded. Padding stands behind a
document and attention is causal, so no real token sees it: each document's numbers are those it has alone, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SHORT = 512
"""Tokens up to which plain attention beats the fused kernel on a CPU, whose backward is slow (measured: 1.1 to 2 times)."""
ALIKE = 0.6
"""A document joins a segment whose longest one it reaches to this share of its length (a guess between calls and padding)."""


def in_segments(documents: tuple[int, ...], device: str) -> bool:
    """Return whether a row of these documents attends in segments on a device of this type."""
    # The plain product is faster on a CPU only while documents are short.
    return device == "cpu" and bool(documents) and max(documents) <= SHORT


def executed_lengths(documents: tuple[int, ...], device: str) -> tuple[int, ...]:
    """Return the tokens that each document's attention runs over: with its segment's padding, where there is any."""
    if not in_segments(documents, device):
        return documents
    lengths: list[int] = []
    for number, width in segments_of(documents).shapes:
        lengths += [width] * number
    return tuple(lengths)


@dataclass(frozen=True)
class Segments:
    """How the documents of a row are laid out for attention."""

    shapes: tuple[tuple[int, int], ...]
    """(documents, padded tokens of each) a segment."""
    there: Tensor
    """(P,) for each padded place, the token of the row that stands there; padding repeats its document's last token."""
    back: Tensor
    """(T,) the padded place of each token of the row."""


@lru_cache(maxsize=8)
def segments_of(documents: tuple[int, ...]) -> Segments:
    """Return the segments of documents of these lengths, which stand end to end."""
    shapes: list[tuple[int, int]] = []
    widths: list[int] = []
    group: list[int] = []

    # The 0 behind the last document closes the last segment.
    for length in (*documents, 0):
        # Documents stand in their order, so a segment is a run of neighbours of like length.
        longest, shortest = max([*group, length]), min([*group, length])
        if group and shortest < ALIKE * longest:
            shapes.append((len(group), max(group)))
            widths += [max(group)] * len(group)
            group = []
        group.append(length)

    # Where each padded place takes its token from, and where each token goes back to.
    forth, back = [], []
    start = padded_start = 0
    for length, width in zip(documents, widths, strict=True):
        steps = torch.arange(width)
        forth.append(start + steps.clamp(max=length - 1))
        back.append(padded_start + steps[:length])
        start, padded_start = start + length, padded_start + width
    return Segments(tuple(shapes), torch.cat(forth), torch.cat(back))


def attend_in_segments(query: Tensor, key: Tensor, value: Tensor, documents: tuple[int, ...], scale: float) -> Tensor:
    """Return (1, T, H, D) causal attention inside each document, from (1, H, T, D) queries and (1, K, T, D) keys and values.

    H is a multiple of K: neighbouring heads share keys and values.
    """
    segments = segments_of(documents)
    sizes = [number * width for number, width in segments.shapes]
    parts = [tensor[0].transpose(0, 1).index_select(0, segments.there).split(sizes) for tensor in (query, key, value)]
    attended = []
    for (number, width), q, k, v in zip(segments.shapes, *parts, strict=True):
        # Heads that share keys and values are laid side by side, so that one product serves them all.
        heads, shared, size = q.shape[1], k.shape[1], q.shape[2]
        q = q.view(number, width, heads, size).transpose(1, 2).reshape(number, shared, -1, size)
        k, v = (projected.view(number, width, shared, size).transpose(1, 2) for projected in (k, v))
        scores = (q @ k.transpose(2, 3) * scale).view(number, heads, width, width)
        shares = (scores + _future(width, scores.dtype)).softmax(-1, dtype=torch.float32).to(v.dtype)
        seen = shares.view(number, shared, -1, width) @ v
        attended.append(seen.view(number, heads, width, size).transpose(1, 2).reshape(number * width, heads, size))
    return torch.cat(attended).index_select(0, segments.back)[None]


@lru_cache(maxsize=64)
def _future(width: int, dtype: torch.dtype) -> Tensor:
    """Return (T, T) what is added to scores so that no token sees a later one."""
    return torch.full((width, width), float("-inf"), dtype=dtype).triu(1)
