"""What others claim of their methods beside what this harness measures: `make claims` writes docs/claims.md.

Two worlds. On the embedded phantom everything comes from the repository alone; `--files plan.toml` adds a comparison on real
files (a plan as for `lethe compare`; its recipes and budget are set here). Runs are kept: another call makes what is missing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.bundled import embedded
from harness.plan.load import make_plan
from harness.report.summary.format import number, points, rough, with_interval
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import markdown, reading_table
from harness.stats.analysis import Estimate
from tests.bench.claimed import CLAIMS, Claim
from tests.bench.worlds import FEW, World, measured, published

PAGE = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
EPOCHS = (3, 8)
"""Of the comparison, and of plain fine-tuning trained for longer."""
UNMEASURED = "—: not measured."
COLUMNS = ("row", "track", "gain", "retention", "rep3 word general", "epochs")
"""How the columns begin that stand on the page."""


def reading(claim: Claim, world: World) -> Estimate | float | None:
    """The claim's number in this world; None where a recipe it needs was not run there. `world.read` holds what was read."""
    world.read.clear()
    try:
        return claim.measure(world)
    except KeyError:
        return None


def verdict(claim: Claim, found: Estimate | float | None, seeds: int) -> str:
    """Holds, fails or open: by the interval where there is one, else by the number. One seed judges no claim about a method."""
    if found is None or not np.isfinite(found.value if isinstance(found, Estimate) else found):
        return "not measured"
    if claim.seeded and seeds < 2:
        return "**one seed: not judged**"
    low, high = (found.low, found.high) if isinstance(found, Estimate) else (found, found)
    if isinstance(found, Estimate) and low == high == claim.bound:
        return "**open**: no difference at all"
    return "**holds**" if low >= claim.bound else "**does not hold**" if high < claim.bound else "**open**"


def line_of(claim: Claim, world: World) -> str:
    """What a world says of a claim."""
    found = reading(claim, world)
    said = verdict(claim, found, world.seeds)
    shown = with_interval(found) if isinstance(found, Estimate) else number(found)
    beside = "; ".join(world.both(recipe) for recipe in claim.beside if world.has(recipe))
    return f"- {world.name}: {shown}: {said}." + (f" {beside}." if beside else "")


def section(claim: Claim, lines: Sequence[str]) -> str:
    """What the page says of a claim, less the marks of its heading; `lines`: one a world."""
    claimed = f"Claimed: {claim.source}. Measured: {claim.quantity}; it holds at {number(claim.bound)}."
    return "\n".join([claim.text, "", claimed, "", *lines, *(["", claim.note] if claim.note else []), ""])


def with_world(text: str, world: World, heading: str) -> str:
    """The page with the lines of one more world below those of each claim, or with these made anew.

    A claim that is new gets a section, in which the worlds of the page are not measured.
    """
    parts = text.split("\n## ")
    worlds = re.findall(r"^- \*\*(.+?)\*\*:", parts[0], re.MULTILINE)
    rows = [place for place, part in enumerate(parts) if part.startswith("All rows: ")]
    known = {part.splitlines()[0] for part in parts}
    new = [section(claim, [f"- {name}: {UNMEASURED}" for name in worlds]) for claim in CLAIMS if claim.text not in known]
    end = rows[0] if rows else len(parts)
    parts[end:end] = [part.rstrip() + "\n" for part in new]
    lines = {"# Claims, measured": f"- **{world.name}**: {heading}"}
    lines |= {claim.text: line_of(claim, world) for claim in CLAIMS}
    for place, part in enumerate(parts):
        line = lines.get(part.splitlines()[0])
        if line is not None:
            parts[place] = _with_line(part, line, world.name)
    rows = [part for part in parts if part.startswith("All rows: ")]
    if own := [part for part in rows if part.startswith(f"All rows: {world.name}")]:
        parts.remove(own[0])
    return "\n## ".join([*(part.rstrip() + "\n" for part in parts), _rows(world)])


def _with_line(part: str, line: str, name: str) -> str:
    """A section with a world's line as the last of its list, in place of an earlier one."""
    lines = [one for one in part.splitlines() if not one.startswith((f"- {name}:", f"- **{name}**:"))]
    last = max(place for place, one in enumerate(lines) if one.startswith("- "))
    return "\n".join([*lines[: last + 1], line, *lines[last + 1 :]]) + "\n"


def _rows(world: World) -> str:
    table = reading_table(world.main)
    columns = [column for column in table if str(column).startswith(COLUMNS)]
    text = f"All rows: {world.name}\n\n{markdown(table[columns])}\nA budget of {number(world.epochs[0])} epochs"
    return text + (f"; over {number(world.epochs[1])} plain fine-tuning {_line(world.long)}.\n" if world.long else ".\n")


def page(worlds: list[World], headings: dict[str, str]) -> str:
    """claims.md."""
    parts = [INTRODUCTION, *(f"- **{w.name}**: {headings[w.name]}" for w in worlds), ""]
    for claim in CLAIMS:
        parts.append("## " + section(claim, [line_of(claim, world) for world in worlds]))
    for world in worlds:
        parts.append(f"## {_rows(world)}".rstrip())
        if world.clean:
            parts.append(f"Without the wrong answers it {_line(world.clean)}, and NLIRG {_line(world.clean, 'nlirg')}.")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _line(summary: Summary, row: str = "sft") -> str:
    gain, kept = summary.estimate("gain", row), summary.estimate("retention", row)
    return f"gains {rough(gain, summary.gain_unit)}, keeps {points(kept.value)} % [{points(kept.low)}, {points(kept.high)}]"


INTRODUCTION = """\
# Claims, measured

Generated by `make claims`. What is said of these methods, beside what this harness measures at one budget of FLOPs, with
default settings, untuned but for the learning rates of finance-smollm2. A claim *holds* where the whole 95 % interval is on
its side, *does not hold* where none of it is, else it is *open*. One seed says nothing about another training: where there is
one no claim about a method is judged,
and the interval is over items only. These are small models: what fails here may hold on a large one, and the other way
round. A method that learns little forgets little: read what is kept beside what is gained.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.claims", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/claims"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a recipe")
    parser.add_argument("--files", help="a plan file for a comparison on real files")
    parser.add_argument("--published", type=Path, help="run nothing, and add this stored comparison to the page")
    args = parser.parse_args()
    if args.published:
        world, heading = published(args.published)
        PAGE.write_text(with_world(PAGE.read_text(encoding="utf-8"), world, heading), encoding="utf-8")
        return
    worlds = [measured("phantom", EPOCHS, args.out, with_clean=True, seeds=args.seeds)]
    seeds = f"{args.seeds} seeds" if args.seeds > 1 else "one seed (intervals over items only)"
    headings = {"phantom": f"the embedded {embedded().name} base and its finance data, {seeds}"}
    if args.files:
        plan = make_plan({}, args.files)
        worlds.append(measured("files", EPOCHS, args.out, FEW, seeds=args.seeds, plan_file=args.files))
        headings["files"] = f"{Path(plan.data).name}, model {Path(str(plan.model)).name}, {seeds}"
    PAGE.write_text(page(worlds, headings), encoding="utf-8")


if __name__ == "__main__":
    main()
