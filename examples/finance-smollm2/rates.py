"""Print what the trials of rates.toml gained and lost on dev items, and which rate tuning's rule takes for each recipe.

lethe compare --plan examples/finance-smollm2/rates.toml
python examples/finance-smollm2/rates.py results/finance-smollm2-rates
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from harness.plan.tuning_rule import preferred, reference_of
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore

RATE = re.compile(r"lr=([0-9.e-]+),?")


def recipe_of(row: str) -> str:
    """Return a trial's recipe without its learning rate."""
    return re.sub(r"\(\)", "", RATE.sub("", row)).replace(",)", ")")


def table(summary: Summary) -> str:
    """Return one line a trial, the selected ones in bold."""
    rows = [row.name for row in summary.recipes if RATE.search(row.name)]
    gains = [summary.estimate("gain", row).value for row in rows]
    changes = [summary.estimate("change", row).value for row in rows]

    # All trials are judged together: plain fine-tuning's best says what a point gained may cost.
    reference = reference_of(gains, changes, [recipe_of(row) == "sft" for row in rows])
    chosen = set()
    for recipe in dict.fromkeys(recipe_of(row) for row in rows):
        places = [place for place, row in enumerate(rows) if recipe_of(row) == recipe]
        order = preferred([gains[place] for place in places], [changes[place] for place in places], reference)
        chosen.update(places[place] for place in order[:1])

    lines = ["| trial | gain on dev records | change on dev items |", "|---|---:|---:|"]
    for place, row in enumerate(rows):
        name = f"**{row}**" if place in chosen else row
        lines.append(f"| {name} | {gains[place]:.1f} | {changes[place]:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(table(summarise(read_comparison(folder, RunStore(folder.parent / "runs")))))
