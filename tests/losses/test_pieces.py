"""The head in pieces: the loss and the gradients of the whole, whatever the methods, the batch and the architecture."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from harness.contract import Method, overrides
from harness.losses import pieces
from harness.losses.head import Finish, Form, Head, separate_head
from harness.losses.reach import Reach, reach_of_penalty, reach_of_weights
from harness.losses.step_sums import StepSums
from harness.losses.weighted_loss import WeightedLoss
from harness.models.base_model import BaseModel
from harness.models.forward import logits_at
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.training.step import loss_of
from tests.architectures import build
from tests.support.training import examples, in_training, make_run

CPU = torch.device("cpu")
HOOKS = ("token_weights", "penalty", "share")
LOSSY = [name for name, kind in sorted(methods().items()) if any(overrides(kind(), hook) for hook in HOOKS)]
RECIPES = [
    "",
    *LOSSY,
    "moe(balance=0.1)",
    "nlirg(shuffled=True)",
    "nlirg(norm=faithful)",
    "kl(on=general)",
    "distill+kl",
    "nlirg+talr",
    "eaft+kl",
    "talr+distill",
    "lora+distill",
    "lora(targets='q_proj,lm_head')",
]
"""Every method that fills a hook of the loss, settings that look further than one place, and combinations."""


def moved_run(base, recipe: str, **changes):
    """A run in training whose weights are not the base's any more."""
    run = in_training(make_run(base, recipe, **changes))
    run.model.train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return run


def mixed_batch(run):
    """A micro-batch of examples from every source."""
    rows = [*examples(5), *examples(3, "general")]
    rows += [dataclasses.replace(example, source="anchor") for example in examples(3, "other")]
    (batch,) = run.batches(rows)
    return batch


def plain_loss(run, batch, sums):
    """The loss by its definition, from the logits of the whole model."""
    logits = logits_at(run.model, batch)
    nll = F.cross_entropy(logits, batch.labels, reduction="none")
    given = torch.ones_like(nll.detach())
    for method in run.filled("token_weights"):
        given = given * method.token_weights(nll.detach(), logits.detach(), batch)
    by_sum = all(method.renorm for method in run.filled("token_weights"))
    normaliser = float(given.sum() if by_sum else (given * nll != 0).sum())
    weights = given
    for method in run.filled("share"):
        weights = weights * method.share(batch)
    if run.filled("token_weights"):
        sums.weigh(nll.detach(), given)
    sums.add(nll.detach(), weights, normaliser)
    penalty = sum(method.penalty(logits, batch, run).sum() for method in run.filled("penalty"))
    sums.penalty = float(torch.as_tensor(penalty).detach())
    return (weights * nll).sum() + penalty * normaliser / len(nll)


def loss_and_gradients(run, batch, loss_of):
    """(the loss, gradients by name, the sums, calls of the trained model's head as numbers of places)."""
    calls: list[int] = []
    handle = run.model.get_output_embeddings().register_forward_hook(lambda _, args, out: calls.append(out.shape[1]))
    sums = StepSums()
    try:
        loss = loss_of(run, dataclasses.replace(batch, cache={}), sums)
        loss.backward()
    finally:
        handle.remove()
    gradients = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
    for parameter in run.model.parameters():
        parameter.grad = None
    return loss.detach(), gradients, sums, calls


def compare(run, batch, places: int = 7) -> list[int]:
    """Hold the loss in pieces of so many places to its definition; return the calls of the head."""
    run.logits_at_once = places * run.vocabulary
    whole = loss_and_gradients(run, batch, plain_loss)
    parts = loss_and_gradients(run, batch, loss_of)
    assert torch.allclose(parts[0], whole[0], rtol=1e-5)
    assert parts[1].keys() == whole[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in whole[1].values())
    for name, gradient in whole[1].items():
        assert torch.allclose(parts[1][name], gradient, rtol=1e-4, atol=1e-6 * largest), name
    for field in ("supervised", "loss", "weighted", "normaliser", "penalty"):
        assert getattr(parts[2], field) == pytest.approx(getattr(whole[2], field), rel=1e-5), field
    for field in ("zones", "given"):
        expected = getattr(whole[2], field)
        assert expected is None or torch.allclose(getattr(parts[2], field), expected, rtol=1e-4), field
    return parts[3]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda text: text or "sft")
def test_loss_and_gradients_in_pieces_are_those_of_the_whole(recipe, base):
    run = moved_run(base, recipe, micro_tokens=512)
    batch = mixed_batch(run)
    calls = compare(run, batch)
    own = [places for places in calls if places > 1]
    most = len(batch.places) if any(run.reach(method) is Reach.BATCH for method in run.methods) else 7
    assert max(own) <= most, "more places at once than a piece has"
    assert most == 7 or "moe" in recipe
    if "base_logits" not in parse_recipe(recipe).needs:
        assert sum(own) == len(batch.places), "the head ran over each place once"


@pytest.mark.parametrize(
    "changes",
    [{"pack_length": 512}, {"checkpointing": True}, {"precision": "bfloat16"}],
    ids=lambda changes: next(iter(changes)),
)
def test_so_they_are_packed_recomputed_and_in_bf16(changes, base):
    run = moved_run(base, "nlirg+distill", **{"micro_tokens": 512, **changes})
    batch = mixed_batch(run)
    if run.dtype == torch.float32:
        compare(run, batch)
        return

    # In bf16 a sum of the pieces' rounded gradients differs from the rounded sum by rounding, so they are held to fp32's.
    exact = moved_run(base, "nlirg+distill", micro_tokens=512)
    exact.model.load_state_dict(run.model.state_dict())
    expected = loss_and_gradients(exact, batch, plain_loss)[1]
    run.logits_at_once = 7 * run.vocabulary
    errors = []
    for way in (plain_loss, loss_of):
        found = loss_and_gradients(run, batch, way)[1]
        squares = [(found[name].float() - expected[name]).square().sum() for name in expected]
        errors.append(float(torch.stack(squares).sum().sqrt()))
    assert errors[1] < 1.05 * errors[0]


@pytest.mark.parametrize("recipe", ["", "nlirg+kl", "moe(balance=0.1)"])
def test_one_piece_has_the_bits_of_autograd_through_the_whole_model(recipe, base):
    run = moved_run(base, recipe, micro_tokens=512)
    batch = mixed_batch(run)
    whole = loss_and_gradients(run, batch, plain_loss)
    parts = loss_and_gradients(run, batch, loss_of)
    assert torch.equal(parts[0], whole[0]) and parts[1].keys() == whole[1].keys()
    assert all(torch.equal(parts[1][name], whole[1][name]) for name in whole[1])


def test_only_what_trains_has_gradients(base):
    run = moved_run(base, "nlirg", micro_tokens=512)
    for name, parameter in run.model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    compare(run, mixed_batch(run))
    for name, parameter in run.model.named_parameters():
        parameter.requires_grad_("embed_tokens" in name)
    compare(run, mixed_batch(run))


def test_pieces_cover_every_place_once_and_are_nearly_equal():
    for places, at_once in [(0, 3), (1, 3), (9, 3), (10, 3), (7, 100)]:
        bounds = pieces.cut(places, at_once)
        covered = [place for begin, end in bounds for place in range(begin, end)]
        sizes = [end - begin for begin, end in bounds]
        assert covered == list(range(places)) and max(sizes) <= at_once and max(sizes) - min(sizes) <= 1


def test_no_loss_gives_zeros_to_all_that_a_loss_gives_gradients_to(base):
    run = moved_run(base, "", micro_tokens=512)
    batch = mixed_batch(run)
    pieces.no_loss(run.head, run.features(run.model, batch)).backward()
    assert all(p.grad is not None and not p.grad.any() for p in run.model.parameters())


# --- heads ---

FINISHES = {
    "llama": Form.UNCHANGED,
    "cohere": Form.TIMES,
    "granite": Form.OVER,
    "gemma2": Form.CAPPED,
    "phi": Form.UNCHANGED,
    "gptj": Form.UNCHANGED,
    "opt": Form.UNCHANGED,
}
"""What architectures do to what their heads return; those of phi and GPT-J have a bias, and OPT projects before its head."""


def tiny(name: str, tmp_path) -> BaseModel:
    model = build(name)
    if name == "cohere":
        model.config.logit_scale = 0.0625
    if name == "granite":
        model.config.logits_scaling = 8.0
    model.save_pretrained(tmp_path / name)
    return BaseModel(str(tmp_path / name), None, name, sum(p.numel() for p in model.parameters()), 256)


@pytest.mark.parametrize("name", FINISHES)
def test_a_head_is_separated_whatever_is_done_to_what_it_returns(name, tmp_path):
    run = moved_run(tiny(name, tmp_path), "nlirg+kl", micro_tokens=512)
    batch = mixed_batch(run)
    assert run.head.module is not None and run.head.finish.form is FINISHES[name]
    run.model.eval()
    with torch.no_grad():
        assert torch.equal(run.head.logits_of(run.features(run.model, batch)), logits_at(run.model, batch))
    compare(run, batch)


def test_a_head_whose_logits_come_otherwise_is_not_separated_and_trains_alike(base):
    run = moved_run(base, "nlirg+kl", micro_tokens=512)
    forward = run.model.forward

    def masked(*inputs, **options):
        result = forward(*inputs, **options)
        result.logits = result.logits + torch.linspace(0, 1, result.logits.shape[-1])
        return result

    run.model.forward = masked
    run = in_training(run, run.model)
    assert run.head == Head()
    batch = mixed_batch(run)
    with torch.no_grad():
        assert torch.equal(run.features(run.model, batch), logits_at(run.model, batch))
    compare(run, batch)


def test_a_cap_is_seen_where_the_models_own_logits_are_far_below_it(base):
    """In bf16, logits of a fresh model are the same with a cap and without."""
    model = build("gemma2").to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.01)
    assert separate_head(model).finish == Finish(Form.CAPPED, 30.0)


# --- what methods look at ---


class Across(Method):
    """Weights by the largest logit of all places."""

    def token_weights(self, nll, logits, batch):
        return torch.ones_like(nll) * logits.max()

    def penalty(self, logits, batch, run):
        return (logits - logits.mean()).square().mean(-1)


class Counting(Method):
    """Weights by the number of calls, which each micro-batch makes one of."""

    calls = 0

    def token_weights(self, nll, logits, batch):
        self.calls += 1
        return torch.full_like(nll, 1.0 + self.calls % 2)


class Failing(Method):
    """Cannot be tried before it is prepared."""

    def token_weights(self, nll, logits, batch):
        raise AttributeError("prepare was not called")


def method(text: str) -> Method:
    return parse_recipe(text).methods[0]


@pytest.mark.parametrize(
    ("weigher", "reach"),
    [
        (method("nlirg"), Reach.PLACE),
        (method("dft"), Reach.PLACE),
        (method("eaft"), Reach.PLACE),
        (method("talr"), Reach.LOSSES),
        (method("nlirg(shuffled=True)"), Reach.LOSSES),
        (Counting(), Reach.LOSSES),
        (Across(), Reach.BATCH),
        (Failing(), Reach.BATCH),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_weights_look_at_is_tried(weigher, reach):
    before = torch.random.get_rng_state()
    assert reach_of_weights(weigher, 260, CPU) is reach
    assert getattr(weigher, "calls", 0) == 0 and torch.equal(torch.random.get_rng_state(), before)


def test_what_penalties_look_at_is_tried():
    run = SimpleNamespace()
    for text in ("kl", "distill", "kl(on=general)"):
        assert reach_of_penalty(method(text), run, 260, CPU) is Reach.PLACE
    assert reach_of_penalty(Across(), run, 260, CPU) is Reach.BATCH


@pytest.mark.parametrize("kind", [Across, Failing])
def test_methods_that_look_further_train_as_without_pieces(kind, base):
    run = moved_run(base, "", micro_tokens=512)
    run.methods = (kind(),)
    batch = mixed_batch(run)
    if kind is Failing:
        objective = WeightedLoss(run, batch, StepSums())
        assert objective.places_at_once(7) == len(batch.places)
        return
    compare(run, batch)
