"""Log-likelihoods of continuations: common beginnings are read once, and logits are computed only where they are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.decoding.generate import batched
from harness.decoding.prefix_tree import Ids, Row, read, rows_of
from harness.models.forward import width_of
from harness.models.placement import places_of, while_memory_runs_out
from harness.store.journal import Journal


@dataclass(frozen=True)
class Continuation:
    """Tokens to score after a prompt; the prompt has at least one token."""

    prompt: Ids
    tokens: Ids

    @property
    def read(self) -> Ids:
        """What the model reads to predict every token: all but the last."""
        return self.prompt + self.tokens[:-1]


Wanted = Mapping[Ids, Sequence[tuple[int, Ids]]]
"""What is read -> (number, tokens) of each continuation whose tokens it predicts."""
Scored = list[tuple[int, float, bool]]
"""(number, nats, whether greedy decoding would give it) of continuations."""


@torch.no_grad()
def score(
    model: Any, requests: Sequence[Continuation], budget: int, longest: int = 0, journal: Journal | None = None
) -> list[tuple[float, bool]]:
    """Return the log-likelihood in nats of each continuation, and whether greedy decoding would give it.

    `budget`: padded tokens a forward pass may hold, halved while memory runs out. `longest`: tokens of a row that several
    texts may share (`longest_shared`). Batches that the journal knows are not computed again.
    """
    return while_memory_runs_out(lambda tokens: _scored(model, requests, tokens, longest, journal or Journal()), budget)


def _scored(
    model: Any, requests: Sequence[Continuation], budget: int, longest: int, journal: Journal
) -> list[tuple[float, bool]]:
    # Continuations that make the model read the same are answered by one reading.
    texts: dict[Ids, list[tuple[int, Ids]]] = {}
    for number, continuation in enumerate(requests):
        texts.setdefault(continuation.read, []).append((number, continuation.tokens))
    rows = rows_of(texts, min(longest, budget), width_of(model))
    wanted = {row: _wanted(row, texts) for row in rows}

    # Rows of one text need no mask: they go together.
    results: dict[int, tuple[float, bool]] = {}
    for split in (False, True):
        part = [row for row in rows if (len(row.places) > 1) is split]
        for batch in batched(part, lambda row: len(row.tokens), budget, lambda row: len(wanted[row]), places_of(model)):
            questions = []
            for row in batch:
                questions += [[text, texts[text]] for text in row.places]
            scored = journal.once(
                ["likelihood", questions], lambda batch=batch: _score(model, {row: wanted[row] for row in batch}, texts)
            )
            results |= {number: (value, same) for number, value, same in scored}
    return [results[number] for number in range(len(requests))]


def _score(model: Any, rows: Mapping[Row, np.ndarray], wanted: Wanted) -> Scored:
    """Return the scores of the continuations in these rows, from the wanted places (`_wanted`)."""
    logits, _ = read(model, list(rows), list(rows.values()), use_cache=False)

    # For each continuation, the places among the logits that predict its tokens.
    numbers: list[int] = []
    tokens: list[Ids] = []
    places: list[np.ndarray] = []
    start = 0
    for row, scored in rows.items():
        for text, standing in row.places.items():
            for number, continuation in wanted[text]:
                numbers.append(number)
                tokens.append(continuation)
                places.append(start + np.searchsorted(scored, standing[len(standing) - len(continuation) :]))
        start += len(scored)
    values, same = _values(logits, np.concatenate(places), list(chain.from_iterable(tokens)))

    # The values of all continuations lie one after the other.
    ends = np.cumsum([len(ids) for ids in tokens]).tolist()
    parts = [slice(end - len(ids), end) for end, ids in zip(ends, tokens, strict=True)]
    return [(n, float(values[part].sum()), bool(same[part].all())) for n, part in zip(numbers, parts, strict=True)]


def _wanted(row: Row, wanted: Wanted) -> np.ndarray:
    """Return the places of a row that predict a token to be scored, in order."""
    last = [places[len(places) - max(len(t) for _, t in wanted[text]) :] for text, places in row.places.items()]
    return np.unique(np.concatenate(last))


def _values(logits: Tensor, places: np.ndarray, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) log-probabilities of tokens that (S, V) logits at these places predict, and whether they are likeliest."""
    at = torch.from_numpy(places).to(logits.device)
    label = torch.tensor(labels, device=logits.device)
    values = logits[at, label] - logits.logsumexp(-1)[at]
    same = logits.argmax(-1)[at] == label
    return values.double().cpu().numpy(), same.cpu().numpy()
