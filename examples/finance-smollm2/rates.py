"""Print what the trials of rates.toml gained and lost on dev items, and which rate tuning's rule takes for each recipe.

Run it after the trials: `lethe compare --plan examples/finance-smollm2/rates.toml`, then
`python examples/finance-smollm2/rates.py results/finance-smollm2-rates`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.plan.tuning_rule import reference_of
from harness.recipes.recipe_text import read_terms
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.runs.tune import choose
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore


def without_rate(row: str) -> str:
    """Return a trial's recipe without its learning rate."""
    terms = [(method, {name: value for name, value in given.items() if name != "lr"}) for method, given in read_terms(row)]
    return str(terms)


def table(summary: Summary) -> str:
    """Return one line a trial, the selected ones in bold."""
    rows = [row.name for row in summary.recipes]
    gains = [summary.estimate("gain", row).value for row in rows]
    changes = [summary.estimate("change", row).value for row in rows]

    # All trials are judged together: plain fine-tuning's best says what a point gained may cost.
    recipes = [without_rate(row) for row in rows]
    reference = reference_of(gains, changes, [recipe == without_rate("sft") for recipe in recipes])
    chosen = set()
    for recipe in dict.fromkeys(recipes):
        places = [place for place, other in enumerate(recipes) if other == recipe]
        best = choose([gains[place] for place in places], [changes[place] for place in places], reference)
        if best is not None:
            chosen.add(places[best])

    lines = ["| trial | gain on dev records | change on dev items |", "|---|---:|---:|"]
    for place, row in enumerate(rows):
        name = f"**{row}**" if place in chosen else row
        lines.append(f"| {name} | {gains[place]:.1f} | {changes[place]:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(table(summarise(read_comparison(folder, RunStore(folder.parent / "runs")))))
