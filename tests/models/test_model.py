"""Invariants of the forward pass, of batches and of effective weights (docs/architecture.md)."""

from __future__ import annotations

import pytest
import torch

from harness.models.base_model import plain_weights, read_weights, save_weights, weights_hash
from harness.models.batches import collate, micro_batches
from harness.models.forward import logits_at, nll
from harness.training.masters import Masters
from tests.support.training import examples, in_training, make_run


@pytest.fixture(scope="module")
def model(base):
    return base.load(torch.float32)


def test_our_cross_entropy_is_the_models_own(model):
    (example,) = examples(1)
    batch = collate([example])
    labels = torch.where(torch.tensor([example.supervised]), batch.tokens, -100)
    with torch.no_grad():
        assert nll(model, batch)[0].mean().item() == pytest.approx(model(batch.tokens, labels=labels).loss.item(), abs=1e-6)


def test_targets_are_shifted_by_one(model):
    """The place that predicts a token stands before it: scoring the same place gives another loss."""
    (example,) = examples(1)
    batch = collate([example])
    assert batch.labels.tolist() == [t for t, s in zip(example.tokens, example.supervised, strict=True) if s]
    assert batch.places.tolist() == [i - 1 for i, s in enumerate(example.supervised) if s]


def test_padding_and_company_change_nothing(model):
    group = sorted(examples(6), key=len)
    with torch.no_grad():
        together = nll(model, collate(group))[0].split([sum(e.supervised) for e in group])
        for example, losses in zip(group, together, strict=True):
            assert torch.allclose(losses, nll(model, collate([example]))[0], atol=2e-6)


def test_the_head_runs_only_where_a_token_is_supervised(model):
    batch = collate(examples(5))
    assert logits_at(model, batch).shape == (len(batch.labels), model.config.vocab_size)


def test_micro_batches_lose_nothing_and_do_not_depend_on_order():
    group = list(examples(50))
    parts = micro_batches(group, 100)
    assert sorted(e.id for part in parts for e in part) == sorted(e.id for e in group)
    assert parts == micro_batches(group[::-1], 100)
    assert all(len(part) * max(map(len, part)) <= 100 for part in parts)


def test_one_example_longer_than_the_limit_still_trains():
    assert [len(part) for part in micro_batches(examples(3), 4)] == [1, 1, 1]


def test_hash_tells_one_bit(base, model):
    weights = plain_weights(model)
    assert weights_hash(weights) == base.hash
    name = next(iter(weights))
    weights[name].view(torch.int32).view(-1)[0] ^= 1
    assert weights_hash(weights) != base.hash


def test_weights_survive_the_disk(model, tmp_path):
    save_weights(plain_weights(model), tmp_path / "w.safetensors")
    assert weights_hash(read_weights(tmp_path / "w.safetensors")) == weights_hash(plain_weights(model))


@pytest.mark.parametrize("recipe", ["lora", "lora(targets='q_proj,v_proj', alpha=32)"])
def test_effective_weights_equal_the_merged_model(base, recipe):
    run = make_run(base, recipe)
    wrapped = run.wrap(run.load())
    masters = Masters(wrapped)
    for tensor in masters.tensors:
        tensor.data.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    masters.publish()
    effective = masters.effective()
    merged = plain_weights(wrapped.model.merge_and_unload())
    assert effective.keys() == merged.keys()
    assert all(torch.allclose(effective[name], merged[name], atol=1e-6) for name in merged)


def test_wrapping_changes_nothing_in_the_start(base):
    run = make_run(base, "lora")
    assert weights_hash(Masters(run.wrap(run.load())).effective()) == base.hash
    assert weights_hash(run.start) == base.hash


def test_base_logits_are_those_of_the_untouched_base(base):
    """With adapters: the adapters are off while the base speaks, and on again afterwards."""
    run = make_run(base, "lora")
    untouched = run.load()
    (batch,) = list(run.batches(examples(3)))[:1]
    run = in_training(run)
    for parameter in run.model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.05)
    assert torch.equal(run.base_logits(batch), logits_at(untouched, batch))
    assert not torch.allclose(logits_at(run.model, batch), run.base_logits(batch))
    assert run.ledger.accounts["teacher"].calls == 1


def test_small_steps_move_fp32_masters_though_bf16_stands_still(base):
    run = make_run(base, "sft", precision="bfloat16")
    masters = Masters(run.wrap(run.load()))
    tensor = masters.tensors[0]
    before = tensor.detach().clone()
    tensor.data *= 1 + 1e-5
    masters.publish()
    assert not torch.equal(masters.tensors[0], before)
    assert (masters.parameters[0] == before.bfloat16()).float().mean() > 0.95
