"""Penalties and pulls: their values, by hand and by autograd; what they hold on to; what they cost."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harness.budget import Shape
from harness.store import RunFolder
from tests.training import examples, make_run, trained


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
    run.model = moved(run, by)
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
    with pytest.raises(ValueError, match="domain or general, not 'both'"):
        make_method("kl", on="both")
    with pytest.raises(ValueError, match="beta is 0 or more"):
        make_method("kl", beta=-0.1)


def make_method(name: str, **settings):
    from harness.recipes import methods

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
        read = [[e for e in group if e.source == "anchor"] for step in steps for group in run._groups(step)]
        teacher = sum(run._price("full", False).of(Shape.padded(rows)) for rows in read if rows)
        assert record["accounts"]["teacher"]["flops"] == pytest.approx(teacher)
        assert record["tokens"]["teacher"] == record["tokens"]["anchor"] > 0


def test_what_is_logged_is_what_is_minimised(base, tmp_path):
    """Anchors have no task loss: `task_loss` is the domain's cross-entropy over all supervised tokens of the step."""
    trained(make_run(base, "kl(on=general, ratio=0.5)", allowed=1), tmp_path)
    (entry,) = RunFolder(tmp_path).log()
    assert 0 < entry["task_loss"] < 0.8 * entry["loss"] and abs(entry["penalty"]) < 1e-8
