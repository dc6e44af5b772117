"""What is remembered of operations on the meta device is what torch works out."""

from __future__ import annotations

import pytest
import torch

from harness.models import meta_shapes
from harness.models.meta_shapes import MetaFlops, MetaShapes


def described(found):
    tensors = found if isinstance(found, tuple) else (found,)
    return [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    "operation",
    [
        lambda: empty(3, 4) + empty(4, dtype=torch.bfloat16),
        lambda: empty(3, 4).t() * 2,
        lambda: empty(3, 4) * 2.5,
        lambda: empty(3, 4, dtype=torch.long) * 2,
        lambda: empty(3, 4, dtype=torch.long) * 2.5,
        lambda: empty(5, 6).topk(2),
        lambda: torch.zeros(2, 3, device="meta"),
        lambda: empty(3, 4).mean(-1, keepdim=True),
        lambda: empty(3, 4).mean(0),
        lambda: empty(2, 3, 4) @ empty(4, 5),
        lambda: empty(2, 3) > 0,
    ],
)
def test_the_second_answer_is_torchs(operation, monkeypatch):
    monkeypatch.setattr(meta_shapes, "_known", {})
    wanted = described(operation())
    with MetaShapes():
        first, again = operation(), operation()
    assert described(first) == described(again) == wanted
    assert meta_shapes._known


def test_values_views_and_changes_are_left_alone(monkeypatch):
    """A tensor with values keeps them; a view shares the storage of what it is a view of."""
    monkeypatch.setattr(meta_shapes, "_known", {})
    whole = empty(4, 6)
    with MetaShapes():
        for value in (1.0, 2.0):
            assert (torch.full((2,), value) + 1).tolist() == [value + 1] * 2
            parts = [whole.view(6, 4), torch.ops.aten._unsafe_view(whole, [24]), whole.add_(1)]
            assert {part.untyped_storage()._cdata for part in parts} == {whole.untyped_storage()._cdata}


def test_the_default_type_is_part_of_the_question(monkeypatch):
    monkeypatch.setattr(meta_shapes, "_known", {})
    found = []
    for kind in (torch.float32, torch.float64):
        torch.set_default_dtype(kind)
        try:
            with MetaShapes():
                found.append(torch.ops.aten.zeros([2], device="meta").dtype)
        finally:
            torch.set_default_dtype(torch.float32)
    assert found == [torch.float32, torch.float64]


def test_products_are_counted_by_torchs_formulas():
    with MetaFlops() as counter:
        for _ in range(2):
            empty(2, 3) @ empty(3, 5)
    assert counter.flops == 2 * (2 * 2 * 3 * 5)
