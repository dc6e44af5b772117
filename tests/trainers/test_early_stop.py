"""Early stopping: at the first breach on dev items, which are charged."""

from __future__ import annotations

import itertools

import pytest
import torch

from harness.models.base_model import weights_hash
from harness.models.batches import collate
from harness.models.flops import Shape
from harness.training.loop import train
from tests.support.training import examples, make_run, state_of, trained


def stopping(base, folder, retention, recipe="early_stop", **options):
    """A run whose dev evaluations give these retentions in turn; with what was spent at each."""
    given, spent = iter(retention), []

    def scores(_):
        spent.append(run.ledger.fraction)
        return next(given)

    run = make_run(base, recipe, open_dev=lambda: scores, **{"allowed": 40, **options})
    weights, progress = trained(run, folder)
    return run, weights, progress, spent


def test_stops_at_the_first_breach_and_gives_the_weights_before_it(base, tmp_path):
    run, weights, progress, spent = stopping(base, tmp_path / "1", [0.80, 0.795, 0.7901, 0.7899])
    assert (
        run.methods[0].notes()[0].startswith("Stopped at 30% of the budget: retention 0.790 on dev items, 0.790 was the least")
    )
    assert progress.stopped_by == "earlystop"
    assert spent == [0.0, 0.1, 0.2, 0.3] and progress.steps == 12  # a fall of 1.01 points at 12 of 40 steps
    whole = make_run(base, "", allowed=40)
    seen = {}
    (tmp_path / "2").mkdir()
    steps = itertools.count(1)
    train(
        whole, tmp_path / "2", lambda *_: None, lambda _: seen.update({next(steps): weights_hash(state_of(whole).gather()())})
    )
    assert weights_hash(weights) == seen[8]


def test_a_breach_at_the_first_look_gives_the_base(base, tmp_path):
    _, weights, progress, _ = stopping(base, tmp_path, [0.8, 0.5])
    assert progress.steps == 4 and weights_hash(weights) == base.hash


def test_a_breach_at_the_first_look_gives_adapters_as_they_began(base, tmp_path):
    run, weights, _, _ = stopping(base, tmp_path, [0.8, 0.5], "adapter+early_stop")
    start = state_of(run).masters.wrapped.start
    assert any(name.startswith("added.") for name in weights) and weights.keys() == start.keys()
    assert all(torch.equal(tensor, start[name]) for name, tensor in weights.items())


def test_without_a_breach_it_is_plain_fine_tuning_with_ten_evaluations(base, tmp_path):
    run, weights, progress, spent = stopping(base, tmp_path / "1", itertools.repeat(0.8))
    plain, _ = trained(make_run(base, "", allowed=40), tmp_path / "2")
    assert progress.stopped_by == "budget" and weights_hash(weights) == weights_hash(plain)
    assert spent == pytest.approx([k / 10 for k in range(10)]) and run.ledger.accounts["dev"].calls == 10


def test_dev_evaluations_are_charged_and_stay_inside_the_budget(base, tmp_path):
    run = make_run(base, "early_stop(epsilon=100.0)", meter="flops", allowed=6e8)
    trained(run, tmp_path)
    dev = run.ledger.accounts["dev"]
    one = run.price("full", False).of(Shape.of(collate(examples(4, "dev"))))
    assert dev.flops == pytest.approx(one * dev.calls) and dev.calls == 10
    assert -0.05 < run.ledger.record()["overshoot"] <= 0.01


def test_an_evaluation_the_budget_does_not_pay_for_is_not_made(base):
    run = make_run(base, "early_stop", meter="flops", allowed=1e8)
    model = run.load()
    assert run.dev_scores(model) is not None
    run.ledger.allowed = run.ledger.spent * 1.9
    assert run.dev_scores(model) is None
    assert run.ledger.accounts["dev"].calls == 1
