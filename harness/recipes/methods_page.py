"""docs/methods.md, from the methods' own docstrings and facts: `make docs`, or `python -m harness.recipes.methods_page`."""

from __future__ import annotations

import inspect
import json
import re
import tomllib

from harness.bundled import ROOT
from harness.contract import Method
from harness.errors import faults_of
from harness.recipes.catalogue import Entry, axis_names, catalogue
from harness.recipes.recipe import ALONE, CHAINED, parse_recipe
from harness.recipes.recipe_text import bundled_methods
from harness.text.bounds import describe_bound

PATH = ROOT / "docs" / "methods.md"
COSTS = ROOT / "harness" / "recipes" / "method_costs.json"
"""Method -> what it costs against plain fine-tuning, as `python -m tests.bench.method_costs` measured it."""
STANDINGS = ROOT / "harness" / "recipes" / "standings.toml"
"""Method -> where it stands in published comparisons, a sentence or two with the source."""
HEAD = """# Methods

Written by `make docs` from the docstrings in `trainers/`; change those, not this. `lethe recipes` prints the same in short.

A recipe joins methods by `+`, with settings in parentheses: `lora(r=4)+nlirg`. `lr=` may stand at any method and sets the
recipe's peak learning rate; without it the rate is plain fine-tuning's (`learning_rate`) times the methods' factors.

## Which one

Costs are at default settings, over plain fine-tuning's (`sft`). *FLOPs*: what the ledger charged for six steps on the
embedded base, per token of the domain; *once*: what is prepared before, in steps of plain fine-tuning (eight short
sequences there; most read a fixed number of sequences, so on real data it weighs less). *Memory*: predicted for a model
of 7 B weights in bf16, eight sequences of 1,024 tokens on one device. *Published*: tables of others, with their own
protocols, which agree with each other only in part (`harness/recipes/standings.toml` says which); what this harness
measured stands in [claims.md](claims.md) and under `results/published`.

"""
COMBINING = """
## How methods combine

Which axes a method fills is read off the hooks it overrides.

| axis | hook | methods that fill it |
|---|---|---|
"""


def plain(text: str) -> str:
    """Return text as Markdown, line breaks kept to paragraphs, nothing outside backticks read as markup."""
    # Line breaks of a docstring are not the page's; paragraphs are.
    joined = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    parts = joined.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*_<>|\[\]\\])", r"\\\1", part) for i, part in enumerate(parts))


def combination(entries: list[Entry]) -> str:
    """Return the table of axes, and the rules."""
    lines = []
    for hook, axis in axis_names().items():
        # The hook's own docstring says how methods combine on it.
        docstring = inspect.getdoc(getattr(Method, hook)) or ""
        how = plain(docstring.split("\n\n")[0].partition(axis)[2].lstrip(",: "))
        names = ", ".join(f"`{entry.name}`" for entry in entries if axis in entry.axes) or "none"
        lines.append(f"| {axis} | `{hook}`: {how} | {names} |")
    alone = " and ".join(f"{what} (`{hook}`)" for hook, what in ALONE.items())
    chained = ", ".join(f"`{hook}`" for hook in CHAINED)
    rules = (
        "\nOf methods that fill `trainable` only two go together, one that adds to the linear layers and one that adds behind"
        f" the feed-forward layers (`lora+adapter`). One method alone may choose {alone}; two are refused by name. Methods that"
        f" share one of {chained} act in the order they are written. All others commute: `ewc+nlirg` and `nlirg+ewc` are one"
        " run. Token weights are multiplied and normalised once; penalties and pulls are summed; rates and shares are"
        " multiplied. Each method draws from a random stream of its own.\n"
    )
    return "\n".join(lines) + "\n" + rules


def section(entry: Entry) -> str:
    """Return one method."""
    method = entry.method
    facts = [f"Axes: {', '.join(entry.axes) or 'none'}", f"track: {entry.track}"]
    facts += [f"needs: {', '.join(entry.needs)}"] if entry.needs else []
    made = method()
    facts += [f"learning rate: {made.lr_scale:g} × plain fine-tuning's"] if made.lr_scale != 1 else []
    facts.append(f"not with DeepSpeed: {plain(method.unsharded)}" if method.unsharded else "sharded by DeepSpeed: yes")
    text = [f"## {entry.name}", plain(entry.summary), plain(inspect.getdoc(method) or ""), "; ".join(facts) + "."]
    if entry.settings:
        text.append(settings_table(entry))
    if method.off is None:
        fresh = f"is not the base's equal: {method.unlike_base}" if method.unlike_base else "gives the base's logits"
        text.append(f"No setting makes it plain fine-tuning. Freshly wrapped the model {plain(fresh)}.")
    text += [f"Checked: {plain(entry.verified.rstrip('.'))}.", f"Source: {plain(entry.source)}"]
    text += [f"```bibtex\n{entry_}\n```" for entry_ in entry.bibtex]
    return "\n\n".join(text) + "\n"


def settings_table(entry: Entry) -> str:
    """Return settings with default, what they may be, searched range, and the value that switches the method off."""
    lines = ["| setting | default | may be | searched | off |", "|---|---|---|---|---|"]
    for setting, default in entry.settings.items():
        low, high = entry.method.search.get(setting, ("", ""))
        searched = f"{low:g} to {high:g}" if isinstance(low, (int, float)) else ""
        off = f"`{entry.method.off[setting]!r}`" if entry.method.off and setting in entry.method.off else ""
        bound = entry.method.bounds.get(setting, "")
        allowed = describe_bound(bound) if bound else ""
        lines.append(f"| `{setting}` | `{default!r}` | {allowed} | {searched} | {off} |")
    return "\n".join(lines)


def table(entries: list[Entry]) -> str:
    """Return the table of all methods: what each needs, costs, goes with, and where it stands."""
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    standings = tomllib.loads(STANDINGS.read_text(encoding="utf-8"))
    lines = [
        "| method | needs | FLOPs | once | memory | with LoRA | with ZeRO | published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        cost = costs.get(entry.name)
        needs = ", ".join(need.replace("_", " ") for need in entry.needs)
        figures = f"{cost['flops']:.2f} | {cost['prepared']:g} | {cost['memory']:.2f}" if cost else "not measured | |"
        goes = f"{_yes(_goes_with_lora(entry.name))} | {_yes(not entry.method.unsharded)}"
        name, standing = entry.name, standings.get(entry.name, "")
        lines.append(f"| [`{name}`](#{name}) | {needs} | {figures} | {goes} | {standing} |")
    return "\n".join(lines) + "\n"


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _goes_with_lora(name: str) -> bool:
    """Return whether `lora+name` is a recipe; LoRA itself is one."""
    return name == "lora" or not faults_of(parse_recipe, f"lora+{name}")


def methods_page() -> str:
    """Return the whole page: the project's own methods."""
    entries = [entry for entry in catalogue() if entry.name in bundled_methods()]
    return HEAD + table(entries) + COMBINING + combination(entries) + "\n" + "\n".join(section(entry) for entry in entries)


if __name__ == "__main__":
    PATH.write_text(methods_page(), encoding="utf-8")
