"""What `lethe plan` says of memory on a CPU: models, activations, and the matrix products that are kept compiled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs.cost import KERNEL_BYTES, KERNELS, Costs


@pytest.fixture
def costs(monkeypatch) -> Any:
    """Prices of a comparison whose steps cost 10 FLOPs, on a model of 7 weight shapes."""
    run = SimpleNamespace(step_price=lambda step: (10.0, 100), steps=lambda: iter([()]), batch_size=1)
    run.data = SimpleNamespace(domain=())
    monkeypatch.setattr("harness.runs.cost.planned_run", lambda *_: run)
    made: Any = Costs.__new__(Costs)
    made.material = SimpleNamespace(base=SimpleNamespace(parameters=1000))
    made.cuda, made.process = False, 5e8
    made._sizers = {("sft", None): SimpleNamespace(products=7)}
    made._sizes = lambda run, spec: (SimpleNamespace(bytes=1e8), SimpleNamespace(bytes=2e8))
    return made


def spec(allowed: float, precision: str = "bfloat16", meter: str = "flops") -> Any:
    training = SimpleNamespace(precision=precision, pack_length=None)
    return SimpleNamespace(recipe="sft", role="recipe", tuned=None, training=training, meter=meter, allowed=allowed)


@pytest.mark.parametrize(
    ("asked", "kernels"),
    [
        (spec(20.0), 3 * 7 * 2),
        (spec(2.0, meter="steps"), 3 * 7 * 2),
        (spec(1e9), KERNELS),
        (spec(60.0, meter="seconds"), KERNELS),
    ],
)
def test_a_run_on_a_cpu_keeps_a_compiled_product_for_each_width_weight_and_direction(costs, asked, kernels):
    cost = costs.cost_of(asked, 1.0, None)
    assert cost.memory == pytest.approx(5e8 + 4000 + kernels * KERNEL_BYTES["bfloat16"] + 1e8)
    assert cost.worst == pytest.approx(cost.memory + 1e8)


def test_products_in_fp32_take_less(costs):
    bf16, fp32 = (costs.cost_of(spec(1e9, precision), 1.0, None).memory for precision in ("bfloat16", "float32"))
    assert fp32 < bf16 - 9e8


def test_what_is_not_trained_takes_its_weights_and_the_process(costs):
    assert costs.cost_of(spec(0.0), 1.0, None).memory == costs.cost_of(spec(0.0), 1.0, None).worst == 5e8 + 4000
