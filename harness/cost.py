"""`lethe plan`: what would run, and what it would cost, without running it."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from harness.compare import prepare
from harness.material import Material, RunSpec, training_run
from harness.plan import Plan

PACE = {"cpu": 5e-12, "cuda": 4e-15}
"""Seconds a FLOP: rough guesses (a CPU core at 200 GFLOP/s; a recent GPU at 250 TFLOP/s), replaced by a run's own measure."""


@dataclass(frozen=True)
class Cost:
    """One run's price."""

    flops: float
    seconds: float
    memory: float
    """Bytes: weights, gradients, masters, moments and copies of the base; activations are not in it."""


def cost_of(material: Material, spec: RunSpec) -> Cost:
    """Price a run: its budget in FLOPs, device-seconds at a rough pace, memory of everything that has the weights' size."""
    if spec.role == "base":
        return Cost(0.0, 0.0, 4.0 * material.base.parameters)
    run = training_run(material, spec)
    pace = PACE["cuda" if (material.plan.device or "").startswith("cuda") else "cpu"]
    if spec.meter == "flops":
        flops = spec.allowed
    elif spec.meter == "seconds":
        flops = spec.allowed / pace
    else:
        step = next(run.steps())
        price, tokens = run.step_price(step)
        flops = price * spec.allowed / (1 if spec.meter == "steps" else tokens)
    trained = run.trained_parameters
    width = 2 if spec.training.precision == "bfloat16" else 4
    copies = 1 + ("base_logits" in set().union(*(m.needs for m in run.methods)) and trained == material.base.parameters)
    start = 4 * material.base.parameters
    return Cost(flops, flops * pace, start + copies * width * material.base.parameters + trained * (width + 4 + 4 + 8))


def print_cost(plan: Plan) -> None:
    """The table of `lethe plan`."""
    material, evaluation, specs = prepare(plan)
    console = Console()
    resolved = material.plan
    dataset = material.dataset
    console.print(f"[bold]{resolved.name}[/]: {resolved.model} ({material.base.parameters:,} parameters, {resolved.precision} on {resolved.device})")
    console.print(f"data: {len(dataset.train):,} train, {len(dataset.dev):,} dev, {len(dataset.test):,} test records; {len(material.training_data.general):,} general examples")
    console.print(f"suites: {', '.join(str(s['name']) + ' (' + format(s['items'], ',') + ' items)' for s in evaluation.summary)}")
    table = Table("run", "track", "seed", "learning rate", "budget", "FLOPs", "device-seconds, rough", "memory, GB without activations")
    total = 0.0
    for spec in specs:
        cost = cost_of(material, spec)
        total += cost.seconds
        amount = f"{spec.allowed:.4g} {spec.meter}"
        table.add_row(spec.row, spec.track, str(spec.seed), f"{spec.training.learning_rate:.3g}", amount, f"{cost.flops:.3g}", f"{cost.seconds:.0f}", f"{cost.memory / 1e9:.2f}")
    console.print(table)
    console.print(f"training in all: about {total:,.0f} device-seconds, {resolved.workers} runs at a time; evaluation comes on top")
    for note in (*material.notes, *evaluation.notes):
        console.print(f"note: {note}")
