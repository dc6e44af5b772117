"""Micro-batches: which examples share a forward pass, padded or packed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import chain

import torch

from harness.contract import Batch, Example


def collate(examples: Sequence[Example], device: torch.device | str = "cpu", pad: int = 0) -> Batch:
    """Return one right-padded micro-batch. The label of a place is the token after it, so targets are shifted by one here."""
    width = max(len(example) for example in examples)
    tokens = torch.full((len(examples), width), pad)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    supervised = torch.zeros((len(examples), width), dtype=torch.bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example)] = torch.tensor(example.tokens)
        mask[row, : len(example)] = 1
        supervised[row, : len(example)] = torch.tensor(example.supervised)
    supervised[:, 0] = False  # nothing predicts the first token
    targets = supervised.flatten().nonzero().squeeze(1)
    labels = tokens.flatten()[targets]
    tokens, mask, places, labels = (part.to(device) for part in (tokens, mask, targets - 1, labels))
    return Batch(tokens, mask, places, labels, tuple(examples))


def micro_batches(examples: Sequence[Example], limit: int, overhead: int = 64) -> list[list[Example]]:
    """Cut examples into groups of similar length, padded to at most `limit` tokens each.

    A longer example joins a group unless the padding this adds costs more than starting a new group (`overhead`, in tokens).
    The order is by (length, id): fixed by the examples alone, so that a step's arithmetic never depends on their order.
    """
    # Sorted by length, so that little is padded; ties by id, so that the groups do not depend on
    # the order that came in.
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: (len(e), e.id)):
        group = groups[-1] if groups else []
        padding = len(group) * (len(example) - len(group[-1])) if group else 0
        if group and padding <= overhead and (len(group) + 1) * len(example) <= limit:
            group.append(example)
        else:
            groups.append([example])
    return groups


def packs(examples: Sequence[Example], room: int) -> list[list[Example]]:
    """Return groups of at most `room` tokens by best fit, longest first: each example goes where least room is left after it.

    Fixed by the examples alone, whatever their order. A longer example has a group of its own.
    """
    groups: list[list[Example]] = []
    left: list[tuple[int, int]] = []  # (room left, group), ascending
    for example in sorted(examples, key=lambda e: (-len(e), e.id)):
        # The smallest gap that still holds the example; found by bisection in the sorted list of
        # gaps.
        slot = bisect_left(left, (len(example), -1))
        space, group = left.pop(slot) if slot < len(left) else (room, len(groups))
        if group == len(groups):
            groups.append([])
        groups[group].append(example)
        insort(left, (space - len(example), group))
    return groups


def pack(examples: Sequence[Example], device: torch.device | str = "cpu") -> Batch:
    """Return one packed batch. The first token of an example is nobody's target."""
    tokens = torch.tensor(list(chain.from_iterable(example.tokens for example in examples)))
    supervised = torch.tensor(list(chain.from_iterable((False, *example.supervised[1:]) for example in examples)))
    targets = supervised.nonzero().squeeze(1)
    row, places, labels = (part.to(device) for part in (tokens[None], targets - 1, tokens[targets]))
    return Batch(row, torch.ones_like(row), places, labels, tuple(examples), tuple(map(len, examples)))
