"""What `make claims` compares: recipes on one base and one data set, read back as the numbers claims are about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.bundled import embedded
from harness.commands.compare import compare
from harness.recipes.recipe_text import read_terms
from harness.report.summary.format import rough
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import costs
from harness.stats.analysis import Estimate, estimate_of
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore

RECIPES = """
    sft low_lr sort(order=easy) sort(order=mixed) sort(order=hard)
    nlirg nlirg(shuffled=True) nlirg(variant=article) nlirg(norm=faithful) nlirg(scale=quantile)
    nlirg(token_batch=4) nlirg(token_batch=16)
    lora lora+nlirg adapter ewc l2sp kl distill distill+freeze
    mix mix(ratio=0.3) mix(ratio=0.225) mix(schedule="15->30") replay ewc+replay mix+lora nlirg+replay+lora lora+adapter+ewc+mix
    oft osf pissa milora oplora keeplora ssu ssu(by=random) random_half mofo finch flow stm sdft self_sft
    wise dghard ties dare lines interpolate
    dft asft hft lisa corda lora_null a_gem context_distill
"""


@dataclass(frozen=True)
class World:
    """The comparisons made on one base and one data set."""

    name: str
    epochs: tuple[float, float]
    """Budget of the main comparison, and of plain fine-tuning trained for longer."""
    main: Summary
    long: Summary | None
    clean: Summary | None
    """Without the records planted as wrong, where that is known."""
    stands_for: dict[str, str] = field(default_factory=dict)
    """Recipe as claims name it -> the row that stands for it, where that has settings of its own."""
    read: set[str] = field(default_factory=set)
    """The rows that were read since it was emptied: whose seeds judge a claim."""

    @property
    def seeds(self) -> int:
        """Seeds of the recipes read: the fewest that any has."""
        rows = [row for row in self.main.recipes if row.done and (not self.read or row.name in self.read)]
        return min((len(row.seeds) for row in rows), default=0)

    def has(self, recipe: str) -> bool:
        """Whether a row of this recipe ended well."""
        return any(row.name == self.stands_for.get(recipe, recipe) and row.done for row in self.main.rows)

    def row(self, recipe: str) -> str:
        """The recipe's row. KeyError where this world lacks it."""
        if not self.has(recipe):
            raise KeyError(recipe)
        name = self.stands_for.get(recipe, recipe)
        self.read.add(name)
        return name

    def keeps(self, recipe: str) -> Estimate:
        return self.main.estimate("retention", self.row(recipe))

    def change(self, recipe: str) -> Estimate:
        return self.main.estimate("change", self.row(recipe))

    def over(self, recipe: str, reference: str = "sft", quantity: str = "change") -> Estimate:
        """By how much the recipe is above the reference; for retention in points of the chance-corrected score."""
        return self.main.difference(quantity, self.row(recipe), self.row(reference))

    def avoided(self, recipe: str) -> Estimate:
        """Per cent of plain fine-tuning's loss that the recipe does not have."""
        found = self.main.analysis
        if found is None or not self.change("sft").high < 0:  # what was not lost cannot be avoided
            return Estimate()
        a, b = (found.rows.index(self.row(name)) for name in (recipe, "sft"))
        with np.errstate(divide="ignore", invalid="ignore"):
            point, own, draws = (
                100 * (1 - x[..., a] / x[..., b])
                for x in (found.point["change"], found.by_seed["change"], found.replicates["change"])
            )
        return estimate_of(float(point), own, draws, self.change(recipe).n)

    def cost(self, recipe: str, name: str) -> float:
        return costs(self.main.row(self.row(recipe)))[name]

    def both(self, recipe: str) -> str:
        """Kept and gained, for the reader."""
        name = self.row(recipe)
        gain = rough(self.main.estimate("gain", name), self.main.gain_unit)
        return f"`{recipe}` keeps {rough(self.keeps(recipe), '%')}, gains {gain}"


def apart(one: Estimate, other: Estimate, weight: float = 1.0) -> Estimate:
    """one - weight * other, of comparisons whose draws are not shared: their variances add (a little too wide)."""
    value, se = one.value - weight * other.value, float(np.hypot(one.se, weight * other.se))
    return Estimate(value, value - 1.96 * se, value + 1.96 * se, se, min(one.n, other.n))


FEW = "sft low_lr nlirg nlirg(shuffled=True) lora adapter ewc l2sp kl distill mix mix(ratio=0.3) lora+adapter+ewc+mix"
"""Those of real files, where a run takes minutes."""


def measured(
    name: str, epochs: tuple[int, int], out: Path, recipes: str = RECIPES, with_clean: bool = False, **options
) -> World:
    """Make what the store lacks, and read it back. `options` are the plan's."""

    def made(part: str, recipes: str, count: int, **more) -> Summary:
        folder = f"{name}-{part}-{options.get('seeds', 1)}"
        compare(name=folder, recipes=recipes, out=str(out), budget=f"{count}epochs", final_only=True, **{**options, **more})
        return summarise(read_comparison(out / folder, RunStore(out / "runs")))

    main, long = made("methods", " ".join(recipes.split()), epochs[0]), made("long", "sft", epochs[1])
    clean = made("clean", "sft nlirg", epochs[0], data=str(_without_wrong(out))) if with_clean else None
    return World(name, epochs, main, long, clean)


def published(folder: Path) -> tuple[World, str]:
    """A stored comparison as a world, and what it is.

    A claim's recipe is the row of the same methods with the most seeds; of several, the one at default settings.
    """
    record = read_comparison(folder, RunStore(folder.parent / "runs"))
    summary = summarise(record)
    rows = sorted((row for row in summary.recipes if row.done), key=lambda row: (-len(row.seeds), "(" in row.name))
    stands_for: dict[str, str] = {}
    for row in rows:
        stands_for.setdefault("+".join(name for name, _ in read_terms(row.name)), row.name)
    plan = summary.record["plan"]
    budget = plan["budget"]
    world = World(folder.name, (float(budget.removesuffix("epochs")), 0.0), summary, None, None, stands_for)
    data, model = Path(plan["data"]), Path(plan["model"])
    counts = {len(row.seeds) for row in rows}
    span = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(max(counts))
    seeds = f"{span} seeds a recipe" if max(counts) > 1 else "one seed (intervals over items only)"
    return world, f"{data.parent.parent.name}/{data.name}, model {model.name}, {seeds}, protocol {record.record['protocol']}"


def _without_wrong(out: Path) -> Path:
    """The embedded domain without the answers planted as wrong."""
    data = Path(embedded().data)
    records, truth = (json.loads((data / name).read_text()) for name in ("finance.json", "finance.truth.json"))
    path = out / "finance_clean.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([r for r in records if not truth[r["id"]]["corrupted"]], indent=0))
    return path
