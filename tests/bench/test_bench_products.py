"""tests/bench/products.py counts every product of some work, backward and strides included, and nothing on the meta device."""

from __future__ import annotations

import pytest
import torch

from tests.bench.products import share_of_products


def test_all_products_are_counted_with_their_flops():
    weight = torch.ones(3, 5, requires_grad=True)

    def work() -> float:
        torch.nn.functional.linear(torch.ones(7, 5, requires_grad=True), weight).sum().backward()
        torch.ones(2, 7, 5) @ torch.ones(2, 5, 3)
        torch.ones(7, 5, device="meta") @ torch.ones(5, 3, device="meta")
        return 2.0

    share = share_of_products(work)
    one = 2 * 7 * 5 * 3
    assert share.flops == 3 * one + 2 * one  # forward and two gradients, and a batch of two
    assert share.total == 2.0
    assert 0 < share.alone < 1
    assert f"{share.flops / 2e9:.0f} GFLOP/s of" in str(share)


def test_a_product_keeps_its_strides():
    shares = [share_of_products(lambda columns=columns: _times(columns)) for columns in (False, True)]
    assert shares[0].flops == shares[1].flops == pytest.approx(2 * 4 * 4 * 4)


def _times(columns: bool) -> float:
    other = torch.ones(4, 4)
    torch.mm(torch.ones(4, 4), other.t() if columns else other)
    return 1.0
