"""Writes docs/options.md: every option of a comparison, from the plan's fields. Run by `make docs`."""

from __future__ import annotations

import dataclasses
import textwrap

from harness.bundled import ROOT
from harness.plan.check import BOUNDS
from harness.plan.load import PRESETS
from harness.plan.plan import SECTIONS, kind_of
from harness.text.bounds import describe_bound

PATH = ROOT / "docs" / "options.md"
HEAD = """# Options

Written by `make docs` from the fields of `harness/plan/plan.py`; change those, not this.

Every option below has four spellings: a make variable (`BUDGET=600s`), a flag (`--budget 600s`;
words joined by hyphens), a key of a TOML file (`budget = "600s"`) and a keyword of Python's
`lethe.compare(budget="600s")`. `lethe compare --help` prints the same list, and `lethe plan` with
the same options prints what a comparison would run and cost.

`PLAN=plan.toml` (`--plan`) reads a TOML file of options, or a preset for usual hardware:
{presets}. Options given beside it win over it. A default of "–" means that
Lethe decides; the text says how. What can be refused is refused before anything runs, all faults at
once.
"""
NOTES = {
    "Data": "Records of every form, field by field: [formats.md](formats.md). `a.json,b.json` trains on the first "
    "file, then on the second ([stages](guides.md#stages)); `TEST=a.jsonl+b.jsonl` gives one domain several tests.",
    "Training": "Methods and their settings: [methods.md](methods.md). A setting stands in parentheses, and so "
    "does one recipe's own learning rate: `sft(lr=2e-6) lora(r=4) mix(ratio=0.3)+lora`. Recipes that need general data "
    "are left out, and named, if there is none.",
    "Evaluation": "Suites of your own, rules and every type of item: [suites.md](suites.md).",
    "Devices": "GPUs: [gpu.md](gpu.md). Several machines: [cluster.md](cluster.md). `gpus_per_run`, `deepspeed` and "
    "`gpu`: [one run on several devices](architecture.md#one-run-on-several-devices). DeepSpeed is installed by "
    "`pip install 'lethe[deepspeed]'`.",
    "Report": "`report_to` needs the tracker's own client: `pip install 'lethe[wandb]'` (or mlflow, trackio). "
    "`require` may hold any of these limits; without it the rule asks for a loss of at most 5 points (a "
    "guess). The page has fields for them too, which only leave rows out.",
}
"""What stands above a section's table."""


def options_page() -> str:
    """Return the whole page."""
    presets = ", ".join(f"`{path.stem}`" for path in sorted(PRESETS.glob("*.toml")))
    page = HEAD.format(presets=presets)
    for title, section in SECTIONS.items():
        page += _opening(title)
        for field in dataclasses.fields(section):
            page += _row(field)
    return page


def _opening(title: str) -> str:
    """Return a section's title, what stands above its table, and the table's head."""
    text = f"\n## {title}\n\n"
    if title in NOTES:
        text += textwrap.fill(NOTES[title], width=100, break_long_words=False, break_on_hyphens=False) + "\n\n"
    return text + "| option | default | may be | meaning |\n|---|---|---|---|\n"


def _row(field: dataclasses.Field) -> str:
    """Return an option's line of its section's table."""
    default = "–" if field.default is None else f"`{field.default}`"
    if isinstance(field.default, bool):
        default = f"`{str(field.default).lower()}`"
    allowed = describe_bound(BOUNDS[field.name]) if field.name in BOUNDS else _kind(field)
    text = field.metadata["help"].replace("|", r"\|").replace("<", r"\<")
    return f"| `{field.name.upper()}` | {default} | {allowed} | {text} |\n"


def _kind(field: dataclasses.Field) -> str:
    """Return the kind of value that an option without a bound takes."""
    return {str: "text", bool: "`true`, `false`", int: "whole number", float: "number"}[kind_of(field.name)]


if __name__ == "__main__":
    PATH.write_text(options_page(), encoding="utf-8")
