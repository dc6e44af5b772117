"""Penalties and pulls: their values, by hand and by autograd; what they hold on to; what they cost."""

from __future__ import annotations

import itertools
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harness.errors import PlanError
from harness.models.flops import Shape
from harness.recipes.recipe import parse_recipe
from harness.store.runs import RunFolder
from harness.toolbox import diagonal_fisher
from tests.support.training import examples, in_training, make_run, trained


def moved(run, by: float = 0.05):
    """A copy of the base with noise on every weight."""
    model = run.load()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return model


def penalised(base, recipe: str, rows, by: float = 0.05):
    """(penalty, logits, run, batch) of a recipe's only method on a model that was moved."""
    run = make_run(base, recipe)
    run = in_training(run, moved(run, by))
    (batch,) = run.batches(rows)
    logits = run.nll(run.model, batch)[1].detach().requires_grad_()
    return run.methods[0].penalty(logits, batch, run), logits, run, batch


def anchors(n: int):
    return tuple(replace(example, source="anchor") for example in examples(n, "general"))


# --- KL to the base --------------------------------------------------------------------------------------------------

WHERE = [("kl(beta=0.5)", examples(3)), ("kl(beta=0.5, on=general)", anchors(3))]


@pytest.mark.parametrize("recipe, rows", WHERE)
def test_kl_is_exactly_zero_at_the_base_and_positive_elsewhere(recipe, rows, base):
    assert penalised(base, recipe, rows, by=0.0)[0].abs().max() == 0
    assert (penalised(base, recipe, rows)[0] > 0).all()


@pytest.mark.parametrize("recipe, rows", WHERE)
def test_kl_by_its_definition_at_the_tokens_before_each_target(recipe, rows, base):
    penalty, _, run, _ = penalised(base, recipe, rows)
    wanted = []
    for row in sorted(rows, key=lambda example: (len(example), example.id)):
        tokens = torch.tensor([row.tokens])
        p, q = (model(input_ids=tokens).logits[0].softmax(-1) for model in (run.load(), run.model))
        divergence = (p * (p.log() - q.log())).sum(-1)
        wanted += [0.5 * divergence[place - 1] for place in range(1, len(row)) if row.supervised[place]]
    assert torch.allclose(penalty, torch.stack(wanted), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("recipe, rows", WHERE)
def test_kl_gradient_is_beta_times_the_difference_of_distributions(recipe, rows, base):
    """d KL(p0 || p) / d logits = p - p0: a step down it leads to the base."""
    penalty, logits, run, batch = penalised(base, recipe, rows)
    penalty.sum().backward()
    p0 = run.base_logits(batch, run.methods[0].base_source).softmax(-1)
    assert torch.allclose(logits.grad, 0.5 * (logits.detach().softmax(-1) - p0), atol=1e-6)
    assert run.methods[0].penalty(logits.detach() - logits.grad, batch, run).sum() < penalty.sum()


def test_kl_refuses_what_it_cannot_mean():
    with pytest.raises(PlanError, match="domain or general, not 'both'"):
        parse_recipe("kl(on=both)")
    with pytest.raises(PlanError, match="beta must be 0 or more"):
        parse_recipe("kl(beta=-0.1)")


def make_method(name: str, **settings):
    from harness.recipes.registry import methods

    return methods()[name](**settings)


def divergence_from_base(base, recipe, folder, rows):
    run = make_run(base, recipe, allowed=25)
    weights, _ = trained(run, folder)
    model, untouched = run.load(), run.load()
    model.load_state_dict(weights, strict=False)
    (batch,) = run.batches(rows)
    with torch.no_grad():
        p, q = (F.log_softmax(run.nll(m, batch)[1], dim=-1) for m in (untouched, model))
    return float(F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean())


def test_a_huge_beta_keeps_the_base(base, tmp_path):
    plain = divergence_from_base(base, "", tmp_path / "plain", examples(4))
    held = divergence_from_base(base, "kl(beta=1e4)", tmp_path / "held", examples(4))
    assert held < 0.1 * plain


def test_kl_on_general_holds_general_text_better(base, tmp_path):
    rows = examples(4, "general")
    plain = divergence_from_base(base, "", tmp_path / "plain", rows)
    held = divergence_from_base(base, "kl(beta=1e3, on=general, ratio=0.3)", tmp_path / "held", rows)
    assert held < 0.1 * plain


@pytest.mark.parametrize("name", ["kl", "distill"])
def test_domain_penalties_leave_mixed_in_general_tokens_alone(name, base):
    rows = (*examples(2), *examples(2, "general"))
    penalty, logits, run, batch = penalised(base, name, rows)
    ours = batch.from_source("domain")
    assert (penalty[ours] > 0).all() and (penalty[~ours] == 0).all() and ours.any() and not ours.all()
    share = torch.ones(len(ours)) * run.methods[0].share(batch)
    assert (share[~ours] == 1).all() and (share[ours] == (0.5 if name == "distill" else 1.0)).all()
    (alone,) = run.batches(examples(2))
    assert torch.allclose(penalty[ours], run.methods[0].penalty(logits[ours], alone, run), atol=1e-6)


def test_kl_on_general_gives_anchors_no_cross_entropy_and_the_domain_no_penalty(base):
    penalty, _, run, batch = penalised(base, "kl(on=general)", (*examples(2), *anchors(2)))
    ours = batch.from_source("anchor")
    assert torch.equal(run.methods[0].share(batch), (~ours).float())
    assert (penalty[~ours] == 0).all() and (penalty[ours] > 0).all()


def test_kl_on_general_draws_its_ratio_and_keeps_the_domain_order(base):
    plain = [e.id for step in itertools.islice(make_run(base, "").steps(), 100) for e in step]
    steps = list(itertools.islice(make_run(base, "kl(on=general, ratio=0.25)").steps(), 100))
    seen = [e.id for step in steps for e in step if e.source == "domain"]
    assert [sum(e.source == "anchor" for e in step) for step in steps] == [2] * 100 and seen == plain[: len(seen)]


@pytest.mark.parametrize("recipe", ["kl", "kl(on=general)", "kl+mix", "kl(on=general)+mix+distill", "lora+kl(on=general)"])
def test_a_step_is_charged_what_it_was_priced(recipe, base, tmp_path):
    """The base's forward is paid for the rows it reads, and no others."""
    run = make_run(base, recipe, allowed=2)
    steps = list(itertools.islice(run.steps(), 2))
    priced = [sum(parts) for parts in zip(*(run.step_price(step) for step in steps), strict=True)]
    trained(run, tmp_path)
    record = run.ledger.record()
    assert [record["flops"], sum(record["tokens"].values())] == pytest.approx(priced)
    if recipe == "kl(on=general)":
        read = [[e for e in group if e.source == "anchor"] for step in steps for group in run.groups(step)]
        teacher = sum(run.price("full", False).of(Shape.padded(rows)) for rows in read if rows)
        assert record["accounts"]["teacher"]["flops"] == pytest.approx(teacher)
        assert record["tokens"]["teacher"] == record["tokens"]["anchor"] > 0


def test_what_is_logged_is_what_is_minimised(base, tmp_path):
    """Anchors have no task loss: `task_loss` is the domain's cross-entropy over all supervised tokens of the step."""
    trained(make_run(base, "kl(on=general, ratio=0.5)", allowed=1), tmp_path)
    (entry,) = RunFolder(tmp_path).log()
    assert 0 < entry["task_loss"] < 0.8 * entry["loss"] and abs(entry["penalty"]) < 1e-8


# --- pulls -----------------------------------------------------------------------------------------------------------


def distance(weights, start) -> float:
    return sum(float((weights[name] - start[name]).square().sum()) for name in weights) ** 0.5


def test_decay_to_zero_is_that_of_adamw(base, tmp_path):
    """theta (1 - rate decay) less the Adam step: torch's own, to rounding."""
    ours, _ = trained(make_run(base, "wd(decay=2.0)", allowed=8), tmp_path / "ours")
    torchs, _ = trained(make_run(base, "", allowed=8, weight_decay=2.0), tmp_path / "torch")
    plain, _ = trained(make_run(base, "", allowed=8), tmp_path / "plain")
    assert all(torch.allclose(ours[name], torchs[name], atol=2e-6) for name in ours)
    assert distance(ours, plain) > 100 * distance(ours, torchs)


@pytest.mark.parametrize("name, still", [("l2sp", [1.0, 2.0]), ("wd", [0.0, 0.0])])
def test_decoupled_pulls_on_two_parameters(name, still):
    """One step of rate 0.1, strength 3 from theta = (2, -1): the distance to where it stands still shrinks by 0.7."""
    from harness.models.adapters import Wrapped
    from harness.training.masters import Masters

    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    masters = Masters(Wrapped(model, {"w": torch.tensor([1.0, 2.0])}, {"w": "w"}))
    masters.values["w"].data.copy_(model.w.data)
    masters.values["w"].grad = torch.tensor([5.0, 6.0])
    method = make_method(name, **{"strength" if name == "l2sp" else "decay": 3.0})
    assert method.decoupled
    masters.step_pulls(method.pull, rate=0.1)
    wanted = torch.tensor(still) + 0.7 * (torch.tensor([2.0, -1.0]) - torch.tensor(still))
    assert torch.allclose(masters.values["w"].detach(), wanted)
    assert torch.equal(masters.values["w"].grad, torch.tensor([5.0, 6.0]))


@pytest.mark.parametrize("recipe", ["l2sp(strength=50.0)", "l2sp(strength=10.0)+lora"])
def test_l2sp_holds_the_weights_at_the_base(recipe, base, tmp_path):
    near, _ = trained(make_run(base, recipe, allowed=15), tmp_path / "held")
    far, _ = trained(make_run(base, re.sub("strength=[0-9.]+", "strength=0.0", recipe), allowed=15), tmp_path / "loose")
    start = make_run(base, "").start
    assert distance(near, start) < 0.7 * distance(far, start)


def test_online_ewc_is_ewc_while_there_is_one_stage(base, tmp_path):
    from harness.models.base_model import weights_hash

    one, _ = trained(make_run(base, "ewc(samples=8)"), tmp_path / "ewc")
    online, _ = trained(make_run(base, "ewc_online(samples=8)"), tmp_path / "online")
    assert weights_hash(one) == weights_hash(online)


def test_online_ewc_decays_its_fisher_and_moves_its_anchor(base):
    run = make_run(base, "ewc_online(samples=8, gamma=0.25, strength=3.0)")
    (method,) = run.methods
    method.prepare(run.load(), run)
    first = {name: tensor.clone() for name, tensor in method.fisher_.items()}
    now = moved(run)
    run.ends = (0.5, 1.0)
    run.enter(2)
    method.stage_begin(now, run)
    chosen = torch.randperm(40, generator=run.generator("ewc"))[:8].tolist()
    with run.rng("ewc"):
        fresh = diagonal_fisher(now, run, [run.domain_of(1)[i] for i in chosen])
    name = next(iter(first))
    theta = run.start[name] + 1
    wanted = 3.0 * (0.25 * first[name] + fresh[name]) * (theta - dict(now.named_parameters())[name].detach())
    assert torch.allclose(method.pull(name, theta, run.start[name]), wanted, atol=1e-6)
    again = make_method("ewc_online", samples=8, gamma=0.25, strength=3.0)
    again.restore(method.state())
    assert torch.equal(again.pull(name, theta, run.start[name]), method.pull(name, theta, run.start[name]))


# --- synaptic intelligence -------------------------------------------------------------------------------------------

CURVES = torch.tensor([4.0, 1.0])
"""A loss of two parameters: sum of CURVES / 2 * theta^2; its gradient is CURVES * theta."""


class Quadratic:
    """A run whose every batch has this loss, over one token."""

    batch_size, stage, general = 1, 1, examples(4, "general")
    start = {"w": torch.tensor([1.0, -2.0])}

    def __init__(self):
        self.charges = 0

    def generator(self, name):
        return torch.Generator().manual_seed(0)

    def summed(self, value):
        return value

    def batches(self, rows):
        yield rows

    def nll(self, model, batch):
        return (CURVES / 2 * model.w.square()).sum().unsqueeze(0), None

    def charged(self, *_, **__):
        self.charges += 1
        return nullcontext()


def by_mean(values):
    return values / values.mean()


def test_si_proxy_on_two_parameters():
    """Two Adam steps by hand; omega is the loss they took off, to second order."""
    run, model = Quadratic(), torch.nn.Module()
    model.w = torch.nn.Parameter(run.start["w"].clone())
    proxy = make_method("si_proxy", strength=0.5, steps=2, step_size=0.1, xi=0.2)
    proxy.prepare(model, run)
    theta, omega, m, v = run.start["w"].clone(), torch.zeros(2), torch.zeros(2), torch.zeros(2)
    for step in (1, 2):
        g = CURVES * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        change = -0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        omega, theta = omega - g * change, theta + change
    importance = by_mean(omega / ((theta - run.start["w"]) ** 2 + 0.2))
    assert torch.equal(model.w.detach(), run.start["w"]) and run.charges == 2
    assert torch.allclose(proxy.importance_["w"], importance, atol=1e-5)
    away = torch.tensor([2.0, 1.0], requires_grad=True)
    (0.5 * (importance * (away - run.start["w"]) ** 2).sum()).backward()
    assert torch.allclose(proxy.pull("w", away.detach(), run.start["w"]), away.grad, atol=1e-4)


def test_si_importance_is_never_negative():
    """Here the walk overshoots: it climbs on the way."""
    run, model = Quadratic(), torch.nn.Module()
    model.w = torch.nn.Parameter(run.start["w"].clone())
    proxy = make_method("si_proxy", steps=3, step_size=5.0)
    proxy.prepare(model, run)
    assert (proxy.importance_["w"] >= 0).all()


def test_si_over_stages_on_two_parameters():
    run, method = Quadratic(), make_method("si_multi", strength=0.5, xi=0.2)
    weights = {"w": run.start["w"].clone()}

    def step(rate):
        gradients = {"w": CURVES * weights["w"]}
        raw = gradients["w"].clone()
        method.gradient(weights, gradients, run)
        pulled = gradients["w"].clone()
        gradients["w"] *= 0.1  # clipping comes after: omega takes the raw gradient
        method.update(lambda: weights["w"].sub_(rate * gradients["w"]), weights, run)
        return raw, pulled

    raw1, pulled = step(0.5)
    assert torch.equal(raw1, pulled)  # nothing is held in the first stage
    raw2, _ = step(0.5)
    omega = 0.05 * (raw1**2 + raw2**2)
    importance = by_mean(omega / ((weights["w"] - run.start["w"]) ** 2 + 0.2))
    anchor = weights["w"].clone()
    run.stage = 2
    at_anchor, pulled = step(0.5)
    assert torch.equal(at_anchor, pulled)
    raw, pulled = step(0.5)
    assert method.importance_["w"] == pytest.approx(importance.tolist(), rel=1e-5)
    away = (raw / CURVES - anchor).detach()
    assert torch.allclose(pulled - raw, 2 * 0.5 * importance * away, atol=1e-6)
    again = make_method("si_multi", strength=0.5, xi=0.2)
    again.restore(method.state())
    assert again.state().keys() == method.state().keys() and again.stage_ == 2
