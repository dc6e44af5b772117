"""Decoding as transformers does it: for models whose memory is more than keys and values of each token.

Recurrent and hybrid layers keep a state in which padding would count, so only prompts of one length go together. What a model
remembers is its own affair: `generate` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from harness.decoding.generate import Choose, Prompt, most_likely
from harness.models.forward import device_of, innermost


@torch.no_grad()
def plain_continuations(
    model: Any, prompts: Sequence[Prompt], stops: frozenset[int], room: int, choose: Choose = most_likely, cached: bool = True
) -> list[list[int]]:
    """Return the continuation of each prompt, its stop token included where it came.

    `room`: tokens remembered at once; `cached` False: nothing is remembered, all is read again for every token.
    """
    outputs: list[list[int]] = [[] for _ in prompts]
    for group in _groups(prompts, room):
        generated = _generated(innermost(model), [prompts[number] for number in group], stops, choose, cached)
        for number, tokens in zip(group, generated, strict=True):
            outputs[number] = tokens
    return outputs


def _groups(prompts: Sequence[Prompt], room: int) -> Iterator[list[int]]:
    """Return prompts of one length by number, those with long answers first, as many as there is room for."""
    group: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda n: (len(prompts[n].tokens), prompts[n].limit), reverse=True):
        if group:
            # Unequal lengths would need padding, which recurrent states would read.
            first = prompts[group[0]]
            full = (len(group) + 1) * first.room > room
            if full or len(first.tokens) != len(prompts[number].tokens):
                yield group
                group = []
        group.append(number)
    if group:
        yield group


def _generated(model: Any, prompts: Sequence[Prompt], stops: frozenset[int], choose: Choose, cached: bool) -> list[list[int]]:
    """Return what the model says after prompts of one length."""
    tokens = torch.tensor([prompt.tokens for prompt in prompts], device=device_of(model))
    ends = _Ends(prompts, stops)
    limit = max(prompt.limit for prompt in prompts)
    settings = GenerationConfig(max_new_tokens=limit, do_sample=False, use_cache=cached)
    with _no_settings(model):
        model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Chosen(choose)]),
            stopping_criteria=StoppingCriteriaList([ends]),
        )
    return ends.outputs


@contextmanager
def _no_settings(model: Any) -> Iterator[None]:
    """Switch the model's own generation settings (penalties, say) off inside the context."""
    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


class _Chosen(LogitsProcessor):
    """Leaves of each row's logits the token that `choose` takes."""

    def __init__(self, choose: Choose):
        self.choose = choose

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        chosen = self.choose(scores.float())
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Ends(StoppingCriteria):
    """Takes down each row's tokens, and ends it at a stop, at its limit, or where its prompt says."""

    def __init__(self, prompts: Sequence[Prompt], stops: frozenset[int]):
        self.prompts = prompts
        self.stops = stops
        self.outputs: list[list[int]] = [[] for _ in prompts]
        self.ended = [False] * len(prompts)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self.ended[row]:
                output = self.outputs[row]
                prompt = self.prompts[row]
                output.append(token)
                self.ended[row] = len(output) >= prompt.limit or token in self.stops or prompt.ended(output)
        return torch.tensor(self.ended, device=input_ids.device)
