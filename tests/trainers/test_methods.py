"""Every method, present and future, by one set of tests; and the pins of those with mathematics to pin."""

from __future__ import annotations

import itertools
import math
import os
import zlib
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from harness.contract import Batch, overrides
from harness.errors import PlanError
from harness.losses.head import Head
from harness.losses.pieces import loss_in_pieces
from harness.losses.step_sums import StepSums
from harness.losses.weighted_loss import WeightedLoss
from harness.models.base_model import weights_hash
from harness.recipes.recipe import CHAINED, parse_recipe
from harness.recipes.registry import methods
from harness.runs.laws import LAWS, Workshop, goes_with_every_method
from tests.support.training import examples, in_training, make_run, trained

NAMES = sorted(methods())
PAIRS = list(itertools.combinations(NAMES, 2))


@cache
def allowed_pair(pair: tuple[str, str]) -> bool:
    try:
        parse_recipe("+".join(pair))
    except PlanError:
        return False
    return True


@pytest.fixture(scope="module")
def workshop(base, tmp_path_factory) -> Workshop:
    """One for all methods and laws: a run that several laws compare with is made once."""
    return Workshop(base, tmp_path_factory.mktemp("workshop"))


@pytest.mark.parametrize("law", [law for law in LAWS if law is not goes_with_every_method], ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_the_laws(name, law, workshop):
    law(name, workshop)


@pytest.mark.parametrize("name", NAMES)
def test_forbidden_pairs_are_refused_with_both_names(name):
    for pair in PAIRS:
        if pair[0] == name and not allowed_pair(pair):
            with pytest.raises(PlanError, match=rf"{pair[0]}.*{pair[1]}|{pair[1]}.*{pair[0]}"):
                parse_recipe("+".join(pair))


def pairs_to_train() -> list[tuple[str, str]]:
    """Return one in six of the allowed pairs, hash-sampled; ALL_PAIRS=1 returns all of them (the nightly tests do)."""
    allowed = [pair for pair in PAIRS if allowed_pair(pair)]
    if os.environ.get("ALL_PAIRS") == "1":
        return allowed
    return [pair for pair in allowed if zlib.crc32("+".join(pair).encode()) % 6 == 0]


@pytest.mark.slow  # hundreds of short runs: a minute, and five for all of them
@pytest.mark.parametrize("pair", pairs_to_train(), ids="+".join)
def test_allowed_pairs_train(pair, base, tmp_path):
    weights, _ = trained(make_run(base, "+".join(pair), allowed=2), tmp_path)
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("name", NAMES)
def test_pairs_that_share_no_ordered_axis_are_one_recipe(name):
    """One canonical order means one computation and one run key."""
    for pair in PAIRS:
        if pair[0] == name and allowed_pair(pair):
            one, two = parse_recipe("+".join(pair)), parse_recipe("+".join(reversed(pair)))
            ordered = any(all(overrides(m, axis) for m in one.methods) for axis in CHAINED)
            assert (one.question == two.question) is not ordered, pair


def test_two_wrappers_are_refused():
    with pytest.raises(PlanError, match="lora is named twice"):
        parse_recipe("lora+lora(r=4)")


# --- NLIRG -----------------------------------------------------------------------------------------------------------

REFERENCE = {
    0: 0.1150667320, 0.5: 0.2332589, 1.2: 0.5, 1.45: 0.6046790847, 2: 0.7957597, 3: 0.9552122970, 3 + 1e-7: 0.9608342734,
    4: 0.9002495, 5: 0.7685248, 6.6: 0.4013123399, 8: 0.1418511, 10: 0.0218812709, 14: 0.0004096, 14.9: 0.0001666, 15: 0.0,
}  # fmt: skip
ARTICLE = {
    0: 0.8849333, 0.5: 0.7667411, 1.2: 0.5, 1.45: 0.3953209, 2: 0.1544653, 3: 0.5, 4: 0.8455347, 5: 0.9677045,
    6.6: 0.9999994 - 0.0021, 8: 0.9999932, 10: 0.9997966, 14: 0.8455347, 14.9: 0.5423980, 15: 0.5,
}  # fmt: skip


def nlirg(**settings):
    return methods()["nlirg"](**settings)


@pytest.mark.parametrize("loss, weight", REFERENCE.items())
def test_nlirg_weight(loss, weight):
    found = nlirg().weight(torch.tensor([loss], dtype=torch.float64))
    assert found.item() == pytest.approx(weight, abs=6e-8 if round(weight, 7) == weight else 1e-10)


def test_nlirg_ignores_a_nan_loss():
    assert nlirg().weight(torch.tensor([math.nan])).item() == 0


def mean_weighted_loss(by):
    losses = torch.tensor([0.5, 2, 4, 16], dtype=torch.float64)
    weighted = nlirg().weight(losses) * losses
    return (
        weighted.sum() / {"tokens": 4, "nonzero": (weighted != 0).sum(), "weights": nlirg().weight(losses).sum()}[by]
    ).item()


@pytest.mark.parametrize("by, value", [("tokens", 1.3272867267), ("nonzero", 1.7697156356), ("weights", 2.7518968384)])
def test_nlirg_mean_weighted_loss(by, value):
    assert mean_weighted_loss(by) == pytest.approx(value, abs=1e-9)


def phi(loss: torch.Tensor) -> torch.Tensor:
    """The bounded loss whose gradient detached weights give."""
    left = (F.softplus(1.7 * (loss.clamp(max=3) - 1.2)) - F.softplus(torch.tensor(-2.04, dtype=loss.dtype))) / 1.7
    return left + F.softplus(torch.tensor(3.2, dtype=loss.dtype)) - F.softplus(6.2 - loss.clamp(3, 15))


@pytest.mark.parametrize("loss, value", [(1.2, 0.3358259649), (3, 1.7550462485), (6.2, 4.3018524011), (15, 4.9948488600)])
def test_phi(loss, value):
    assert phi(torch.tensor(loss, dtype=torch.float64)).item() == pytest.approx(value, abs=1e-9)


def test_detached_nlirg_descends_phi():
    losses = torch.tensor([0.2, 1.0, 2.9, 3.5, 7.0, 14.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(phi(losses).sum(), losses)
    assert torch.allclose(gradient, nlirg().weight(losses.detach()), atol=1e-12)


def test_nlirg_through_the_loop_matches_the_pinned_gradient():
    """Logits [-4, 2, 0, 1], target 0: the weight carries no gradient of its own."""
    logits = torch.tensor([[-4.0, 2.0, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    method = nlirg(norm="faithful")
    run = SimpleNamespace(filled=lambda hook: [method] if overrides(method, hook) else [])
    sums = StepSums()
    objective = WeightedLoss(run, Batch(*[torch.zeros(1, dtype=torch.long)] * 4, ()), sums)
    loss_in_pieces(Head(), logits, objective, 1).backward()
    assert sums.loss == pytest.approx(6.4092535739)
    assert logits.grad is not None and logits.grad[0, 0].item() == pytest.approx(-0.4471393436, abs=1e-7)


# --- regularisers ----------------------------------------------------------------------------------------------------


def penalty_of(name: str, model_change: float, base):
    run = make_run(base, name)
    run = in_training(run, run.load())
    (batch,) = list(run.batches(examples(4)))[:1]
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(model_change * torch.randn_like(parameter))
    logits = run.nll(run.model, batch)[1].detach().requires_grad_()
    return run.methods[0].penalty(logits, batch, run), logits, run, batch


def test_distillation_is_zero_at_the_base_and_positive_elsewhere(base):
    at_base, *_ = penalty_of("distill", 0.0, base)
    away, *_ = penalty_of("distill", 0.05, base)
    assert at_base.abs().max() == 0 and (away > 0).all()


def test_distillation_gradient_leads_back_to_the_base(base):
    penalty, logits, run, batch = penalty_of("distill", 0.05, base)
    penalty.sum().backward()
    closer = run.methods[0].penalty(logits.detach() - 0.1 * logits.grad, batch, run)
    assert closer.sum() < penalty.sum()


def test_distillation_formula(base):
    penalty, logits, run, batch = penalty_of("distill(alpha=0.3, temperature=3.0)", 0.05, base)
    p, q = (run.base_logits(batch) / 3).softmax(-1), (logits / 3).softmax(-1)
    assert torch.allclose(penalty, 0.3 * 9 * (p * (p.log() - q.log())).sum(-1), atol=1e-5)
    assert torch.equal(run.methods[0].share(batch), torch.full((len(batch.places),), 0.7))


def test_fisher_is_the_mean_of_squares_sequence_by_sequence(base):
    run = make_run(base, "ewc(samples=5, fisher=empirical)")
    model, (ewc,) = run.load(), run.methods
    ewc.prepare(model, run)
    chosen = torch.randperm(len(run.general), generator=run.generator("ewc"))[:5].tolist()
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for index in chosen:
        (batch,) = run.batches([run.general[index]])
        loss = model(input_ids=batch.tokens, labels=torch.where(supervised(batch), batch.tokens, -100)).loss * len(batch.labels)
        model.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            squares[name] += parameter.grad.square()
    mean = sum(s.sum() for s in squares.values()) / sum(s.numel() for s in squares.values())
    assert all(torch.allclose(ewc.fisher_[name], squares[name] / mean, rtol=1e-3, atol=1e-6) for name in squares)


def supervised(batch: Batch) -> torch.Tensor:
    mask = torch.zeros(batch.tokens.numel(), dtype=torch.bool)
    mask[batch.places + 1] = True
    return mask.view_as(batch.tokens)


def test_ewc_pull_is_the_gradient_of_its_penalty():
    ewc = methods()["ewc"](strength=3.0)
    ewc.restore({"w": torch.tensor([2.0, 0.5])})
    theta, start = torch.tensor([1.5, -1.0], requires_grad=True), torch.tensor([1.0, 1.0])
    (3.0 / 2 * (torch.tensor([2.0, 0.5]) * (theta - start) ** 2).sum()).backward()
    assert torch.equal(ewc.pull("w", theta.detach(), start), theta.grad)


def test_ewc_pulls_from_the_first_step_and_holds_the_weights(base, tmp_path):
    def distance(recipe, folder):
        run = make_run(base, recipe)
        weights, _ = trained(run, tmp_path / folder)
        return sum((weights[n] - run.start[n]).square().sum() for n in weights)

    assert distance("ewc(strength=1000.0)", "held") < 0.5 * distance("", "plain")


def test_ewc_on_lora_pulls_effective_weights(base):
    """The chain rule through s B A: autograd of the penalty on W + s B A gives the same gradients of A and B."""
    from harness.training.masters import Masters

    run = make_run(base, "lora")
    masters = Masters(run.wrap(run.load()))
    for tensor in masters.tensors:
        tensor.data.normal_(generator=torch.Generator().manual_seed(1))
    masters.add_pulls(lambda name, theta, start: 2.0 * (theta - start))
    found = [tensor.grad.clone() for tensor in masters.tensors]
    masters.publish()
    folds = masters.wrapped.folds
    total = sum((fold(run.start[name], fold.factors) - run.start[name]).square().sum() for name, fold in folds.items())
    total.backward()
    assert all(torch.allclose(a, p.grad, rtol=1e-4, atol=1e-5) for a, p in zip(found, masters.parameters, strict=True))


# --- data and merging ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe, ratio", [("mix(ratio=0.3)", 0.3), ("replay(ratio=0.15, size=10)", 0.15), ("mix(ratio=0.01)", 0.01)]
)
def test_ratio_is_exact_over_a_thousand_steps(recipe, ratio, base):
    steps = list(itertools.islice(make_run(base, recipe).steps(), 1000))
    sources = [example.source for step in steps for example in step]
    assert {len(step) for step in steps} == {8}
    assert sources.count("general") == pytest.approx(ratio * 8000, abs=1)


def test_mixing_keeps_the_domain_order_and_loses_none(base):
    plain = [e.id for step in itertools.islice(make_run(base, "").steps(), 20) for e in step]
    mixed = [
        e.id for step in itertools.islice(make_run(base, "mix(ratio=0.25)").steps(), 20) for e in step if e.source == "domain"
    ]
    assert mixed == plain[: len(mixed)] and len(mixed) == 120


def test_replay_draws_from_a_buffer_of_its_size(base):
    steps = itertools.islice(make_run(base, "replay(size=5, ratio=0.5)").steps(), 50)
    assert len({e.id for step in steps for e in step if e.source == "general"}) == 5


def test_replay_every_third_step(base):
    steps = itertools.islice(make_run(base, "replay(ratio=0.125, every=3)").steps(), 9)
    assert [sum(e.source == "general" for e in step) for step in steps] == [0, 0, 3] * 3


def test_interpolation_ends_at_the_base_and_at_the_tuned_weights(base, tmp_path):
    tuned, _ = trained(make_run(base, ""), tmp_path / "1")
    at_zero, _ = trained(make_run(base, "wise(alpha=0.0)"), tmp_path / "0")
    half, _ = trained(make_run(base, "wise"), tmp_path / "half")
    start = make_run(base, "").start
    assert weights_hash(at_zero) == base.hash
    assert all(torch.allclose(half[n], (start[n] + tuned[n]) / 2, atol=1e-7) for n in half)


def test_low_lr_divides_the_rate(base):
    assert make_run(base, "low_lr(factor=4.0)").rate(0.5) == pytest.approx(make_run(base, "").rate(0.5) / 4)
