"""What the checkout brings: folders of suites/ with a suite.toml, one of them the embedded default. No torch, no lm-eval."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError

ROOT = Path(__file__).resolve().parents[1]
"""What holds this package, and beside it what comes with it: a checkout, or the folder that a wheel was installed in."""
SUITES = ROOT / "suites"
TRAINERS = ROOT / "trainers"


@dataclass(frozen=True)
class Suite:
    """A bundled suite: a folder with suite.toml."""

    name: str
    folder: Path
    settings: dict[str, Any]
    """suite.toml as read: `name`, `tasks`, and the paths of a default model, pool, dev set and data where it brings them."""

    def path(self, key: str) -> Path | None:
        """Return the file or folder a setting names, or None."""
        return self.folder / self.settings[key] if key in self.settings else None


def find_suites(root: Path = SUITES) -> dict[str, Suite]:
    """Return the bundled suites by name."""
    suites = {}
    for file in sorted(root.glob("*/suite.toml")):
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        suites[settings["name"]] = Suite(settings["name"], file.parent, settings)
    return suites


def for_own_models(root: Path = SUITES) -> list[str]:
    """Return what measures a model of one's own where no suite is named: those whose suite.toml says `own_model = true`."""
    return [name for name, suite in find_suites(root).items() if suite.settings.get("own_model")]


@dataclass(frozen=True)
class Embedded:
    """What the embedded default suite ships: a base model, its general pool, data sets and tasks."""

    folder: Path
    name: str
    model: str
    general: str
    general_dev: str
    data: str
    """Folder of bundled data sets; `<stem>.test.json` beside a set is its test file."""
    budget: str
    """What each run may spend where nothing else is asked."""


def embedded() -> Embedded:
    """Return the suite whose suite.toml says `default = true`."""
    for suite in find_suites().values():
        if suite.settings.get("default"):
            places = {key: str(suite.path(key)) for key in ("model", "general", "general_dev", "data")}
            return Embedded(suite.folder, suite.name, **places, budget=suite.settings["budget"])
    raise PlanError("no suite under suites/ is marked `default = true` in its suite.toml; the checkout is incomplete")
