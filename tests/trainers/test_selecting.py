"""Methods that choose which weights move, how far, or against what: by hand, and by trace of short runs."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch

from harness.recipes.registry import methods
from harness.toolbox import linear_layers
from harness.training.loop import train
from tests.support.training import make_run, state_of, trained

NAME = "model.layers.1.mlp.down_proj.weight"


def weights_by_step(run, folder) -> list[dict[str, torch.Tensor]]:
    """All weights at the start and after every step."""
    seen = [{name: tensor.clone() for name, tensor in run.start.items()}]
    train(run, folder, lambda *_: None, lambda _: seen.append(state_of(run).masters.effective()))
    return seen


# --- SSU -------------------------------------------------------------------------------------------------------------


def test_ssu_scores_columns_by_magnitudes_and_general_inputs(base):
    run = make_run(base, "ssu(frozen=0.25)")
    model, (ssu,) = run.load(), run.methods
    ssu.prepare(model, run)
    squares = torch.zeros(64)
    layer = linear_layers(model)[NAME.removesuffix(".weight")]
    layer.register_forward_pre_hook(lambda _, inputs: squares.add_(inputs[0][0].detach().square().sum(0)))
    for example in run.general:  # one at a time: nothing is padded
        model(input_ids=torch.tensor([example.tokens]))
    scores = run.start[NAME].abs().sum(0) * squares.sqrt()
    assert set(ssu.columns_[NAME].tolist()) == set(scores.topk(16).indices.tolist())
    assert run.ledger.accounts["statistics"].flops > 0


@pytest.mark.parametrize("by", ["importance", "random"])
def test_ssu_columns_end_with_the_bases_bits(base, by, tmp_path):
    run = make_run(base, f"ssu(by={by})+wd(decay=0.5)", weight_decay=0.1)
    weights, _ = trained(run, tmp_path / "run")
    columns = next(method for method in run.methods if hasattr(method, "columns_")).columns_[NAME]
    moved = (weights[NAME] != run.start[NAME]).any(0)
    assert len(columns) == 32 and not moved[columns].any() and moved.sum() == 32


def test_ssu_at_random_is_another_choice_and_needs_no_general_data():
    assert methods()["ssu"](by="random").needs == frozenset()
    assert methods()["ssu"]().needs == {"general_data"}


# --- MoFO ------------------------------------------------------------------------------------------------------------


def test_mofo_moves_what_has_the_largest_momentum():
    """Two steps of a step that adds 1 to everything: momenta 0.1 g1, then 0.09 g1 + 0.1 g2."""
    weight = torch.zeros(2, 2, requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)
    mofo = methods()["mofo"](alpha=0.25)

    def step():
        weight.data += 1
        bias.data += 1

    weight.grad, bias.grad = torch.tensor([[1.0, -4.0], [2.0, 3.0]]), torch.ones(2)
    mofo.update(step, {"w": weight, "b": bias}, None)
    assert weight.tolist() == [[0, 1], [0, 0]] and bias.tolist() == [1, 1]
    weight.grad = torch.tensor([[0.0, 0.0], [0.0, 2.0]])  # momenta .09, -.36, .18, .47
    mofo.update(step, {"w": weight, "b": bias}, None)
    assert weight.tolist() == [[0, 1], [0, 1]] and bias.tolist() == [2, 2]
    assert mofo.momenta_["w"].flatten().tolist() == pytest.approx([0.09, -0.36, 0.18, 0.47])


def test_mofo_moves_its_share_of_every_matrix_in_every_step(base, tmp_path):
    seen = weights_by_step(make_run(base, "mofo(alpha=0.1)"), tmp_path)
    shares = [float((after[NAME] != before[NAME]).float().mean()) for before, after in pairwise(seen)]
    assert len(shares) == 6 and all(share == pytest.approx(0.1, abs=0.002) for share in shares[:-1])


# --- HFT and LISA ----------------------------------------------------------------------------------------------------


def moving(before: dict, after: dict) -> set[str]:
    return {name for name in after if not torch.equal(before[name], after[name])}


def test_hft_rests_another_half_in_each_round(base, tmp_path):
    run = make_run(base, "hft(rounds=2)", decay="constant")
    seen = weights_by_step(run, tmp_path)
    rounds = [moving(seen[0], seen[3]), moving(seen[3], seen[6])]
    matrices = {name for name in run.start if "layers" in name and run.start[name].dim() > 1}
    for moved, resting in zip(rounds, run.methods[0].resting_, strict=True):
        assert matrices - moved == resting and len(resting) == len(matrices) / 2
        assert moved - matrices == run.start.keys() - matrices
    assert rounds[0] != rounds[1]


def test_lisa_trains_a_few_blocks_at_a_time_and_pays_less(base, tmp_path):
    run = make_run(base, "lisa(layers=1, rounds=3)", decay="constant", seed=1)
    seen = weights_by_step(run, tmp_path)
    trained_blocks = []
    for before, after in pairwise(seen):
        moved = moving(before, after)
        blocks = {name.split(".")[2] for name in moved if "layers" in name}
        assert len(blocks) == 1 and "model.embed_tokens.weight" in moved
        trained_blocks.append(int(*blocks))
    drawn = [next(iter(run.methods[0].training_[step // 2])) for step in range(6)]
    assert trained_blocks == drawn and len(set(drawn)) == 2
    plain = make_run(base, "")
    trained(plain, tmp_path / "plain")
    assert run.ledger.record()["flops"] < plain.ledger.record()["flops"]


# --- FINCH -----------------------------------------------------------------------------------------------------------


def test_finch_follows_the_moving_mean_of_the_loss():
    finch = methods()["finch"](cap=2.0)
    factors = [finch.rate(0.5)]
    for loss in (4.0, 1.0, 0.0):
        finch.observe_loss(loss)
        factors.append(finch.rate(0.5))
    assert factors == pytest.approx([1, 1, (4 / 3.7) ** 0.5, (4 / 3.33) ** 0.5])
    for _ in range(100):
        finch.observe_loss(0.0)
    assert finch.rate(0.5) == 2


def test_finch_sees_the_steps_own_loss_before_its_rate_is_asked(base, tmp_path):
    run = make_run(base, "finch", decay="constant", warmup=0.0)
    trained(run, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    mean = lines[0]["loss"]
    for line in lines:
        mean = 0.9 * mean + 0.1 * line["loss"]
        assert line["rate"] == pytest.approx(1e-2 * (lines[0]["loss"] / mean) ** 0.5)
    assert lines[-1]["rate"] != lines[0]["rate"]


# --- A-GEM -----------------------------------------------------------------------------------------------------------


def projected(gradient: list[float], reference: list[float]) -> list[float]:
    """What becomes of a gradient over two tensors."""
    a_gem = methods()["a_gem"]()
    for passing, values in ((True, reference), (False, gradient)):
        a_gem.passing_ = passing
        found = {"one": torch.tensor(values[:2]), "two": torch.tensor(values[2:])}
        a_gem.gradient({}, found, None)
    return [*found["one"].tolist(), *found["two"].tolist()]


def test_a_gem_projects_only_what_points_against_the_reference():
    assert projected([1.0, 0.0, 2.0], [1.0, 1.0, 1.0]) == [1.0, 0.0, 2.0]
    assert projected([1.0, 0.0, -4.0], [1.0, 1.0, 1.0]) == pytest.approx([2.0, 1.0, -3.0])  # g . r = -3, r . r = 3


def test_a_gem_takes_its_reference_in_a_pass_that_moves_nothing(base, tmp_path):
    run = make_run(base, "a_gem(ratio=0.5)", decay="constant")
    seen = weights_by_step(run, tmp_path)
    assert [bool(moving(before, after)) for before, after in pairwise(seen)] == [False, True] * 3
    assert run.ledger.classes["anchor"] > 0


def test_a_gem_reference_is_the_gradient_of_general_examples(base, tmp_path):
    run = make_run(base, "a_gem", allowed=1)  # the reference's pass only
    trained(run, tmp_path / "run")
    (step,) = [next(make_run(base, "a_gem").steps())]
    model = run.load()
    total = 0
    for batch in run.batches(step):
        losses = run.nll(model, batch)[0]
        losses.sum().backward()
        total += len(losses)
    wanted = dict(model.named_parameters())[NAME].grad / total
    assert torch.allclose(run.methods[0].reference_[NAME], wanted, atol=1e-6)
    assert {example.source for example in step} == {"anchor"} and len(step) == 8
