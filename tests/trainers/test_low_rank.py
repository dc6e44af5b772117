"""Adapters that begin somewhere, rotate, or keep to a subspace: their formulas by hand on a tiny model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.recipes.registry import methods
from harness.toolbox import linear_layers, low_rank_layers
from harness.training.run import TrainingRun
from tests.support.training import examples, make_run, trained

NAME = "model.layers.0.mlp.up_proj.weight"
"""A weight of 64 outputs and 32 inputs."""


def wrapped(base, recipe: str, prepared: bool = True):
    """A run of the recipe in training, wrapped after it looked at the base."""
    run = make_run(base, recipe)
    model = run.load()
    if prepared:
        run.methods[0].prepare(model, run)
    return TrainingRun(run, run.wrap(model))


def begun(run, name: str = NAME) -> torch.Tensor:
    """B0 A0."""
    layer = low_rank_layers(run.wrapped.model)[name]
    return layer.began_up @ layer.began_down


def general_inputs(run, name: str = NAME) -> torch.Tensor:
    """(N, in) what a layer reads of all general examples, one example a pass: nothing is padded."""
    model = run.load()
    seen = []
    layer = linear_layers(model)[name.removesuffix(".weight")]
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].detach()))
    for example in run.general:
        model(input_ids=torch.tensor([example.tokens]))
    handle.remove()
    return torch.cat(seen)


def test_pissa_begins_as_the_best_approximation_and_milora_as_the_rest(base):
    top, low = wrapped(base, "pissa(r=3)"), wrapped(base, "milora(r=3)")
    values = torch.linalg.svdvals(top.start[NAME])
    left = torch.linalg.svdvals(top.start[NAME] - begun(top))
    assert torch.allclose(left[:29], values[3:], atol=1e-5) and left[29:].max() < 1e-5
    assert torch.allclose(torch.linalg.svdvals(low.start[NAME] - begun(low))[:29], values[:29], atol=1e-5)


def test_an_adapter_larger_than_its_matrix_is_refused(base):
    with pytest.raises(ValueError, match=r"r=17 is more than model\.layers\.0\.self_attn\.k_proj\.weight has"):
        wrapped(base, "pissa(r=17)")


def test_corda_begins_where_general_outputs_change_least(base):
    """Against the formula from inputs gathered one example at a time; and its part of W0 matters less than milora's."""
    run = wrapped(base, "corda(r=3)")
    inputs = general_inputs(run)
    moments = inputs.T @ inputs / len(inputs)
    damped = moments + 0.01 * moments.diagonal().mean() * torch.eye(32)
    u, s, v = torch.linalg.svd(run.start[NAME] @ damped, full_matrices=False)
    wanted = (u[:, -3:] * s[-3:]) @ v[-3:] @ torch.linalg.inv(damped)
    assert torch.allclose(begun(run), wanted, atol=1e-4)
    assert run.ledger.accounts["statistics"].flops > 0
    other = begun(wrapped(base, "pissa(r=3)"))
    assert F.linear(inputs, begun(run)).norm() < F.linear(inputs, other).norm()


@pytest.mark.parametrize("frozen", [False, True])
def test_lora_null_acts_where_general_inputs_are_least(base, frozen):
    run = wrapped(base, f"lora_null(r=3, frozen={frozen})")
    inputs = general_inputs(run)
    null = torch.linalg.eigh(inputs.T @ inputs).eigenvectors[:, :3]
    assert torch.allclose(begun(run), run.start[NAME] @ null @ null.T, atol=1e-4)
    trains = {name.split(".")[-3] for name, p in run.wrapped.model.named_parameters() if p.requires_grad}
    assert trains == ({"lora_B"} if frozen else {"lora_A", "lora_B"})


def test_with_its_null_space_frozen_the_change_stays_there(base, tmp_path):
    run = make_run(base, "lora_null(r=3, frozen=True)")
    weights, _ = trained(run, tmp_path / "run")
    change = weights[NAME] - run.start[NAME]
    null = run.methods[0].null_[NAME]
    assert change.norm() > 1e-3
    assert torch.allclose(change @ null @ null.T, change, atol=1e-5)


def test_oplora_keeps_the_top_singular_triples(base, tmp_path):
    run = make_run(base, "oplora(k=5)")
    weights, _ = trained(run, tmp_path / "run")
    change = weights[NAME] - run.start[NAME]
    u, s, v = torch.linalg.svd(run.start[NAME], full_matrices=False)
    assert change.norm() > 1e-2
    assert (u[:, :5].T @ change).abs().max() < 1e-5 and (change @ v[:5].T).abs().max() < 1e-5
    assert torch.allclose(weights[NAME] @ v[0], s[0] * u[:, 0], atol=1e-4)


def test_keeplora_looks_along_the_gradient_outside_the_principal_directions(base, tmp_path):
    run = make_run(base, "keeplora(r=2, k=4, batches=9)")  # nine steps' worth: the whole domain
    model = run.load()
    run.methods[0].prepare(model, run)
    for example in examples(40):
        (batch,) = run.batches([example])
        run.nll(model, batch)[0].sum().backward()
    gradient = dict(model.named_parameters())[NAME].grad
    top = torch.linalg.svd(run.start[NAME], full_matrices=False)[2][:4]
    rest = gradient - gradient @ top.T @ top
    down = run.methods[0].down_[NAME]
    assert (down @ top.T).abs().max() < 1e-5
    assert torch.linalg.svdvals(down @ torch.linalg.svd(rest)[2][:2].T) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert run.ledger.accounts["importance"].flops > 0
    again = make_run(base, "keeplora(r=2, k=4)")
    weights, _ = trained(again, tmp_path / "run")
    change, kept = weights[NAME] - again.start[NAME], again.methods[0].down_[NAME]
    assert change.norm() > 1e-3 and torch.allclose(change @ kept.T @ kept, change, atol=1e-5)


def test_osf_projects_gradients_off_the_frozen_part(base):
    run = wrapped(base, "osf(preserved=10)")
    model = run.wrapped.model
    (batch,) = run.batches(examples(2))
    run.nll(model, batch)[0].sum().backward()
    u, _, v = torch.linalg.svd(run.start[NAME], full_matrices=False)
    left, _, right = (factor.grad for factor in run.wrapped.folds[NAME].factors)
    assert left.norm() > 1e-3 and right.norm() > 1e-3
    assert (u[:, :10].T @ left).abs().max() < 1e-5 and (right @ v[:10].T).abs().max() < 1e-5
    assert left.shape == (64, 22)


def test_oft_multiplies_by_the_series_of_its_skew_matrix(base):
    """R = I + 2 Q + 2 Q^2 + 2 Q^3 + Q^4, block by block; for a small Q a rotation."""
    run = wrapped(base, "oft(block=16)")
    fold = run.wrapped.folds[NAME]
    angles = 0.05 * torch.randn(fold.factors[0].shape, generator=torch.Generator().manual_seed(0))
    blocks = []
    for row in angles:
        skew = torch.zeros(16, 16)
        skew[tuple(torch.triu_indices(16, 16, 1))] = row
        skew = skew - skew.T
        powers = [torch.linalg.matrix_power(skew, n) for n in range(5)]
        blocks.append(powers[0] + 2 * powers[1] + 2 * powers[2] + 2 * powers[3] + powers[4])
    rotation = torch.block_diag(*blocks)
    found = fold(run.start[NAME], [angles])
    assert torch.allclose(found, run.start[NAME] @ rotation.T, atol=1e-5)
    assert torch.allclose(rotation @ rotation.T, torch.eye(32), atol=0.02)
    assert not torch.allclose(rotation, torch.eye(32), atol=0.02)


def test_every_one_of_them_says_that_it_folds():
    names = ("pissa", "milora", "corda", "lora_null", "oplora", "keeplora", "osf", "oft")
    assert all(methods()[name].folds and methods()[name].adds == "linear" for name in names)
