"""What others claim of their methods beside what this harness measures: `make claims` writes docs/claims.md.

Two worlds. On the embedded phantom everything comes from the repository alone; `--files plan.toml` adds a comparison on real
files (a plan as for `lethe compare`; its recipes and budget are set here). Runs are kept: another call makes what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.bundled import embedded
from harness.plan.load import make_plan
from harness.report.summary.format import number, points, rough, with_interval
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import markdown, reading_table
from harness.stats.analysis import Estimate
from tests.bench.worlds import FEW, World, apart, measured, published

PAGE = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
EPOCHS = (3, 8)
"""Of the comparison, and of plain fine-tuning trained for longer."""
DEFENCE, RISING = "lora+adapter+ewc+mix", 'mix(schedule="15->30")'
COLUMNS = ("row", "track", "gain", "retention", "rep3 word general", "epochs")
"""How the columns begin that stand on the page."""


@dataclass(frozen=True)
class Claim:
    """Somebody's sentence, the number it comes to, and the bound that makes it true."""

    text: str
    source: str
    quantity: str
    """What the number is, with its unit."""
    bound: float
    """The claim holds where the number is at least this."""
    measure: Callable[[World], Estimate | float | None]
    beside: tuple[str, ...]
    """Recipes whose kept and gained stand beside it."""
    note: str = ""
    seeded: bool = True
    """Whether another seed may give another number; what a method costs does not depend on it."""


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


def _level(world: World, recipe: str) -> Estimate:
    assert world.main.analysis is not None
    base = 100 * float(world.main.analysis.measures.query("headline and group == 'domain'")["base"].mean())
    gain = world.main.estimate("gain", world.row(recipe))
    return Estimate(base + gain.value, base + gain.low, base + gain.high, gain.se, gain.n)


def _less_repetition(world: World) -> Estimate:
    found = world.over("nlirg", quantity="level:rep3_word:general")
    return Estimate(-100 * found.value, -100 * found.high, -100 * found.low, 100 * found.se, found.n)


def _dirt(world: World) -> Estimate | None:
    if world.clean is None:
        return None
    return apart(world.over("nlirg", quantity="gain"), world.clean.difference("gain", "nlirg", "sft"))


def _longer(world: World, quantity: str) -> Estimate:
    """Plain fine-tuning minus the same for longer."""
    if world.long is None:
        raise KeyError("trained for longer")
    return apart(world.main.estimate(quantity, world.row("sft")), world.long.estimate(quantity, "sft"))


def _speed(world: World, recipe: str) -> float:
    return world.cost(recipe, "epochs") / world.cost(recipe, "device seconds")


ARTICLES = "articles about NLIRG; no model, data, baseline or protocol is given"
PRACTICE = "advice in circulation, no protocol given"
CLAIMS = (
    Claim(
        "NLIRG keeps 79.1 % of general ability", ARTICLES, "kept, %", 79.1, lambda w: w.keeps("nlirg"),
        ("nlirg", "nlirg(norm=faithful)", "nlirg(scale=quantile)", "nlirg(variant=article)", "sft"),
    ),
    Claim(
        "NLIRG reaches 89.3 % in the domain", ARTICLES, "domain score, %", 89.3, lambda w: _level(w, "nlirg"),
        (), "The interval is the gain's.",
    ),
    Claim(
        "NLIRG forgets less than plain fine-tuning", ARTICLES, "points of general score above `sft`", 0.0,
        lambda w: w.over("nlirg"), (),
    ),
    Claim(
        "... and that comes from which tokens it weighs", "our negative control: its weights dealt at random",
        "points above `nlirg(shuffled=True)`", 0.0, lambda w: w.over("nlirg", "nlirg(shuffled=True)"),
        ("nlirg(shuffled=True)",),
    ),
    Claim(
        "NLIRG cuts repetition", ARTICLES, "rep-3 on general prompts, hundredths below `sft`", 0.0,
        _less_repetition, (),
    ),
    Claim(
        "NLIRG steadies training", ARTICLES, "loss variance of `sft` over NLIRG's", 1.0,
        lambda w: w.cost("sft", "loss variance") / w.cost("nlirg", "loss variance"), (),
        "Each run's own reported loss after warm-up; NLIRG's is a weighted mean, so that part of the difference is the scale.",
    ),
    Claim(
        "NLIRG gains most on dirty data", ARTICLES, "gain over `sft`, points: with 8 % wrong answers minus without", 0.0,
        _dirt, (),
    ),
    Claim(
        "A smaller token_batch forgets less", ARTICLES, "points, token_batch 4 above 16", 0.0,
        lambda w: w.over("nlirg(token_batch=4)", "nlirg(token_batch=16)"), ("nlirg(token_batch=4)", "nlirg(token_batch=16)"),
        "At one learning rate and equal FLOPs: smaller windows make more updates but see less data.",
    ),
    Claim("LoRA keeps over 95 %", PRACTICE, "kept, %", 95.0, lambda w: w.keeps("lora"), ("lora",)),
    Claim("LoRA halves forgetting", PRACTICE, "loss avoided, %", 50.0, lambda w: w.avoided("lora"), ()),
    Claim(
        "LoRA saves 70 % of the memory", PRACTICE, "peak memory saved, %", 70.0,
        lambda w: 100 * (1 - w.cost("lora", "peak memory bytes") / w.cost("sft", "peak memory bytes")), (),
        "Peak of the whole process on a CPU: for models this small nearly all of it is the interpreter and its libraries.",
        seeded=False,
    ),
    Claim(
        "LoRA is twice as fast", PRACTICE, "epochs a second over plain fine-tuning's", 2.0,
        lambda w: _speed(w, "lora") / _speed(w, "sft"), (), "Seconds of shared CPU cores; in FLOPs the limit is 1.5.",
    ),
    Claim("EWC cuts forgetting by 60 %", PRACTICE, "loss avoided, %", 60.0, lambda w: w.avoided("ewc"), ("ewc", "ewc+replay")),
    Claim(
        "Mixing 15 % keeps 92 of 95", PRACTICE, "kept, %", 100 * 92 / 95, lambda w: w.keeps("mix"),
        ("mix", "mix+lora", "replay", "nlirg+replay+lora"),
    ),
    Claim(
        "Mixing 30 % keeps 92 of 95", PRACTICE, "kept, %", 100 * 92 / 95, lambda w: w.keeps("mix(ratio=0.3)"),
        ("mix(ratio=0.3)",),
    ),
    Claim(
        "A mixing ratio that rises adds 15 %", PRACTICE, "points above the fixed ratio of equal amount", 15.0,
        lambda w: w.over(RISING, "mix(ratio=0.225)"), (RISING, "mix(ratio=0.225)"),
    ),
    Claim(
        "Distillation keeps 3 points more", PRACTICE, "points above `sft`", 3.0, lambda w: w.over("distill"),
        ("distill", "distill+freeze"),
    ),
    Claim("Adapters keep 3 points more", PRACTICE, "points above `sft`", 3.0, lambda w: w.over("adapter"), ("adapter",)),
    Claim(
        "Distillation doubles compute", PRACTICE, "FLOPs an epoch over plain fine-tuning's", 2.0,
        lambda w: w.cost("sft", "epochs") / w.cost("distill", "epochs"), (),
        "Both spend the same FLOPs; a teacher's forward adds a third (8N for 6N).", seeded=False,
    ),
    Claim(
        "The combined defence loses at most 3 points where plain fine-tuning loses 40", PRACTICE, "points of general score",
        -3.0, lambda w: w.change(DEFENCE), (DEFENCE,),
    ),
    Claim(
        "More than 2 to 4 epochs is worse", PRACTICE, "general score above that of training longer, points", 0.0,
        lambda w: _longer(w, "change"), (),
    ),
    Claim(
        "... and gains nothing", PRACTICE, "gain above that of training longer, points", 0.0,
        lambda w: _longer(w, "gain"), (),
    ),
    Claim(
        "Mixed order beats easy to hard", "y-trainer's guide", "gain above easy first, points", 0.0,
        lambda w: w.over("sort(order=mixed)", "sort(order=easy)", "gain"),
        ("sort(order=mixed)", "sort(order=easy)", "sort(order=hard)"),
    ),
    Claim(
        "Regularisers protect less than adapters", PRACTICE, "points, `lora` above the best of `ewc`, `l2sp`, `kl`", 0.0,
        lambda w: w.over("lora", max(("ewc", "l2sp", "kl"), key=lambda name: w.change(name).value)), ("l2sp", "kl"),
        "At their default strengths; the gains differ, and keeping by not learning is no protection.",
    ),
    Claim(
        "Self-distillation on the model's own answers forgets less", "arXiv:2601.19897, at equal steps",
        "points of general score above `sft`, at one budget", 0.0, lambda w: w.over("sdft"), ("sdft", "self_sft"),
        "The teacher must learn from an example in its prompt, which models this small hardly do.",
    ),
    Claim(
        "Rotations keep more than low-rank adapters", "PEFT-Arena, arXiv:2605.28819", "points, `oft` above `lora`", 0.0,
        lambda w: w.over("oft", "lora"), ("oft", "osf", "lora"),
    ),
    Claim(
        "Adapters on the top singular directions forget more", "PEFT-Arena, arXiv:2605.28819",
        "points, `lora` above `pissa`", 0.0, lambda w: w.over("lora", "pissa"), ("pissa", "milora", "oplora", "keeplora"),
    ),
    Claim(
        "Columns that matter for general inputs are worth freezing", "arXiv:2512.04844",
        "points, `ssu` above as many random columns", 0.0, lambda w: w.over("ssu", "ssu(by=random)"),
        ("ssu", "ssu(by=random)", "random_half"),
    ),
    Claim(
        "Easy records weighed up forget less", "arXiv:2502.02797", "points of general score above `sft`", 0.0,
        lambda w: w.over("flow"), ("flow", "stm"),
    ),
    Claim(
        "A rate that falls with the loss avoids 93 % of forgetting", "arXiv:2605.20005", "loss avoided, %", 93.0,
        lambda w: w.avoided("finch"), ("finch", "mofo"),
    ),
    Claim(
        "Noise taken out of the change gives general ability back", "arXiv:2605.20296",
        "points of general score above `sft`", 0.0, lambda w: w.over("dghard"), ("dghard", "ties", "dare", "lines", "wise"),
    ),
)  # fmt: skip


def line_of(claim: Claim, world: World) -> str:
    """What a world says of a claim."""
    found = reading(claim, world)
    said = verdict(claim, found, world.seeds)
    shown = with_interval(found) if isinstance(found, Estimate) else number(found)
    beside = "; ".join(world.both(recipe) for recipe in claim.beside if world.has(recipe))
    return f"- {world.name}: {shown}: {said}." + (f" {beside}." if beside else "")


def with_world(text: str, world: World, heading: str) -> str:
    """The page with the lines of one more world below those of each claim, or with these made anew."""
    parts = text.split("\n## ")
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
        lines = [
            f"## {claim.text}",
            "",
            f"Claimed: {claim.source}. Measured: {claim.quantity}; it holds at {number(claim.bound)}.",
            "",
        ]
        lines += [line_of(claim, world) for world in worlds]
        parts += [*lines, *(["", claim.note] if claim.note else []), ""]
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
