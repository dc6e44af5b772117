"""When two ways to compute logits count as one: rounding passes at any size of vocabulary, a wrong place does not."""

from __future__ import annotations

import pytest
import torch

from harness.models.forward import same_logits

VOCABULARY = 50_000


def logits() -> torch.Tensor:
    return 3.5 * torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dtype", "noise"), [(torch.bfloat16, 0.03), (torch.float32, 1e-5)])
def test_rounding_is_no_difference_however_large_the_vocabulary(dtype, noise):
    rounding = noise * 3.5 * torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(1))
    assert same_logits(logits() + rounding, logits(), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_one_place_that_attends_wrongly_is_a_difference(dtype):
    found = logits()
    found[2] = found[2].roll(1)
    assert not same_logits(found, logits(), dtype)


def test_float32_takes_no_single_logit():
    found = logits()
    found[1, 7] += 0.01
    assert not same_logits(found, logits(), torch.float32)
