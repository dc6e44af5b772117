"""Forward passes: head, logits, token losses, and what a loaded model accepts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contract import Batch


@contextmanager
def head_at(model: nn.Module, places: Tensor, width: int) -> Iterator[None]:
    """Inside, the head sees only the flat `places` of the last `width` positions (virtual tokens stand in front)."""

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0][:, args[0].shape[1] - width :]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, places).unsqueeze(0), *args[1:])

    # In front of other hooks: what a sharded model puts around its head's input belongs to what the head really reads.
    handle = model.get_output_embeddings().register_forward_pre_hook(keep, prepend=True)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def logits_at(model: nn.Module, batch: Batch, **options: Any) -> Tensor:
    """Return (S, V) logits that predict the supervised tokens, fp32."""
    with head_at(model, batch.places, batch.tokens.shape[1]):
        return _pass(model, batch, options).logits[0].float()


def features_at(model: nn.Module, batch: Batch, **options: Any) -> Tensor:
    """Return what the head reads at the supervised places, `(S, H)` in the model's precision. The head runs at one place only.

    At that one place it runs without gradient, because sharded models count how often gradients pass through a module.
    """
    features: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        features.append(args[0][0])
        return (args[0][:, :1].detach(), *args[1:])

    # The hook that is put in front last runs first, so this one sees the places that `head_at` selected.
    handle = model.get_output_embeddings().register_forward_pre_hook(keep, prepend=True)  # type: ignore[operator]
    try:
        with head_at(model, batch.places, batch.tokens.shape[1]):
            _pass(model, batch, options)
    finally:
        handle.remove()
    return features[0]


def _pass(model: nn.Module, batch: Batch, options: dict[str, Any]) -> Any:
    """Run the model over a batch."""
    # A packed row must be told where its documents end; a padded one needs no mask, since attention
    # is causal.
    if batch.documents:
        options = options | inputs_of(batch)
    return model(input_ids=batch.tokens, use_cache=False, **options)


def nll(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (S,) loss of each supervised token in nats, and the (S, V) logits, both fp32."""
    logits = logits_at(model, batch)
    return F.cross_entropy(logits, batch.labels, reduction="none"), logits


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Return what a model must be told of a packed batch beside its tokens."""
    positions = torch.cat([torch.arange(length) for length in batch.documents])
    ends = torch.tensor([0, *accumulate(batch.documents)], dtype=torch.int32)
    device = batch.tokens.device
    return {"position_ids": positions[None].to(device), "documents": batch.documents, "ends": ends.to(device)}


# --- which models may ---------------------------------------------------------------------------------------------


def innermost(model: Any) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def device_of(model: Any) -> torch.device:
    return next(model.parameters()).device


def head_dtype(model: Any) -> torch.dtype:
    """Return what the model computes in, apart from layers of a few bits."""
    return model.get_output_embeddings().weight.dtype


def vocabulary(model: Any) -> int:
    """Return tokens that the model knows."""
    return model.get_output_embeddings().weight.shape[0]


def width_of(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def takes_positions(model: Any) -> bool:
    """Return whether the model is told positions; those that are not (ALiBi) read them off the mask."""
    return "position_ids" in _parameters(type(innermost(model)))


@cache
def _parameters(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def has_virtual_tokens(model: Any) -> bool:
    """Return whether trained tokens stand in front of every text."""
    peft = getattr(model, "active_peft_config", None)
    return peft is not None and peft.is_prompt_learning


def same_logits(computed: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two ways to compute (..., V) logits agree to the rounding of this precision (thresholds are guesses).

    In float32 no logit may differ. In lower precision single logits of a large vocabulary differ by much, since the largest of
    many roundings grows with their number: there the root mean square over the vocabulary decides, at the worst place.
    """
    # Two orders of summing differ by rounding, which in 16 bits reaches single logits: there the
    # mean over a place decides.
    difference = computed - expected
    if dtype == torch.float32:
        return bool(difference.abs().max() <= 1e-4 * expected.std())
    at_places = difference.float().square().mean(-1).sqrt()
    return bool(at_places.max() <= 0.1 * expected.std())
