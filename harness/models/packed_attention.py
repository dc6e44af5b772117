"""Packing: documents end to end in one row, without padding, each attending to itself alone.

A packed batch is one row, (1, T), of whole examples. Attention runs over each example by itself, with positions from 0, so
nothing leaks and no work is done between documents: the cost is the sum of their squared lengths, as it is charged. On a GPU
one kernel does all documents of a row; on a CPU short documents of like length are done at once
(harness/models/short_documents.py), long
ones one after the other.
(From positions that begin again transformers makes a block mask over the whole row, which costs its square; with any mask
passed beside them it makes none, and documents see each other.)
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Example
from harness.errors import PlanError
from harness.models.batches import pack
from harness.models.short_documents import attend_in_segments, in_segments

ATTENTION = "within_documents"
"""The attention's name among transformers' implementations."""


def attend_within(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    documents: tuple[int, ...] = (),
    ends: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return attention inside each document of a row: (1, H, T, D) queries to (1, T, H, D); without documents, plain SDPA.

    `ends`: (N + 1,) places at which the documents begin and end.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not documents:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    # The kernels below know no window: a document inside it never meets its edge.
    window = options.get("sliding_window")
    if window and max(documents) > window:
        raise ValueError(f"a document of {max(documents)} tokens is longer than the attention's window; pack_length={window}")

    # From the fastest that takes these tensors to one that takes all; dropout is for the last alone.
    if ends is not None and has_one_kernel(query) and not options.get("dropout"):
        return attend_at_once(query, key, value, ends, max(documents), options.get("scaling")), None
    if in_segments(documents, query.device.type) and not options.get("dropout"):
        return attend_in_segments(query, key, value, documents, options.get("scaling") or query.shape[-1] ** -0.5), None
    parts = zip(*(tensor.split(documents, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, q, k, v, None, **options)[0] for q, k, v in parts], dim=1), None


def has_one_kernel(query: Tensor) -> bool:
    """Return whether torch's flash attention over sequences of different lengths takes these queries: 16 bits, on an
    A100 or later.
    """
    # What the kernel takes, as torch checks it itself.
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    size = query.shape[-1]
    return size % 8 == 0 and size <= 256 and torch.cuda.get_device_capability(query.device) >= (8, 0)


def attend_at_once(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scale: float | None) -> Tensor:
    """Return `attend_within` in one call, whatever the number of documents."""
    from torch.nn.attention import varlen

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, H, D)
    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0), "enable_gqa": q.shape[1] != k.shape[1]}  # causal
    attended = varlen.varlen_attn(q, k, v, ends, ends, longest, longest, **options)
    assert isinstance(attended, Tensor)
    return attended[None]


def attention_span(model: Any) -> float:
    """Return tokens over which all layers of a model attend, by its configuration; infinite where none is local."""
    config = model.config.get_text_config()

    # Configurations have different names for it.
    names = ("sliding_window", "attention_chunk_size", "window_size")
    return min((span for name in names if isinstance(span := getattr(config, name, None), int) and span > 0), default=inf)


def reads_rows_of(model: Any, tokens: int) -> bool:
    """Return whether the model reads so many tokens in a row as it reads few, though its context is shorter.

    Positions begin again with each document, so most models do; some check the length of the row.
    """
    from harness.models.forward import logits_at

    # Tried with short texts in a row longer than the context: the last of them must score as in a
    # short row.
    use_packing(model)
    documents = [Example(str(i), (5, 6 + i % 3, *[7, 8, 9] * 4), (False, *[True] * 13)) for i in range(tokens // 14)]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            few, many = (logits_at(model, pack(some, device))[-13:] for some in (documents[-2:], documents))
    except (RuntimeError, ValueError, IndexError):
        return False
    return bool((few - many).abs().max() <= 1e-3 * few.std())


def use_packing(model: Any) -> None:
    """Let a loaded model attend within documents."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attend_within)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # batches that are not packed get their masks as ever
    model.set_attn_implementation(ATTENTION)


def check_packing(model: Any) -> None:
    """Check that packed texts cannot see each other. The first of two is changed: the second's logits must stay the same bit
    for bit, in any precision, and equal those of that text alone. Raises PlanError if they do not.
    """
    from harness.models.forward import head_dtype, logits_at, same_logits

    kind = type(model).__name__

    # The same second text behind two different first ones.
    first, other, second = (Example(str(i), (5 + i, 6, 7, 8 + i), (False, True, True, True)) for i in range(3))
    device = next(model.parameters()).device
    try:
        use_packing(model)
        with torch.no_grad():
            before, after = (logits_at(model, pack([first_document, second], device))[3:] for first_document in (first, other))
            alone = logits_at(model, pack([second], device))
        apart = torch.equal(before, after) and same_logits(before, alone, head_dtype(model))
    except (TypeError, ValueError, RuntimeError, NotImplementedError, KeyError, AttributeError) as error:
        raise PlanError(f"{kind} cannot be trained packed ({error}); leave pack_length and cpt") from error
    if not apart:
        raise PlanError(f"{kind} does not keep packed texts apart, so it cannot be trained packed; leave pack_length and cpt")
