"""Drift and held-out loss: zero at the base, the model's own loss, formulas by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from harness.evaluation.drift import Drift, divergence
from harness.models.batches import collate
from tests.support.training import examples

torch.set_num_threads(1)


@pytest.fixture
def models(base):
    """The base and a copy whose weights have moved."""
    one, other = base.load(torch.float32), base.load(torch.float32)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in other.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return one, other


def measured(drift: Drift, model, metric: str) -> dict[str, float]:
    return {example.id: values[metric] for example, values in drift.measure(model)}


def make(base_model, budget: int = 4096, items=None) -> Drift:
    return Drift(lambda: base_model, items or examples(12), lambda tokens: "x" * len(tokens), budget)


def test_divergence_by_hand():
    base, tuned = (torch.tensor([[p, 1 - p]]).log() for p in (0.5, 0.25))
    assert divergence(base, tuned).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
    assert divergence(tuned, base).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_no_drift_at_the_base_itself(models):
    assert set(measured(make(models[0]), models[0], "kl_to_base").values()) == {0.0}


def test_drift_is_positive_elsewhere(models):
    assert all(value > 0 for value in measured(make(models[0]), models[1], "kl_to_base").values())


def test_drift_is_full_vocabulary_kl_of_shifted_logits(models):
    (item,) = examples(1)
    ids = torch.tensor([item.tokens])
    with torch.no_grad():
        p, q = (model(input_ids=ids).logits[0].double().log_softmax(-1) for model in models)
    places = [t - 1 for t, supervised in enumerate(item.supervised) if supervised]
    wanted = (p.exp() * (p - q)).sum(-1)[places].mean().item()
    assert measured(make(models[0], items=[item]), models[1], "kl_to_base")[item.id] == pytest.approx(wanted, rel=1e-4)


def test_held_out_loss_is_the_models_own_loss(models):
    (item,) = examples(1)
    labels = [token if supervised else -100 for token, supervised in zip(item.tokens, item.supervised, strict=True)]
    own = models[1](input_ids=torch.tensor([item.tokens]), labels=torch.tensor([labels])).loss.item()
    drift = make(models[0], items=[item])
    assert measured(drift, models[1], "nll")[item.id] == pytest.approx(own, abs=1e-5)
    bits = own * sum(item.supervised) / math.log(2) / sum(item.supervised)  # one byte a token here
    assert measured(drift, models[1], "bits_per_byte")[item.id] == pytest.approx(bits, abs=1e-5)


def test_batches_change_nothing(models):
    one, many = (measured(make(models[0], budget), models[1], "kl_to_base") for budget in (1, 10_000))
    assert one == pytest.approx(many, abs=1e-5)


def test_a_base_too_large_to_keep_is_asked_again(models, monkeypatch):
    monkeypatch.setattr("harness.evaluation.drift.CACHE_BYTES", 0)
    drift = make(models[0])
    assert measured(drift, models[1], "kl_to_base") == measured(drift, models[1], "kl_to_base")
    assert not drift._known


def test_examples_with_nothing_to_predict_are_left_out(models):
    item = dataclasses.replace(examples(1)[0], id="mute", supervised=(False,) * len(examples(1)[0]))
    assert "mute" not in measured(make(models[0], items=[*examples(3), item]), models[0], "nll")


@pytest.mark.parametrize("moved", [1, -1])
def test_targets_that_are_not_shifted_by_one_are_refused(models, monkeypatch, moved):
    """Planted fault: logits are read at the token itself, or one too early. Every comparison builds this, so none would run."""

    def unshifted(examples, device="cpu"):
        batch = collate(examples, device)
        return dataclasses.replace(batch, places=batch.places + moved)

    monkeypatch.setattr("harness.evaluation.drift.collate", unshifted)
    with pytest.raises(RuntimeError, match="targets are not shifted by one"):
        make(models[0]).check()


def test_drift_is_taken_in_fp32(models):
    """A model in half precision still gives fp32 log-probabilities, so that small drifts are not rounded to 0."""
    drift = make(models[0], items=examples(1))
    assert drift._of_base(drift.base(), collate(drift.examples)).dtype == torch.float32
