"""Token weightings: their weights, by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from harness.contract import Batch
from harness.recipes.registry import methods

BATCH = Batch(*[torch.zeros(1, 1, dtype=torch.long)] * 4, ())


def weights(name: str, losses=None, logits=None, **settings):
    losses = torch.zeros(1) if losses is None else torch.tensor(losses)
    logits = torch.zeros(len(losses), 4) if logits is None else logits
    return methods()[name](**settings).token_weights(losses, logits, BATCH)


def test_dft_weighs_by_probability():
    assert weights("dft", [0.0, math.log(2), math.log(10)]).tolist() == pytest.approx([1, 0.5, 0.1])
    assert weights("dft", [math.log(10)], strength=0.5).item() == pytest.approx(0.55)


def test_dft_descends_minus_p():
    logits = torch.tensor([[1.0, -0.5, 2.0]], requires_grad=True)
    loss = F.cross_entropy(logits, torch.tensor([0]))
    (ours,) = torch.autograd.grad(weights("dft", [loss.item()])[0] * loss, logits)
    (wanted,) = torch.autograd.grad(-logits.softmax(-1)[0, 0], logits)
    assert torch.allclose(ours, wanted)


def test_eaft_weighs_by_the_entropy_of_the_top_twenty():
    flat, certain = torch.zeros(1, 50), torch.zeros(1, 50)
    certain[0, 7] = 40.0
    assert weights("eaft", logits=flat).item() == pytest.approx(1) and weights("eaft", logits=certain).item() < 1e-6
    half = torch.full((1, 50), -60.0)
    half[0, :2] = 0.0
    assert weights("eaft", logits=half).item() == pytest.approx(math.log(2) / math.log(20))
    assert weights("eaft", logits=half, power=2.0).item() == pytest.approx((math.log(2) / math.log(20)) ** 2)
    assert weights("eaft", logits=half[:, :4]).item() == pytest.approx(math.log(2) / math.log(20))


def test_talr_falls_with_the_loss_by_the_mean_loss_down_to_its_floor():
    found = weights("talr", [0.0, 1.0, 2.0, 37.0], floor=0.01)
    assert found.tolist() == pytest.approx([1, math.exp(-0.1), math.exp(-0.2), math.exp(-3.7)])
    assert weights("talr", [0.0, 0.0, 0.0, 8.0], scale=0.5)[3].item() == pytest.approx(0.01)
    assert weights("talr", [0.0, 0.0]).tolist() == [1, 1]
