"""Log-likelihoods of continuations: those of one prompt share its forward pass, and logits exist only where they are scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contract import Batch
from harness.decode import Ids, batched, device_of, extend, padded, padding_harmless, prefill
from harness.model import logits_at


@dataclass(frozen=True)
class Continuation:
    """Tokens to score after a prompt; the prompt has at least one token."""

    prompt: Ids
    tokens: Ids

    @property
    def read(self) -> Ids:
        """What the model reads to predict every token: all but the last."""
        return self.prompt + self.tokens[:-1]


class _Row:
    """One sequence the model reads, and the continuations whose tokens it predicts."""

    def __init__(self, read: Ids) -> None:
        self.read = read
        self.asked: list[tuple[int, Ids]] = []

    @property
    def scored(self) -> int:
        """How many last positions are scored: equal for all that was asked, since the prompt is."""
        return len(self.asked[0][1])


@torch.no_grad()
def score(model: Any, asked: Sequence[Continuation], budget: int) -> list[tuple[float, bool]]:
    """Log-likelihood in nats of each continuation, and whether greedy decoding would give it.

    `budget`: padded tokens a forward pass may hold. Continuations of one prompt share its forward pass, and what the
    model would read twice is read once.
    """
    groups: dict[Ids, dict[Ids, _Row]] = defaultdict(dict)
    for index, one in enumerate(asked):
        row = groups[one.prompt[:-1]].setdefault(one.read, _Row(one.read))
        row.asked.append((index, one.tokens))
    shared = {head: list(rows.values()) for head, rows in groups.items() if head and len(rows) > 1}
    alone = [row for head, rows in groups.items() if head not in shared for row in rows.values()]
    found: dict[int, tuple[float, bool]] = {}
    for rows in batched(alone, lambda r: (len(r.read), 0), budget):
        _collect(_alone(model, rows), rows, found)
    equal = not padding_harmless(model)

    def sizes(head: Ids) -> tuple[int, int]:
        return len(head), len(shared[head]) * max(len(row.read) - len(head) for row in shared[head])

    for heads in batched(list(shared), sizes, budget, equal):
        rows = [row for head in heads for row in shared[head]]
        _collect(_shared(model, heads, [shared[head] for head in heads]), rows, found)
    return [found[index] for index in range(len(asked))]


def _alone(model: Any, rows: Sequence[_Row]) -> Tensor:
    """(S, V) logits at the scored places of each row in turn, without a cache."""
    tokens, mask = padded([row.read for row in rows], device_of(model))
    places = _places([len(row.read) for row in rows], [row.scored for row in rows], tokens)
    return logits_at(model, Batch(tokens, mask, places, places, ()))


def _shared(model: Any, heads: Sequence[Ids], groups: Sequence[Sequence[_Row]]) -> Tensor:
    """The same, for rows that begin with a shared head."""
    prefix, _ = prefill(model, heads)
    counts = torch.tensor([len(group) for group in groups], device=prefix.mask.device)
    prefix = prefix.select(torch.arange(len(heads), device=counts.device).repeat_interleave(counts))
    rows = [row for group in groups for row in group]
    tails = [row.read[len(head) :] for head, group in zip(heads, groups, strict=False) for row in group]
    tokens, mask = padded(tails, prefix.mask.device)
    places = _places([len(tail) for tail in tails], [row.scored for row in rows], tokens)
    return extend(model, prefix, tokens, mask, places)


def _places(lengths: Sequence[int], scored: Sequence[int], tokens: Tensor) -> Tensor:
    """Flat places of the last `scored` real tokens of each row."""
    width = tokens.shape[1]
    flat = [i * width + t for i, (n, s) in enumerate(zip(lengths, scored, strict=False)) for t in range(n - s, n)]
    return torch.tensor(flat, device=tokens.device)


def _collect(logits: Tensor, rows: Sequence[_Row], found: dict[int, tuple[float, bool]]) -> None:
    """Sum up the log-probabilities of every continuation these rows were asked about."""
    ends = np.cumsum([row.scored for row in rows])
    asked = [(end, index, tokens) for end, row in zip(ends, rows, strict=False) for index, tokens in row.asked]
    flat = [t for end, _, tokens in asked for t in range(end - len(tokens), end)]
    places = torch.tensor(flat, device=logits.device)
    labels = torch.tensor([token for _, _, tokens in asked for token in tokens], device=logits.device)
    normal, greedy = logits.logsumexp(-1), logits.argmax(-1)
    values = (logits[places, labels] - normal[places]).double().cpu().numpy()
    same = (greedy[places] == labels).cpu().numpy()
    start = 0
    for _, index, tokens in asked:
        part = slice(start, start := start + len(tokens))
        found[index] = float(values[part].sum()), bool(same[part].all())
