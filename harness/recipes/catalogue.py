"""What methods there are, read off their classes: for `lethe recipes` and for docs/methods.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.contract import Method, Need, overrides
from harness.recipes.recipe import parse_recipe
from harness.recipes.recipe_text import SettingValues, bundled_methods
from harness.recipes.registry import broken_methods, defaults_of, methods
from harness.vocabulary import Track

WIDTH = 150
"""Columns of the listing where the output is no terminal."""
GENERIC = "the laws of every method, which this project's tests run"
"""What is checked of a method of this project that says nothing more."""
UNCHECKED = "nothing here: `lethe recipes --check` runs the laws of every method"
"""What is checked of a method of somebody else's that says nothing."""


@dataclass(frozen=True)
class Entry:
    """One method, at its default settings."""

    name: str
    method: type[Method]
    axes: tuple[str, ...]
    needs: tuple[str, ...]
    settings: SettingValues

    @property
    def track(self) -> Track:
        """The track of what it draws on."""
        return Track.GENERAL if Need.GENERAL_DATA in self.needs else Track.FREE

    @property
    def summary(self) -> str:
        """The first sentence of its file."""
        text = inspect.getdoc(inspect.getmodule(self.method)) or inspect.getdoc(self.method) or ""
        return " ".join(text.split("\n\n")[0].split())

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return re.split(r"@\w+\{", self.method.paper)[0].strip()

    @property
    def bibtex(self) -> list[str]:
        """Its BibTeX entries, a field a line."""
        entries = [balanced(self.method.paper[match.start() :]) for match in re.finditer(r"@\w+\{", self.method.paper)]
        return [re.sub(r",\s+(?=\w+\s*=\s*\{)", ",\n  ", entry)[:-1] + "\n}" for entry in entries]

    @property
    def verified(self) -> str:
        return self.method.verified or (GENERIC if self.name in bundled_methods() else UNCHECKED)


def balanced(text: str) -> str:
    """Return the text up to the brace that closes its first one."""
    # Titles hold braces of their own: an entry ends where as many are closed as were opened.
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter == "}" and depth == 0:
            return text[: index + 1]
    raise ValueError(f"a brace is not closed in: {text}")


def axis_names() -> dict[str, str]:
    """Return hook -> axis: the word in capitals that the hook's docstring begins with."""
    names = {}
    for name, hook in vars(Method).items():
        if named := re.match(r"[A-Z]{3,}", getattr(hook, "__doc__", None) or ""):
            names[name] = named[0]
    return names


def catalogue() -> list[Entry]:
    """Return every method that can be used, by name."""
    entries = []
    for name, method in sorted(methods().items()):
        # At default settings: what a method needs may follow from them.
        made = method()
        axes = tuple(axis for hook, axis in axis_names().items() if overrides(made, hook))
        entries.append(Entry(name, method, axes, tuple(sorted(made.needs)), defaults_of(method)))
    return entries


class Paper(TypedDict):
    """Where a method comes from, as comparison.json has it."""

    source: str
    bibtex: list[str]


def papers(recipes: Iterable[str]) -> dict[str, Paper]:
    """Return method -> paper of every method in these recipes."""
    sources: dict[str, Paper] = {}
    for recipe in map(parse_recipe, recipes):
        for name, made in zip(recipe.names, recipe.named, strict=True):
            entry = Entry(name, type(made), (), (), {})
            sources[name] = {"source": entry.source, "bibtex": entry.bibtex}
    return dict(sorted(sources.items()))


def settings_text(entry: Entry) -> str:
    """Return settings as text: `r=8, alpha=16`."""
    return ", ".join(f"{setting}={default!r}" for setting, default in entry.settings.items())


def show_catalogue(console: Console | None = None) -> None:
    """Return the table of `lethe recipes`."""
    console = console or Console()

    # In a file or a pipe, rich would break the lines at 80 columns.
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    table = Table(
        "method", "axes", "track", "needs", "settings", "source", "verified", box=None, pad_edge=False, show_lines=True
    )
    for entry in catalogue():
        cells = (", ".join(entry.axes).lower(), entry.track, ", ".join(entry.needs), settings_text(entry), entry.source)
        table.add_row(Text(entry.name, style="bold"), *map(Text, (*cells, entry.verified)))
    console.print(table)
    console.print("\nA recipe joins methods by +, with settings in parentheses: lora(r=4, lr=1e-3)+nlirg. Any method takes lr.")
    for fault in broken_methods():
        console.print(Text(f"! {fault}"))
    console.print("A method of your own: path/to/file.py:Class, or an entry point of the group lethe.methods.")
