"""Data methods: what each step trains on, in what order, and what that costs."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from harness.contract import Method
from harness.decoding.difficulty import Reading, token_scores
from harness.errors import PlanError
from harness.models.base_model import weights_hash
from harness.models.flops import Shape
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.training.loop import train
from tests.support.training import make_run, trained
from tests.training.test_train import Killed, killed_at


def drawn(run, n: int) -> list[list]:
    """The first n steps, each charged as one step of the budget before the next is drawn."""
    steps = []
    for step in itertools.islice(run.steps(), n):
        steps.append(step)
        run.ledger.steps += 1
    return steps


def shares(steps) -> list[int]:
    return [sum(e.source != "domain" for e in step) for step in steps]


# --- mixing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.15, 0.225, 0.25, 0.5])
def test_a_fixed_ratio_is_exact_over_a_thousand_batches(ratio, base):
    steps = drawn(make_run(base, f"mix(ratio={ratio})", allowed=1000), 1000)
    assert {len(step) for step in steps} == {8}
    assert sum(shares(steps)) == pytest.approx(ratio * 8000, abs=1)


def test_a_schedule_follows_the_spent_budget_and_its_sum_is_the_fixed_controls(base):
    counts = shares(drawn(make_run(base, 'mix(schedule="15->30")', allowed=1000), 1000))
    for first in range(0, 1000, 100):
        middle = 0.15 + 0.15 * (first + 49.5) / 1000
        assert sum(counts[first : first + 100]) == pytest.approx(800 * middle, abs=1)
    control = shares(drawn(make_run(base, "mix(ratio=0.225)", allowed=1000), 1000))
    assert sum(counts) == pytest.approx(sum(control), abs=2)


def test_a_constant_schedule_is_the_fixed_ratio_bit_for_bit(base, tmp_path):
    fixed, _ = trained(make_run(base, "mix(ratio=0.3)"), tmp_path / "fixed")
    moving, _ = trained(make_run(base, 'mix(schedule="30->30")'), tmp_path / "moving")
    assert weights_hash(fixed) == weights_hash(moving)


@pytest.mark.parametrize("schedule", ["15-30", "15->", "x->y", "15->100", "1.2.3->5"])
def test_a_wrong_schedule_is_refused(schedule):
    with pytest.raises(PlanError, match="mix"):
        parse_recipe(f'mix(schedule="{schedule}")')


RESUMED = ['mix(schedule="5->60")', "sort+dedup", "replay_self(size=6, length=8)", "early_stop"]


@pytest.mark.parametrize("recipe", RESUMED)
def test_killed_and_resumed_ends_bit_identical(recipe, base, tmp_path):
    def make():
        return make_run(base, recipe, meter="flops", allowed=4e8)

    whole, _ = trained(make(), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    for stop in (4, 8):
        with pytest.raises(Killed):
            train(make(), tmp_path / "cut", lambda *_: None, killed_at(stop), checkpoint_every=0.0)
    resumed, _ = trained(make(), tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(whole)


# --- replay ----------------------------------------------------------------------------------------------------------


def test_replay_goes_through_its_buffer_as_often_as_it_says(base):
    run = make_run(base, "replay(size=10, ratio=0.25)")
    counts = Counter(e.id for step in drawn(run, 400) for e in step if e.source == "general")
    assert sum(counts.values()) == 800 and len(counts) == 10
    assert run.methods[0].notes() == ["800 rehearsed examples from a buffer of 10: 80.0 passes over it."]
    assert all(50 < n < 115 for n in counts.values())  # 80 passes; a binomial's sd is 8.5


def test_shuffled_replay_keeps_prompts_and_tokens_and_loses_the_order(base):
    def rehearsed(recipe):
        run = make_run(base, recipe)
        return {e.id: e for step in drawn(run, 60) for e in step if e.source == "general"}

    plain, control = rehearsed("replay(ratio=0.5)"), rehearsed("replay(ratio=0.5, shuffled=True)")
    moved = 0
    for name in plain.keys() & control.keys():
        one, other = plain[name], control[name]
        first = one.supervised.index(True)
        assert one.tokens[:first] == other.tokens[:first] and one.supervised == other.supervised
        assert sorted(one.tokens) == sorted(other.tokens)
        moved += one.tokens != other.tokens
    assert moved > 0.9 * len(plain.keys() & control.keys())


# --- the learning rate's way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay, half", [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_decay(decay, half, base):
    run = make_run(base, "", decay=decay, warmup=0.2, learning_rate=1.0)
    assert run.rate(0.1) == pytest.approx(0.5) and run.rate(0.2) == pytest.approx(1.0)
    assert run.rate(0.6) == pytest.approx(half)
    assert run.rate(1.0) == pytest.approx(float(decay == "constant"))
    assert torch.tensor(run.rate(0.4)) == pytest.approx({"cosine": 0.8535534, "linear": 0.75, "constant": 1.0}[decay])


def test_weight_decay_moves_weights_to_zero(base, tmp_path):
    norms = {}
    for decay in (0.0, 0.5):
        weights, _ = trained(make_run(base, "", weight_decay=decay, allowed=30), tmp_path / str(decay))
        norms[decay] = sum(tensor.square().sum() for tensor in weights.values())
    assert norms[0.5] < 0.97 * norms[0.0]


# --- order -----------------------------------------------------------------------------------------------------------


def prepared(base, recipe: str, **options):
    run = make_run(base, recipe, **options)
    model = run.load()
    for method in run.filled("prepare"):
        method.prepare(model, run)
    return run, model


def losses(run, model) -> dict[str, float]:
    """The base's mean loss of each domain example, by Hugging Face's own loss."""
    found = {}
    for example in run.domain:
        (batch,) = run.batches([example])
        labels = torch.where(torch.tensor(example.supervised)[None], batch.tokens, -100)
        with torch.no_grad():
            found[example.id] = model(input_ids=batch.tokens, labels=labels).loss.item()
    return found


@pytest.mark.parametrize("order", ["easy", "hard"])
def test_sorted_epochs_run_through_the_data_by_base_loss(order, base):
    run, model = prepared(base, f"sort(order={order})", allowed=100)
    loss = losses(run, model)
    for epoch in (0, 1):
        seen = [e.id for step in drawn(run, 5 * (epoch + 1))[5 * epoch :] for e in step]
        assert sorted(seen) == sorted(loss)  # 5 steps of 8 are one epoch of 40: each once
        values = [loss[name] for name in seen]
        assert all(a <= b + 1e-4 for a, b in itertools.pairwise(values if order == "easy" else values[::-1]))


def test_mixed_order_spans_the_range_in_every_step_and_epochs_differ(base):
    run, model = prepared(base, "sort(strata=4)", allowed=100)
    loss = losses(run, model)
    rank = {name: place for place, name in enumerate(sorted(loss, key=loss.__getitem__))}
    steps = drawn(run, 10)
    for step in steps:
        assert sorted(rank[e.id] // 10 for e in step) == [0, 0, 1, 1, 2, 2, 3, 3]
    epochs = [[e.id for step in part for e in step] for part in (steps[:5], steps[5:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]


def test_sorting_is_charged_once(base, tmp_path):
    run = make_run(base, "sort", meter="flops", allowed=4e8)
    trained(run, tmp_path)
    account = run.ledger.accounts["reading"]
    assert account.tokens == sum(map(len, run.domain))
    bound = sum(run.price("full", False).of(Shape(1, len(e), sum(e.supervised[1:]))) for e in run.domain)
    assert bound <= account.flops <= 1.5 * bound  # padding inside its batches


def test_order_survives_mixing(base):
    run, model = prepared(base, "mix(ratio=0.25)+sort(order=easy)", allowed=100)
    loss = losses(run, model)
    seen = [loss[e.id] for step in drawn(run, 6) for e in step if e.source == "domain"]
    assert all(a <= b + 1e-4 for a, b in itertools.pairwise(seen))


def test_two_orders_are_refused():
    class Backwards(Method):
        def order(self, examples, run, generator):
            return examples[::-1]

    known = dict(methods())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.recipes.recipe.find_method", (known | {"backwards": Backwards}).__getitem__)
        with pytest.raises(PlanError, match="sort and backwards both choose the order of the examples"):
            parse_recipe("sort+backwards")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_loss_and_entropy_come_from_the_logits_of_one_place(base):
    """Against a plain forward pass: logits at t - 1 give the loss and the entropy of token t."""
    run = make_run(base, "")
    model, example = run.load(), run.domain[0]
    (batch,) = run.batches([example])
    with torch.no_grad():
        found = token_scores(*run.nll(model, batch))
        logits = model(input_ids=batch.tokens).logits[0].log_softmax(-1)
    for column, place in enumerate(i for i, s in enumerate(example.supervised) if s and i):
        assert found[0, column].item() == pytest.approx(-logits[place - 1, example.tokens[place]].item(), abs=1e-4)
        assert found[1, column].item() == pytest.approx(-(logits[place - 1].exp() * logits[place - 1]).sum().item(), abs=1e-4)


def test_the_rule_for_records_that_look_wrong():
    """One answer sure and right, one sure of something else, one unsure and surprised; worked by hand."""
    calm, wrong, hard = [0.1, 0.2], [6.0, 0.2], [6.0, 4.0]
    reading = Reading([torch.tensor(tokens).T for tokens in ([calm] * 4, [calm, wrong, wrong, wrong], [hard] * 5, [calm])])
    everything = torch.cat(reading.tokens, 1)
    z = (everything - everything.mean(1, keepdim=True)) / everything.std(1, keepdim=True)
    assert reading.wrong == [False, True, False, False] and reading.hard == [False, False, True, False]
    assert reading.suspicion[1].item() == pytest.approx((z[0, 5] - z[1, 5]).item(), abs=1e-5)
    assert reading.suspicion.argmax() == 1
    assert reading.loss[1].item() == pytest.approx((0.1 + 18) / 4)
    assert reading.similarity[1].item() == pytest.approx(-(z[0, 4:8] - z[1, 4:8]).mean().item(), abs=1e-5)
