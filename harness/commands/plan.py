"""`lethe plan`: what would run, and what it would cost, without running it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from harness.commands.compare import named, prepare
from harness.doing import doing
from harness.plan.gpus import MFU, find_gpu
from harness.plan.plan import Plan
from harness.plan.settings import Settings
from harness.recipes.hooks import ask
from harness.recipes.recipe import PLAIN, parse_recipe
from harness.runs.cost import Cost, Costs
from harness.runs.pacing import spoken_time
from harness.runs.timing import as_a_run, clock_of, paces, scored
from harness.runs.tune import planned_points, trial_specs, trials_of
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec, run_specs
from harness.stats.analysis import DISCORDANT, detectable
from harness.store.schema import SuiteRecord
from harness.visible import visible
from harness.workers.ray_cluster import describe

PACE = 4e-15
"""Seconds per FLOP of a GPU that is neither named nor here: a rough guess (a recent one at 250 TFLOP/s)."""


def print_cost(plan: Plan) -> None:
    """Print the table of `lethe plan`: what would run, and what it would cost."""
    material, evaluation, allowed = prepare(plan, keep=True)
    material, note = named(material, plan.name)
    tried = trials_of(material, allowed)
    trials = trial_specs(material, tried)
    points = planned_points(material, allowed, [trial.row for trial in tried])
    specs = [*trials[1:], *run_specs(material, allowed), *points]
    console = Console(markup=False)  # names of files may look like markup
    preparing = clock_of(material.plan)() if material.plan.device == "cpu" else 0.0  # a comparison loads and checks the same
    _print_inputs(console, material)
    _print_suites(console, evaluation.summary)
    costs, timed = costs_of(material, evaluation, specs)
    console.print(_cost_table(specs, costs, timed))
    console.print("GB a device: what this data's micro-batches need; at most: if all were as long as can be and all supervised")
    _print_total(console, material.plan, costs, preparing if timed else None)
    for text in (*([note] if note else []), *material.notes, *evaluation.notes):
        console.print(visible(f"note: {text}", None))


def _print_inputs(console: Console, material: Material) -> None:
    """Print which model is trained, how, and on how many records."""
    settings = material.plan
    dataset = material.dataset
    pool = len(material.training_data.general)
    console.print(visible(f"{settings.name}: {settings.model}, {material.base.parameters:,} parameters"), style="bold")
    console.print(f"trained in {settings.precision} and scored in {settings.scoring} on {settings.device}")
    console.print(_spread(settings))
    console.print(f"records: {len(dataset.train):,} train, {len(dataset.dev):,} dev, {len(dataset.test):,} test")
    console.print(f"general examples: {pool:,}")


def _cost_table(specs: Sequence[RunSpec], costs: Sequence[Cost], timed: bool) -> Table:
    """Return a line for each run: its budget, and what it costs."""
    seconds = "training, s" if timed else "training, device-seconds, rough"
    table = Table(
        "run", "track", "seed", "learning rate", "budget", "FLOPs", seconds, "evaluation, s", "GB a device", "at most"
    )
    for spec, cost in zip(specs, costs, strict=True):
        budget, rate = f"{spec.allowed:.4g} {spec.meter}", f"{peak_rate(spec):.3g}"
        scoring = "not timed" if cost.scoring is None else f"{cost.scoring:.0f}"
        price = (f"{cost.flops:.3g}", f"{cost.seconds:.0f}", scoring, f"{cost.memory / 1e9:.2f}", f"{cost.worst / 1e9:.2f}")
        table.add_row(spec.row, spec.track, str(spec.seed), rate, budget, *price)
    return table


def _print_total(console: Console, settings: Settings, costs: Sequence[Cost], preparing: float | None) -> None:
    """Print how long all runs take: all work over the runs at once, but no less than the longest run.

    `preparing`: seconds that go before the first run; None where runs were not timed.
    """
    total = sum(cost.all_seconds for cost in costs)
    at_once = settings.workers
    if settings.ray:
        cluster, at_once = describe(settings)
        console.print(cluster)
    # Runs at once share the work; together they take as long as the longest at least.
    if preparing is not None:
        runs = max(total / max(1, at_once or 1), max(cost.all_seconds for cost in costs))
        whole = spoken_time(preparing + runs)
        alone = "with nothing else running on it, " if settings.device == "cpu" else ""
        console.print(f"in all about {whole} on this machine, {alone}evaluation included, {at_once} runs at a time")
    else:
        console.print(f"training in all: about {total:,.0f} device-seconds, {at_once} runs at a time; evaluation comes on top")


def costs_of(material: Material, evaluation: EvaluationPlan, specs: list[RunSpec]) -> tuple[list[Cost], bool]:
    """Return the price of each run, and whether training and evaluation were timed: where runs compute on this machine."""
    plan = material.plan
    costs = Costs(material)

    # Where runs compute on this machine they are timed; elsewhere the data sheet has to do.
    timed = not plan.gpu and not plan.ray and plan.backend == "hf" and (plan.device == "cpu" or plan.ranks == 1)
    if not timed:
        pace = 1 / (MFU * find_gpu(plan.gpu).flops) if plan.gpu else PACE
        return [costs.cost_of(spec, pace, None) for spec in specs], False
    with as_a_run(plan):
        pace_of = paces(material, specs)
        scores = scored(evaluation.open(material))
    doing("")
    plain = pace_of[PLAIN.text]
    return [costs.cost_of(spec, pace_of.get(spec.recipe, plain), scores) for spec in specs], True


def peak_rate(spec: RunSpec) -> float:
    """Return the highest learning rate that a run reaches: its recipe's, times what its methods make of it (RATE)."""
    methods = parse_recipe(spec.recipe).methods
    factors = [math.prod(ask(method, "rate", step / 20) for method in methods) for step in range(21)]
    return spec.training.learning_rate * max(factors)


def _print_suites(console: Console, suites: list[SuiteRecord]) -> None:
    """Print the items of each family and the change that so many can show."""
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


def _spread(plan: Settings) -> str:
    """Return how a run is spread and sized, in words."""
    parts = [f"{plan.gpus_per_run:g} x {plan.gpu or plan.device} a run", f"micro-batches of {plan.micro_tokens:,} tokens"]
    parts += ["checkpointing"] if plan.gradient_checkpointing else []
    return ", ".join([*parts, plan.deepspeed or ("data parallel" if plan.ranks > 1 else "one process")])
