"""Prices, ledger, budgets."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from harness.errors import PlanError
from harness.models import flops as flops_module
from harness.models.base_model import empty_model
from harness.models.flops import Shape, count_flops, price_of
from harness.models.structure import structure_of
from harness.plan.values import parse_budget
from harness.recipes.registry import methods
from harness.training import loop
from harness.training import run as run_module
from harness.training.ledger import Ledger
from harness.training.protocol import TrainingData
from harness.training.step import affordable
from tests.support.training import SHORTER, make_run, trained


@pytest.mark.parametrize(
    "text, amount, unit",
    [
        ("3epochs", 3, "epochs"),
        ("600s", 600, "seconds"),
        ("2e15flops", 2e15, "flops"),
        ("1Mtokens", 1e6, "tokens"),
        ("0.5Pflops", 5e14, "flops"),
    ],
)
def test_budget_text(text, amount, unit):
    budget = parse_budget(text)
    assert (budget.amount, budget.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["3", "epochs", "3 parsecs", "-1epochs", "1..5epochs"])
def test_bad_budget_names_the_cure(text):
    with pytest.raises(PlanError, match=r"3epochs|not a number"):
        parse_budget(text)


def test_price_of_plain_training_is_six_flops_a_weight_and_token(tiny_path):
    model = empty_model(tiny_path)
    weights = sum(p.numel() for n, p in model.model.layers.named_parameters() if p.dim() == 2)
    assert price_of(model, backward=True).token == pytest.approx(6 * weights)
    assert price_of(model, backward=False).token == pytest.approx(2 * weights)


@pytest.mark.parametrize("backward", [True, False])
def test_price_equals_the_counter_at_shapes_it_was_not_fitted_to(tiny_path, backward):
    model, shape = empty_model(tiny_path), Shape(3, 37, 11)
    assert price_of(model, backward=backward).of(shape) == pytest.approx(count_flops(model, shape, backward=backward), rel=1e-6)


@pytest.mark.parametrize("recipe", ["sft", "dora", "moe", "prefix"])
def test_an_empty_model_costs_what_torchs_own_counter_sees(recipe, base):
    """Twice: the second time all shapes are remembered."""
    from torch.utils.flop_counter import FlopCounterMode

    from harness.models.flops import autocast_anywhere, empty_batch
    from harness.models.forward import logits_at

    model, shape = make_run(base, recipe).empty(), Shape(2, 9, 5)
    batch = empty_batch(shape, torch.device("meta"))
    with FlopCounterMode(display=False) as counter, autocast_anywhere():
        logits_at(model, batch, attention_mask=batch.mask).sum().backward()
    assert [count_flops(model, shape, backward=True) for _ in range(2)] == [counter.get_total_flops()] * 2


@pytest.mark.parametrize("name", sorted(methods()))
def test_ledger_agrees_with_the_flop_counter(name, base, tmp_path, monkeypatch):
    """What a run is charged against what torch counts while it really runs, preparation and teacher included.

    The trial of the head before training and the fold of adapters after it are in no budget; tiny runs would show them.
    The counter is blind to 4-bit kernels, and 4-bit layers are priced as plain ones: as such they run here.
    """
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(sys.modules[methods()["qlora"].__module__], "quantise", lambda model: None)
    # One strength, so that what is charged ahead is asked.
    recipe = "interpolate(tries=1)" if name == "interpolate" else SHORTER.get(name, name)
    run = make_run(base, recipe, allowed=3)
    run.data = TrainingData(run.data.domain[:24], run.data.general[:8])
    run.load = eager(run)  # the counter is blind to fused CPU attention
    monkeypatch.setattr(flops_module, "measure_price", unseen(flops_module.measure_price))
    heads = counted_aside(monkeypatch, run_module, "separate_head")
    looks = counted_aside(monkeypatch, run_module.PlannedRun, "dev_scores")
    before_the_end: list[int] = []
    monkeypatch.setattr(loop, "_final_weights", noting(loop._final_weights, lambda: before_the_end.append(len(looks))))
    ends = counted_aside(monkeypatch, loop, "_final_weights")
    with FlopCounterMode(display=False) as counter:
        trained(run, tmp_path)

    # Of the end only its looks at dev items are in the budget.
    flops = counter.get_total_flops() - sum(heads) - sum(ends) + sum(looks[before_the_end[0] :])
    assert run.ledger.record()["flops"] == pytest.approx(flops, rel=0.02)


def counted_aside(monkeypatch, module, name: str) -> list[int]:
    """Count what a function of a module computes, call by call."""
    from torch.utils.flop_counter import FlopCounterMode

    function, calls = getattr(module, name), []

    def counted(*arguments, **options):
        with FlopCounterMode(display=False) as counter:
            result = function(*arguments, **options)
        calls.append(counter.get_total_flops())
        return result

    monkeypatch.setattr(module, name, counted)
    return calls


def unseen(function):
    """Return the function, of whose work no counter knows."""

    def apart(*arguments, **options):
        with _disable_current_modes():
            return function(*arguments, **options)

    return apart


def noting(function, note):
    """Return the function, which calls `note` first."""

    def noted(*arguments):
        note()
        return function(*arguments)

    return noted


def eager(run):
    load = run.load

    def loaded():
        model = load()
        model.set_attn_implementation("eager")
        return model

    return loaded


@pytest.mark.parametrize("meter, allowed", [("flops", 3e8), ("tokens", 700), ("steps", 4)])
@pytest.mark.parametrize("recipe", ["sft", "distill", "lora"])
def test_spending_ends_within_one_percent_or_an_example(meter, allowed, recipe, base, tmp_path):
    run = make_run(base, recipe, meter=meter, allowed=allowed)
    trained(run, tmp_path)
    smallest = {"flops": run.step_price([min(run.data.domain, key=len)])[0], "tokens": 50, "steps": 0}[meter]
    assert -smallest / allowed - 0.01 <= run.ledger.record()["overshoot"] <= 0.001


def test_same_flops_buy_fewer_steps_with_a_teacher(base, tmp_path):
    steps = {}
    for recipe in ("sft", "distill"):
        run = make_run(base, recipe, meter="flops", allowed=4e8)
        steps[recipe] = trained(run, tmp_path / recipe)[1].steps
    assert steps["distill"] < 0.85 * steps["sft"]


@pytest.mark.parametrize("recipe", ["sft", "distill"])
def test_rate_falls_to_zero_as_the_budget_ends(recipe, base, tmp_path):
    from harness.store.runs import RunFolder

    trained(make_run(base, recipe, meter="flops", allowed=4e8), tmp_path)
    rates = [entry["rate"] for entry in RunFolder(tmp_path).log()]
    assert rates[-1] < 0.02 * max(rates) and max(rates) > 0.9e-2


def test_preparation_over_the_budget_is_overdrawn(base, tmp_path):
    from harness.training.loop import Overdrawn

    with pytest.raises(Overdrawn, match="preparation cost"):
        trained(make_run(base, "ewc", meter="flops", allowed=1e7), tmp_path)


def test_zero_budget_returns_the_base(base, tmp_path):
    from harness.models.base_model import weights_hash

    weights, progress = trained(make_run(base, "sft", meter="flops", allowed=0), tmp_path)
    assert weights_hash(weights) == base.hash and progress.steps == 0


def test_ledger_restores_what_it_recorded():
    from collections import Counter

    ledger = Ledger("flops", 100.0)
    with ledger.charge("train", 30.0, Counter(domain=7), torch.device("cpu")):
        pass
    again = Ledger("flops", 100.0)
    again.restore(ledger.record())
    assert again.record() == ledger.record() and again.fraction == pytest.approx(0.3)


def test_work_that_raises_is_charged_too():
    from collections import Counter

    ledger = Ledger("flops", 100.0)
    with pytest.raises(ZeroDivisionError), ledger.charge("train", 30.0, Counter(domain=7), torch.device("cpu")):
        _ = 1 / 0
    assert ledger.spent == 30


def test_seconds_of_a_charge_inside_another_count_once(monkeypatch):
    from collections import Counter

    now = [0.0]
    monkeypatch.setattr("harness.training.ledger.clock", lambda device: now[0])
    ledger = Ledger("seconds", 100.0)
    with ledger.charge("train", 1.0, Counter(), torch.device("cpu")):
        now[0] += 2.0
        for _ in range(2):
            with ledger.charge("teacher", 1.0, Counter(), torch.device("cpu")):
                now[0] += 3.0
        now[0] += 1.0
    assert ledger.accounts["train"].seconds == 3.0 and ledger.accounts["teacher"].seconds == 6.0
    assert ledger.spent == now[0]


def test_seconds_are_asked_before_each_step(base, tmp_path, monkeypatch):
    """At the pace seen so far another step would not fit. By a clock that the machine's load does not move: 0.03 s a step."""
    ticks = itertools.count()
    monkeypatch.setattr("harness.training.ledger.clock", lambda device: 0.01 * next(ticks))
    run = make_run(base, "sft", meter="seconds", allowed=0.6)
    trained(run, tmp_path)
    assert run.ledger.record()["seconds"] == pytest.approx(0.6, abs=0.015)


def test_a_charge_waits_for_the_gpu_at_both_ends(monkeypatch):
    """What is queued before it is not billed, and what it queues is."""
    order = []
    monkeypatch.setattr(torch.cuda, "synchronize", order.append)
    with Ledger("seconds", 1.0).charge("train", 1.0, Counter(), torch.device("cuda:1")):
        order.append("work")
    assert order == [torch.device("cuda:1"), "work", torch.device("cuda:1")]


@pytest.mark.parametrize("recipe", ["lora", "lora(r=4)", "dora", "adapter", "moe", "prefix", "freeze", "expand"])
def test_models_of_one_structure_are_priced_once_and_others_apart(recipe, base):
    plain = structure_of(make_run(base, "lora(r=3)").empty(), True)
    empty = make_run(base, recipe).empty()
    again = structure_of(make_run(base, recipe).empty(), True)
    assert structure_of(empty, True) == again != plain
    assert structure_of(empty, False) != again
    next(p for p in empty.parameters() if p.requires_grad).requires_grad_(False)
    assert structure_of(empty, True) != again  # what rests costs less


def test_settings_that_no_shape_shows_are_priced_apart(base):
    empty = make_run(base, "lora").empty()
    keys = set()
    for top in (1, 2):
        empty.base_model.top_k = top  # so many experts per token, say
        keys.add(structure_of(empty, True))
    assert len(keys) == 2


def test_a_model_with_code_of_its_own_is_never_taken_for_another(base):
    empty = make_run(base, "lora").empty()
    empty.get_output_embeddings().register_forward_hook(lambda *_: None)
    assert structure_of(empty, True) != structure_of(empty, True)


def test_no_method_is_priced_as_another_whatever_was_priced_before(base):
    """All methods at the same rank and scale, so that what their modules are named and shaped alike is told by what they do."""
    measured = {}
    for name, method in sorted(methods().items()):
        low_rank = {"r", "alpha"} <= set(inspect.signature(method).parameters)
        empty = make_run(base, f"{name}(r=4, alpha=16)" if low_rank else name).empty()
        flops = count_flops(empty, Shape(3, 37, 11), backward=True)
        first_flops, first = measured.setdefault(structure_of(empty, True), (flops, name))
        assert flops == first_flops, (name, first)


def test_what_a_module_holds_beside_its_parameters_is_priced_apart(base):
    """A buffer of another shape, an object that computes for the module, and a function made on the spot."""
    empty = make_run(base, "sft").empty()
    layer: Any = empty.model.layers[0]
    keys = {structure_of(empty, True)}
    layer.register_buffer("directions", torch.empty(3, 4, device="meta"))
    keys.add(structure_of(empty, True))
    layer.register_buffer("directions", torch.empty(3, 5, device="meta"))
    keys.add(structure_of(empty, True))
    layer.helpers = {"one": Shape(1, 8, 2)}
    keys.add(structure_of(empty, True))
    layer.helpers = {"one": Shape(1, 8, 3)}
    keys.add(structure_of(empty, True))
    assert structure_of(empty, True) in keys and len(keys) == 5
    layer.helpers = {"one": lambda x: x}
    assert structure_of(empty, True) != structure_of(empty, True)


def spent_on(ledger: Ledger, account: str, flops: float, tokens: int) -> None:
    with ledger.charge(account, flops, Counter({account: tokens}), torch.device("cpu")):
        pass


def test_what_ranks_spent_is_counted_once_by_all_of_them_tokens_included():
    ranks = [Ledger("flops", 100.0) for _ in range(2)]
    for number, ledger in enumerate(ranks, 1):
        spent_on(ledger, "train", 10.0 * number, number)
    for _ in range(2):  # the second time nothing is new
        spent = [ledger.fresh() for ledger in ranks]
        for ledger in ranks:
            ledger.merge(spent)
    for ledger in ranks:
        assert ledger.spent == 30 and ledger.classes == {"train": 3} and ledger.accounts["train"].tokens == 3


def test_what_will_be_done_later_is_charged_at_the_mean_of_what_was_done():
    ledger = Ledger("flops", 100.0)
    for _ in range(2):
        spent_on(ledger, "dev", 10.0, 4)
    ledger.charge_again("dev", 3)
    account = ledger.accounts["dev"]
    assert (account.flops, account.tokens, account.calls, ledger.classes["dev"]) == (50.0, 20, 5, 20)


def test_a_step_is_cut_to_the_most_examples_that_are_paid_for():
    step: Any = tuple(range(16))
    for paid in range(17):
        run: Any = SimpleNamespace(ledger=Ledger("tokens", 10.0 * paid), step_price=lambda part: (0.0, 10 * len(part)))
        assert affordable(run, step) == step[:paid]
