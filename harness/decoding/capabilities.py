"""What a model can be asked at once, found by trying it on a few tokens, never by its architecture's name.

Everything is held against the plain way, one text alone in one pass without a cache: that must work, and must be causal; texts
padded on the right must score alike, as training needs it. Texts in one row, and prompts of unequal length on one cache, are
ways to be faster: where they do not give the same logits, the plain way is taken.

The trial runs on the model itself, with its own weights: some 200 tokens, less work than hashing the weights, where a small
model of the same kind would have to guess which settings matter. Windows longer than the trial are no gap: decoding lays rows
out as transformers' own batches do, and rows are shared within the shortest window only (`longest_shared`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.decoding import generate
from harness.decoding.generate import Choose, Prompt, most_likely
from harness.decoding.kv_cache import Prefix, extend, prefill
from harness.decoding.plain_decoding import plain_continuations
from harness.decoding.prefix_tree import Ids, longest_shared, read, rows_of
from harness.errors import PlanError, one_line
from harness.models.flops import uncounted
from harness.models.forward import device_of, head_dtype, innermost, same_logits, vocabulary

LENGTHS = (5, 12, 8)
"""Tokens of the trial's texts."""
STEPS = 3
"""Tokens by which each is continued."""


@dataclass(frozen=True)
class Capabilities:
    """What a model gives the same logits for as for one text alone."""

    longest_shared: int
    """Tokens of a row that several texts may share; 0: a row each."""
    decoding: str
    """`batched`: prompts of unequal length on one key-value cache; `cached`: those of equal length by transformers' generate;
    `uncached`: the same, all read again for every token."""

    @property
    def notes(self) -> list[str]:
        """What that costs, in sentences."""
        notes = []
        if self.decoding != "batched":
            again = "" if self.decoding == "cached" else " and reads the whole text again for each token"
            notes.append(
                "Prompts of unequal length cannot be continued together on this architecture (tried): transformers' own"
                f" generate takes those of one length at a time{again}, which is slower."
            )
        if not self.longest_shared:
            notes.append("Texts that begin alike cannot share a row on this architecture (tried): each is read whole.")
        return notes


_known: dict[tuple[Any, ...], Capabilities] = {}
"""By what decides it, so that each kind of model is tried once a process."""


def capabilities_of(model: Any) -> Capabilities:
    """Return what this model can do. Raises PlanError where it cannot even be decoded the plain way."""
    inner: Any = innermost(model)

    # Wrapping (adapters, quantised layers) may change what a model can do, so it is part of the key.
    parts = frozenset(type(module) for module in model.modules())
    key = inner.config.to_json_string(use_diff=False), head_dtype(model), device_of(model).type, parts
    if key not in _known:
        with uncounted():
            _known[key] = tried(model)
    return _known[key]


def continuations(
    model: Any,
    prompts: Sequence[Prompt],
    stops: frozenset[int],
    budget: int,
    room: int | None = None,
    choose: Choose = most_likely,
) -> list[list[int]]:
    """Return the continuation of each prompt (`generate.continuations`), the fastest way that is right for this model."""
    # Tried, not looked up by name: any architecture of the hub may come
    # (docs/decisions/capabilities_are_tried.md).
    able = capabilities_of(model)
    if able.decoding == "batched":
        return generate.continuations(model, prompts, stops, budget, room, choose, able.longest_shared)
    return plain_continuations(model, prompts, stops, room or budget, choose, able.decoding == "cached")


# --- the trial --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def tried(model: Any) -> Capabilities:
    """Return the fast ways that this model takes. Raises PlanError where no way to decode it is right."""
    training = model.training
    model.eval()
    try:
        # The fastest way that gives the same logits.
        for decoding, trial in WAYS.items():
            fault = _fault(lambda trial=trial: trial(model))
            if not fault:
                return Capabilities(longest_shared(model) if decoding == "batched" else 0, decoding)
        raise PlanError(f"{_kind(model)} cannot be decoded: with transformers' generate {fault}; give another architecture")
    finally:
        model.train(training)


@torch.no_grad()
def forward_faults(model: Any) -> Iterator[str]:
    """Yield why a model cannot be trained and scored at all, in one sentence."""
    texts = _texts(model)
    cure = "give a causal language model that runs with the packages installed here"
    try:
        # Does it run at all?
        alone = [_alone(model, text) for text in texts]
        padded, _ = read(model, rows_of(texts, 0, 1), [np.arange(len(t)) for t in sorted(set(texts))], use_cache=False)
    except Exception as error:  # a kernel that is not installed, a shape that it does not take
        yield f"{_kind(model)} does not run on a few tokens ({one_line(error)}); {cure}"
        return
    if not all(logits.isfinite().all() for logits in alone):
        yield f"{_kind(model)} computes logits that are not finite for a few tokens; give an earlier checkpoint"
        return

    # Causal: another last token must leave all earlier logits as they are.
    changed = _alone(model, (*texts[1][:-1], texts[0][0]))
    if not same_logits(changed[:-1], alone[1][:-1], head_dtype(model)):
        yield f"{_kind(model)} shows its tokens what comes after them, so it is no causal language model (an encoder?); {cure}"
        return

    # Beside others: padding on the right must not reach the real tokens.
    order = sorted(range(len(texts)), key=texts.__getitem__)
    if not same_logits(padded, torch.cat([alone[number] for number in order]), head_dtype(model)):
        yield f"{_kind(model)} scores texts otherwise beside others in a padded batch, so it cannot be trained right; {cure}"


def _kind(model: Any) -> str:
    return type(innermost(model)).__name__


def _texts(model: Any, more: int = 0) -> list[Ids]:
    """Return texts of unequal length, of tokens that any vocabulary has."""
    # Small numbers, which every vocabulary has; none of them is special in common tokenizers.
    generator = torch.Generator().manual_seed(0)
    tokens = range(5, max(8, min(vocabulary(model), 500)))
    draws = [torch.randint(len(tokens), (length + more,), generator=generator).tolist() for length in LENGTHS]
    return [tuple(tokens[draw] for draw in row) for row in draws]


def _alone(model: Any, text: Ids) -> Tensor:
    """Return (T, V) logits of one text in one pass without a cache."""
    return read(model, rows_of([text], 0, 1), [np.arange(len(text))], use_cache=False)[0]


def _fault(trial: Any) -> str | None:
    """Return what is wrong with a way: it stops, or gives other logits."""
    try:
        same = trial()
    except Exception as error:  # whatever an architecture makes of what it does not take
        return f"it stops ({one_line(error)})"
    return None if same else "it gives other logits than one pass without a cache"


def _decoded_at_once(model: Any) -> bool:
    """Return whether prompts of unequal length, read together and continued on one cache, have the logits of each alone."""
    # Read together and continued token by token, against each text read at once.
    whole = sorted(_texts(model, STEPS))
    prompts = [text[:-STEPS] for text in whole]
    expected = [_alone(model, text)[-STEPS - 1 : -1] for text in whole]
    rows = torch.arange(len(whole), device=device_of(model))
    prefix, logits = prefill(model, rows_of(prompts, 0, 1))
    computed = [logits]
    prefix = Prefix.join([(prefix, rows)])
    for step in range(-STEPS, -1):
        tokens = torch.tensor([[text[step]] for text in whole], device=rows.device)
        computed.append(extend(model, prefix, tokens, torch.ones_like(tokens), rows))
        prefix = Prefix.join([(prefix, rows)])  # as where rows come and go
    return same_logits(torch.stack(computed, 1), torch.stack(expected), head_dtype(model))


def _decoded_plainly(model: Any, cached: bool) -> bool:
    """Return the same of prompts of equal length, by transformers' own way."""
    texts = _texts(model, STEPS)
    whole = [texts[1], texts[1][::-1]]
    expected = torch.stack([_alone(model, text)[-STEPS - 1 : -1] for text in whole])
    computed: list[Tensor] = []

    def choose(logits: Tensor) -> Tensor:
        computed.append(logits)
        return torch.tensor([text[len(computed) - STEPS - 1] for text in whole], device=logits.device)

    prompts = [Prompt(text[:-STEPS], STEPS, lambda _: False) for text in whole]
    plain_continuations(model, prompts, frozenset(), 10_000, choose, cached)
    return same_logits(torch.stack(computed, 1), expected, head_dtype(model))


WAYS: dict[str, Callable[[Any], bool]] = {
    "batched": _decoded_at_once,
    "cached": lambda model: _decoded_plainly(model, True),
    "uncached": lambda model: _decoded_plainly(model, False),
}
"""Ways to decode, from the fastest, and their trials."""
