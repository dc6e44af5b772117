"""The optimizer that a plan names: what it computes, keeps and resumes, and what is refused beside it."""

from __future__ import annotations

import math

import pytest
import torch

from harness.errors import PlanError
from harness.estimates.memory import Sizer, Way
from harness.models.base_model import weights_hash
from harness.plan.load import make_plan
from harness.recipes.optimizer import read_optimizer
from harness.recipes.recipe import parse_recipe, unoptimized
from harness.training.loop import train
from tests.support.training import make_run, state_of, trained
from tests.training.test_plain_torch import SETTINGS, STEPS, plain_torch

TORCHS = {
    "adamw(beta1=0.8, beta2=0.95, eps=0.001)": lambda p: torch.optim.AdamW(p, 0.0, (0.8, 0.95), 1e-3, 0.3),
    "sgd(momentum=0.9)": lambda p: torch.optim.SGD(p, lr=0.0, momentum=0.9, weight_decay=0.3),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.0, weight_decay=0.3),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.0, weight_decay=0.3),
}
"""Each optimizer, and the same made by hand with the weight decay of `SETTINGS`."""


@pytest.mark.parametrize("name", TORCHS)
def test_it_is_torchs_own_keeps_what_is_predicted_and_resumes_bit_for_bit(name, base, tmp_path):
    run = make_run(base, "sft", optimizer=name, **SETTINGS)
    source = run.steps()
    steps = [list(next(source)) for _ in range(STEPS)]
    weights, _ = trained(run, tmp_path / "whole", checkpoint_every=0.0)
    expected, _ = plain_torch(base.path, steps, TORCHS[name])
    assert all(torch.allclose(weights[key], tensor, atol=1e-4) for key, tensor in expected.items())

    # What it keeps of each weight, counters of steps aside, is what memory is predicted by.
    states = state_of(run).optimizer.state.values()
    kept = sum(value.numel() for state in states for key, value in state.items() if key != "step")
    moved_by = read_optimizer(name)
    assert kept == sum(moved_by.numbers(tensor.shape) for tensor in state_of(run).masters.tensors)

    # A kill in the middle changes no bit.
    def kill(entry):
        if entry["step"] == 4:
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(make_run(base, "sft", optimizer=name, **SETTINGS), tmp_path / "cut", lambda *_: None, kill, checkpoint_every=0.0)
    resumed, _ = trained(make_run(base, "sft", optimizer=name, **SETTINGS), tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(weights)


def test_predicted_memory_has_what_it_keeps(tiny_path):
    def states(optimizer):
        return Sizer(tiny_path, parse_recipe("sft"), "float32", 64, "cpu", optimizer).size(Way(512)).states

    trained_numbers = Sizer(tiny_path, parse_recipe("sft"), "float32", 64, "cpu").trained
    assert states("adamw") - states("sgd(momentum=0.9)") == states("sgd(momentum=0.9)") - states("sgd") == 4 * trained_numbers
    assert 0 < states("adafactor") - states("sgd") < 0.5 * trained_numbers


def test_the_question_names_it_only_where_it_is_not_the_default(base):
    def question(optimizer):
        return make_run(base, "sft", optimizer=read_optimizer(optimizer).text).training.question

    assert "optimizer" not in question("adamw") and question("adamw") == question("adamw(beta1=0.9, eps=1e-8)")
    assert question("adamw(beta2=0.95)")["optimizer"] == "adamw(beta2=0.95)"
    assert question("sgd( momentum = 0 )") == question("sgd") != question("adamw")


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("adamv", "there is no optimizer 'adamv'; did you mean 'adamw'?"),
        ("lion", "there is no optimizer 'lion'; there are adamw, sgd, adafactor"),
        ("adamw(beta2=1)", "optimizer 'adamw(beta2=1)': adamw: beta2 must be from 0 to below 1, not 1.0"),
        ("adamw(lr=0.1)", "adamw has no setting 'lr'; it has beta1, beta2, eps"),
        ("adafactor(d=1)", "adafactor has no setting 'd'; it has none"),
        ("sgd+adamw", "optimizer 'sgd+adamw' is not understood"),
        ("", "optimizer '' is not understood"),
    ],
)
def test_what_is_no_optimizer_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(PlanError) as refused:
        make_plan({"optimizer": text})
    assert sentence in str(refused.value)


def test_a_method_that_goes_by_adamws_momenta_is_refused_beside_another(tiny_path, tmp_path):
    from harness.setup.material import gather
    from tests.support.training import small_files

    mofo = parse_recipe("mofo")
    assert not unoptimized(mofo, read_optimizer("adamw(beta2=0.95)"))
    for other in ("sgd", "adafactor", "adamw(beta1=0.8)"):
        assert "mofo: the momenta that it goes by are AdamW's" in unoptimized(mofo, read_optimizer(other))
    asked = small_files(tmp_path) | {"model": tiny_path, "optimizer": "adafactor", "recipes": "mofo sft", "out": str(tmp_path)}
    with pytest.raises(PlanError) as refused:
        gather(make_plan(asked | {"device": "cpu", "deepspeed": "zero2"}))
    assert "'mofo' cannot be trained by adafactor" in str(refused.value)
    assert "adafactor cannot be sharded by DeepSpeed: it keeps means over the rows and columns" in str(refused.value)
    material = gather(make_plan(asked | {"device": "cpu", "recipes": "sft"}))
    assert material.training.optimizer == "adafactor" and math.isfinite(material.training.learning_rate)
    assert any("Trained by adafactor" in note for note in material.notes)
