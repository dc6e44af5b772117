"""`lethe plan`: what would run, and what it would cost, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.compare import prepare
from harness.material import Material, RunSpec, run_specs, training_run
from harness.plan import Plan
from harness.stats import DISCORDANT, detectable
from harness.tune import trial_specs, trials_of

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
    material, evaluation, allowed = prepare(plan)
    trials = trial_specs(material, trials_of(material, allowed))
    specs = [*trials[1:], *run_specs(material, allowed)]
    console, plan, base, dataset = Console(), material.plan, material.base, material.dataset
    pool = len(material.training_data.general)
    console.print(f"[bold]{plan.name}[/]: {plan.model}, {base.parameters:,} parameters, {plan.precision} on {plan.device}")
    console.print(f"records: {len(dataset.train):,} train, {len(dataset.dev):,} dev, {len(dataset.test):,} test")
    console.print(f"general examples: {pool:,}")
    _print_suites(console, evaluation.summary)
    table = Table("run", "track", "seed", "learning rate", "budget", "FLOPs", "device-seconds, rough", "GB, no activations")
    costs = [cost_of(material, spec) for spec in specs]
    for spec, cost in zip(specs, costs, strict=True):
        budget, rate = f"{spec.allowed:.4g} {spec.meter}", f"{spec.training.learning_rate:.3g}"
        price = (f"{cost.flops:.3g}", f"{cost.seconds:.0f}", f"{cost.memory / 1e9:.2f}")
        table.add_row(spec.row, spec.track, str(spec.seed), rate, budget, *price)
    console.print(table)
    total = sum(cost.seconds for cost in costs)
    at_once = plan.workers or "as many as fit"
    console.print(f"training in all: about {total:,.0f} device-seconds, {at_once} runs at a time; evaluation comes on top")
    for note in (*material.notes, *evaluation.notes):
        console.print(f"note: {note}")


def _print_suites(console: Console, suites: list[dict[str, Any]]) -> None:
    """Items of each family and the change that so many can show."""
    table = Table("suite", "family", "items", "detectable change, points")
    for suite in suites:
        for family, items in suite["families"].items():
            table.add_row(suite["name"], family, f"{items:,}", f"{detectable([items]):.1f}")
        if len(suite["families"]) > 1:
            sizes = list(suite["families"].values())
            table.add_row(suite["name"], "their mean", f"{sum(sizes):,}", f"{detectable(sizes):.1f}", style="bold")
    console.print(table)
    console.print(
        f"detectable: with 80 % power at 5 %, where one item in {1 / DISCORDANT:.0f} is answered otherwise than by the base"
    )
