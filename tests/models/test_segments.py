"""Attention in segments: what each document of a packed row has alone, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harness.models.short_documents import attend_in_segments, segments_of

DOCUMENTS = ((5,), (7, 7, 7), (40, 31, 25, 24, 9, 8, 3, 1), (2, 30, 1))


def states(documents: tuple[int, ...], heads: int, shared: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> torch.Tensor:
        return torch.randn(1, count, sum(documents), 8, generator=generator, dtype=torch.double).requires_grad_()

    return drawn(heads), drawn(shared), drawn(shared)


def one_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: tuple[int, ...]) -> torch.Tensor:
    parts = zip(*(tensor.split(documents, dim=2) for tensor in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True) for q, k, v in parts]
    return torch.cat(found, 2).transpose(1, 2)


@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize(("heads", "shared"), [(4, 2), (3, 3), (4, 1)])
def test_segments_give_what_each_document_has_alone(documents, heads, shared):
    query, key, value = given = states(documents, heads, shared)
    expected = one_by_one(query, key, value, documents)
    found = attend_in_segments(query, key, value, documents, 8**-0.5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # softmax is taken in fp32
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    gradients = [torch.autograd.grad((one * weights).sum(), given) for one in (found, expected)]
    for ours, own in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)


def test_no_document_sees_another_not_even_as_padding():
    documents = (9, 8, 3)
    query, key, value = (one.detach() for one in states(documents, 4, 2))
    before = attend_in_segments(query, key, value, documents, 1.0)
    for tensor in (query, key, value):
        tensor[:, :, 9:17] = float("nan")  # the second of three
    after = attend_in_segments(query, key, value, documents, 1.0)
    assert torch.equal(before[:, :9], after[:, :9]) and torch.equal(before[:, 17:], after[:, 17:])
    assert after[:, 9:17].isnan().all()


def test_documents_of_like_length_share_a_segment():
    assert segments_of((40, 31, 25, 24, 9, 8, 3)).shapes == ((4, 40), (2, 9), (1, 3))
    assert segments_of((2, 30, 1)).shapes == ((1, 2), (1, 30), (1, 1))
