"""The optimizer of a comparison, the same for every recipe: its name and settings, as a plan writes them. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import PlanError
from harness.recipes.recipe_text import Setting, SettingValues, read_terms, setting_faults
from harness.spelling import did_you_mean

DEFAULT = "adamw"
SHARE = "[0, 1)"
"""What a decay of a moving mean may be."""
OPTIMIZERS: Mapping[str, Mapping[str, Setting]] = {
    "adamw": {
        "beta1": Setting(0.9, (float,), SHARE),
        "beta2": Setting(0.999, (float,), SHARE),
        "eps": Setting(1e-8, (float,), "(0, inf)"),
    },
    "sgd": {"momentum": Setting(0.0, (float,), SHARE)},
    "adafactor": {},
}
"""Name -> settings, with torch's defaults (harness/training/engine.py makes them)."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and every setting of it."""

    name: str
    settings: SettingValues

    @property
    def text(self) -> str:
        """Its one spelling: settings in their order, those at their defaults left out."""
        given = []
        for setting, value in self.settings.items():
            if value != OPTIMIZERS[self.name][setting].default:
                given.append(f"{setting}={value!r}")
        return self.name + (f"({', '.join(given)})" if given else "")

    @property
    def notes(self) -> list[str]:
        """What a report says of it: nothing of the default."""
        if self.text == DEFAULT:
            return []
        return [f"Trained by {self.text}, every recipe alike; the default is {DEFAULT}."]

    @property
    def unsharded(self) -> str:
        """Why it does not work on parts of weights (ZeRO-2, ZeRO-3); empty where it does."""
        if self.name == "adafactor":
            return "it keeps means over the rows and columns of whole matrices"
        return "" if self.name == DEFAULT else f"only {DEFAULT} was tried there"

    def numbers(self, shape: Sequence[int]) -> int:
        """Return how many fp32 numbers it keeps of a trained weight of this shape."""
        size = math.prod(shape)
        if self.name == "adamw":
            return 2 * size
        if self.name == "sgd":
            return size if self.settings["momentum"] else 0
        # Means over the last two axes in place of the squares; vectors keep theirs whole.
        return size // shape[-1] + size // shape[-2] if len(shape) > 1 else size


def read_optimizer(text: str) -> Optimizer:
    """Return the optimizer that `adamw(beta2=0.95)`, `sgd(momentum=0.9)` or `adafactor` names.

    Raises PlanError with all faults.
    """
    names = ", ".join(OPTIMIZERS)
    try:
        terms = read_terms(text)
    except PlanError:
        terms = []
    if len(terms) != 1:
        raise PlanError(f"optimizer '{text}' is not understood: write one of {names}, with settings as adamw(beta2=0.95)")
    ((name, given),) = terms
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, OPTIMIZERS, f"there are {names}")
        raise PlanError(f"there is no optimizer '{name}'; {hint}")

    # The rate is the plan's, so a setting `lr` is unknown here as any other.
    settings = OPTIMIZERS[name]
    valid = {setting: value for setting, value in given.items() if setting in settings}
    listed = f"has {', '.join(settings)}" if settings else "has none"
    faults = [f"optimizer '{text}': {name} has no setting '{key}'; it {listed}" for key in given if key not in settings]
    faults += [f"optimizer {fault}" for fault in setting_faults(text, name, valid, settings)]
    if faults:
        raise PlanError(*faults)
    return Optimizer(name, {setting: valid.get(setting, facts.default) for setting, facts in settings.items()})
