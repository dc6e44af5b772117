"""Methods that change weights after training: formulas by hand, on weights made here."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from harness.models.base_model import own_weights, weights_hash
from harness.models.batches import collate
from harness.models.flops import Shape
from harness.recipes.registry import methods
from tests.support.training import examples, make_run, mean_probability, state_of, trained


def finished(name: str, start: dict, tuned: dict, **settings):
    run = SimpleNamespace(start=start, generator=lambda name: torch.Generator().manual_seed(7))
    return methods()[name](**settings).finish(tuned, run)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_dghard_keeps_a_spike_and_takes_the_noise_out():
    start = noise(80, 40, seed=1)
    left, right = noise(80, 1, seed=2), noise(1, 40, seed=3)
    spike = 3.0 * left / left.norm() @ (right / right.norm())
    change = spike + 0.02 * noise(80, 40, seed=4)  # its noise ends near 0.02 (sqrt(80) + sqrt(40)) = 0.31
    tuned = {"w": start + change, "norm": torch.ones(40), "small": noise(8, 8)}
    base = {"w": start, "norm": torch.zeros(40), "small": torch.zeros(8, 8)}
    found = finished("dghard", base, tuned)
    repaired = found["w"] - start
    assert torch.linalg.matrix_rank(repaired, atol=1e-4) == 1
    assert (repaired - spike).norm() < 0.5 * (change - spike).norm()
    assert torch.equal(found["norm"], tuned["norm"]) and torch.equal(found["small"], tuned["small"])
    only_noise = finished("dghard", base, tuned | {"w": start + 0.02 * noise(80, 40, seed=5)})
    assert torch.allclose(only_noise["w"], start)


def test_dghard_constants():
    """4 / sqrt(3) for a square, the limit of the paper; the median of simulated noise."""
    module = sys.modules[methods()["dghard"].__module__]
    assert module.omega(1.0) == pytest.approx(4 / math.sqrt(3))
    for rows in (400, 200):
        median = torch.linalg.svdvals(noise(rows, 400, seed=rows)).median() / 20
        assert module.noise_median(rows / 400) == pytest.approx(float(median), rel=0.02)


def test_ties_keeps_the_largest_changes():
    start, tuned = torch.ones(5), torch.tensor([1.0, 4.0, -1.0, 1.5, 1.25])
    found = finished("ties", {"w": start}, {"w": tuned}, density=0.4, scale=0.5)["w"]
    assert found.tolist() == [1.0, 2.5, 0.0, 1.0, 1.0]
    level = finished("ties", {"w": torch.zeros(10)}, {"w": torch.ones(10)}, density=0.3)["w"]
    assert level.sum() == 3  # equal magnitudes: still as many as `density` says


def test_dare_drops_at_random_and_scales_what_stays():
    start, tuned = noise(100, 100), noise(100, 100, seed=1)
    found = finished("dare", {"w": start}, {"w": tuned}, drop=0.75)["w"]
    moved = found != start
    assert float(moved.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.allclose((found - start)[moved], 4 * (tuned - start)[moved], atol=1e-5)


def test_lines_scales_by_depth():
    names = ["model.embed.weight", "model.layers.0.a", "model.layers.1.a", "model.layers.2.a", "model.norm.weight"]
    start, tuned = {name: torch.zeros(2) for name in names}, {name: torch.ones(2) for name in names}
    found = finished("lines", start, tuned, first=0.2, last=0.8)
    assert [value[0].item() for value in found.values()] == pytest.approx([0.2, 0.2, 0.5, 0.8, 0.8])
    level = finished("lines", start, tuned, first=0.4, last=0.4)
    assert all(torch.equal(level[name], finished("wise", start, tuned, alpha=0.4)[name]) for name in names)


@pytest.mark.parametrize(("strength", "expected"), [(1, [1, 1, 1, 1]), (0.75, [0.5, 0.5, 0.75, 1]), (0.25, [0, 0, 0.25, 0.5])])
def test_interpolation_takes_shallow_blocks_back_first(strength, expected):
    names = ["model.embed.weight", "model.layers.0.a", "model.layers.1.a", "model.layers.2.a"]
    start, tuned = {name: torch.zeros(2) for name in names}, {name: torch.ones(2) for name in names}
    module = sys.modules[methods()["interpolate"].__module__]
    found = module.interpolated(tuned, start, strength)
    assert [value[0].item() for value in found.values()] == expected


def test_the_largest_strength_that_keeps_the_dev_items_is_chosen_and_paid_for_before_training(base, tmp_path):
    given, spent = iter([0.8, 0.5, 0.7901, 0.9]), []

    def retention_of(model):
        spent.append(run.ledger.spent)
        mean_probability(model)  # what is charged
        return next(given)

    run = make_run(base, "interpolate", meter="flops", allowed=6e8, open_dev=lambda: retention_of)
    weights, _ = trained(run, tmp_path)

    # The base, then strengths 1 and 0.75, of which the second keeps it.
    assert len(spent) == 3 and spent[1:] == [run.ledger.spent] * 2
    dev = run.ledger.accounts["dev"]
    assert dev.calls == 5 and dev.flops == pytest.approx(5 * run.price("full", False).of(Shape.of(collate(examples(4, "dev")))))
    assert 0.95 * 6e8 < run.ledger.spent <= 1.01 * 6e8
    (note,) = run.methods[0].notes()
    assert note.startswith("Strength 0.75 of the change was chosen: retention 0.790")
    plain = state_of(run).gather()()
    module = sys.modules[type(run.methods[0]).__module__]
    expected = module.interpolated(plain, run.start, 0.75)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_where_no_strength_keeps_the_dev_items_the_base_is_left(base, tmp_path):
    given = iter([0.8] + [0.7] * 4)
    run = make_run(base, "interpolate", open_dev=lambda: lambda _: next(given))
    weights, _ = trained(run, tmp_path)
    assert weights_hash(weights) == base.hash and next(given, None) is None
    assert weights_hash(own_weights(run.model_with({}))) == base.hash  # what is not given is the base's
