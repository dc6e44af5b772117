"""Recipes: `mix(ratio=0.3)+lora(r=16)` read, checked and put in canonical order. Methods are found, never named here.

Built-in methods are the files of `trainers/`; third parties add theirs through the entry-point group `lethe.methods`, and one
that is installed nowhere is named by its file and class: `my/idea.py:Idea(strength=0.5)+lora`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

from harness.contract import CHAINED_PLACES, PLACES, Method, Need, overrides
from harness.errors import PlanError, raise_faults
from harness.recipes.method_faults import need_faults
from harness.recipes.optimizer import DEFAULT, OPTIMIZERS, Optimizer
from harness.recipes.recipe_text import (
    FILE,
    SettingValues,
    rate_faults,
    read_terms,
    setting_faults,
)
from harness.recipes.registry import defaults_of, find_method, settings_of, source_hash
from harness.vocabulary import Track

CHAINED = ("records", "stream", "split", "gradient", "update", "finish")
"""Axes whose order matters: methods that share one keep their written order, all others commute."""
ALONE = {"order": "the order of the examples"}
"""Axes that one method may fill -> what it chooses."""


class MethodQuestion(TypedDict):
    """One method of a recipe, as a run's key has it."""

    name: str
    settings: SettingValues
    source: str
    """Hash of the file that defines it (`source_hash`)."""


@dataclass(frozen=True)
class Recipe:
    """Methods joined by `+`, in canonical order."""

    text: str
    """As written."""
    named: tuple[Method, ...]
    """Every method it names, those that are switched off too."""
    names: tuple[str, ...]
    settings: tuple[SettingValues, ...]
    """Every setting of every method, defaults resolved."""
    learning_rate: float | None
    """Given by `lr=` in the recipe, else None: the plan's rule decides."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that act: all but those at their `off` settings, which are plain fine-tuning."""
        acting = []
        for method, settings in zip(self.named, self.settings, strict=True):
            if not _is_off(method, settings):
                acting.append(method)
        return tuple(acting)

    @property
    def row(self) -> str:
        """Its name in every table: as written, files without their folders."""
        return FILE.sub(lambda file: f"{Path(file[1]).name}:{file[2]}", self.text)

    @property
    def track(self) -> Track:
        """The track of what its methods draw on."""
        return Track.GENERAL if Need.GENERAL_DATA in self.needs else Track.FREE

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(m.needs for m in self.methods))

    @property
    def folds(self) -> bool:
        """Whether what it trains amounts to plain weights of the base's own shape."""
        return all(method.folds or not method.adds for method in self.methods)

    @property
    def needs_whole_weights(self) -> bool:
        """Whether one of its methods cannot be sharded: every process must hold the whole model."""
        return any(method.unsharded for method in self.methods)

    @property
    def packs(self) -> bool:
        """Whether its examples may stand end to end in one row: virtual tokens stand once a row."""
        return all(method.adds != "tokens" for method in self.methods)

    @property
    def question(self) -> list[MethodQuestion]:
        """What names this recipe in a run's key: settings, and the hash of each method's own source."""
        questions: list[MethodQuestion] = []
        for name, settings, method in zip(self.names, self.settings, self.named, strict=True):
            questions.append({"name": name, "settings": settings, "source": source_hash(type(method))})
        return questions

    def __reduce__(self) -> Any:
        return parse_recipe, (self.text,)  # another process need not be able to import a method that came from a file


PLAIN = Recipe("", (), (), (), None)
"""No method at all: plain fine-tuning, in whose price budgets are counted."""


def parse_recipe(text: str) -> Recipe:
    """Read one recipe; the empty text is `PLAIN`. Raises PlanError with all its faults."""
    if not text:
        return PLAIN
    faults: list[str] = []
    built: list[Built] = []
    terms = read_terms(text)
    faults += rate_faults(text, terms)
    rates: list[Any] = [given.pop("lr") for _, given in terms if "lr" in given]
    for name, given in terms:
        try:
            built.append((name.rpartition(":")[2], *_build(text, name, given)))
        except PlanError as error:
            faults += error.faults

    # Faults of single terms first, then of pairs.
    names = [name for name, _, _ in built]
    faults += [f"'{text}': {name} is named twice; keep one" for name in sorted(set(names)) if names.count(name) > 1]
    moved = any(method.folds for _, method, _ in built)
    for first, second in combinations(built, 2):
        conflict = _conflict(first, second, moved)
        if conflict:
            faults.append(f"'{text}': {conflict}; keep one")
    if faults:
        raise PlanError(*faults)
    ordered = _canonical(built)
    parts = [tuple(part) for part in zip(*ordered, strict=True)]
    return Recipe(text, parts[1], parts[0], parts[2], float(rates[0]) if rates else None)


def _is_off(method: Method, settings: SettingValues) -> bool:
    """Return whether these settings, defaults included, switch a method off."""
    # Without `off` settings there are none at which a method is plain fine-tuning.
    return bool(method.off) and all(settings[name] == value for name, value in method.off.items())


def unlike_base(recipe: Recipe) -> str:
    """Return the part of a recipe that makes its model something else than the base before any training.

    Empty where none does.
    """
    parts = []
    for name, settings, method in zip(recipe.names, recipe.settings, recipe.named, strict=True):
        if method.unlike_base:
            defaults = defaults_of(type(method))
            given = ", ".join(f"{key}={value!r}" for key, value in settings.items() if value != defaults[key])
            parts.append(name + (f"({given})" if given else ""))
    return "+".join(parts)


def unsharded(recipe: Recipe, stages: bool) -> str:
    """Return why a recipe cannot run where each process holds but a part of the weights; empty where it can."""
    for name, method in zip(recipe.names, recipe.named, strict=True):
        reason = method.unsharded
        if stages and not reason and overrides(method, "stage_begin") and method.state():
            reason = "what it learned is in parts when it looks at the whole model where a stage begins"
        if reason:
            return f"'{recipe.text}' cannot be sharded by DeepSpeed: {name}: {reason}; leave it out, or leave deepspeed"
    return ""


def unoptimized(recipe: Recipe, optimizer: Optimizer) -> str:
    """Return why a recipe cannot be trained by an optimizer; empty where it can."""
    if optimizer.settings.get("beta1") == OPTIMIZERS[DEFAULT]["beta1"].default:
        return ""
    for name, method in zip(recipe.names, recipe.named, strict=True):
        if method.adamw_only:
            cure = "leave it out, or take the default optimizer"
            return f"'{recipe.text}' cannot be trained by {optimizer.text}: {name}: {method.adamw_only}; {cure}"
    return ""


Built = tuple[str, Method, SettingValues]
"""(name, method, settings)."""


def _conflict(one_built: Built, other_built: Built, moved: bool) -> str:
    """Return why two methods do not go together, naming both; empty where they do.

    `moved`: one of the recipe folds into the base.
    """
    first, first_method, _ = one_built
    second, second_method, _ = other_built
    if first == second:
        return ""  # said already

    # Some axes have room for one method.
    for hook, what in ALONE.items():
        if overrides(first_method, hook) and overrides(second_method, hook):
            return f"{first} and {second} both choose {what}"

    # Two wrappings go together only if neither wraps what the other added.
    if overrides(first_method, "trainable") and overrides(second_method, "trainable"):
        places = (first_method.adds, second_method.adds)
        if places[0] == places[1] or not CHAINED_PLACES.issuperset(places):
            return f"{first} {PLACES[places[0]]} and {second} {PLACES[places[1]]}, which do not go together"
        return ""
    return _wrapping_conflict(one_built, other_built, moved) or _wrapping_conflict(other_built, one_built, moved)


def _wrapping_conflict(wrapping: Built, other: Built, moved: bool) -> str:
    """Return why a method cannot stand beside one that changes the base before training; empty where it can."""
    wrapper, wraps, _ = wrapping
    name, method, _ = other
    if wraps.unlike_base and Need.LINE in method.needs:
        return f"{name} may go back towards the base, and no line leads there from {wrapper}: {wraps.unlike_base}"
    if wraps.adds and not moved and overrides(method, "pull"):
        return f"{name} pulls on the base's weights and {wrapper} leaves them as they are"
    return ""


def _build(text: str, name: str, given: SettingValues) -> tuple[Method, SettingValues]:
    try:
        method = find_method(name)
    except PlanError as error:
        raise PlanError(*(f"'{text}': {fault}" for fault in error.faults)) from None
    settings = settings_of(method)
    faults = setting_faults(text, name, given, settings)
    if faults:
        raise PlanError(*faults)

    # Defaults are written into the question too: a later change of a default is another run.
    chosen = {setting: setting_facts.default for setting, setting_facts in settings.items()} | given
    try:
        made = method(**chosen)
    except ValueError as error:
        raise PlanError(f"'{text}': {error}") from None
    except Exception as error:  # whatever a method's own code raises
        raise PlanError(f"'{text}': {name} cannot be made: {type(error).__name__}: {error}; mend its constructor") from error
    raise_faults([f"'{text}': {name}: {fault}" for fault in need_faults(made.needs)])
    return made, chosen


def _canonical(built: list[Built]) -> list[Built]:
    """Return the one order that all commuting spellings share: smallest name first among those no earlier method must
    precede.
    """
    # Methods that share a chained axis keep their order; all others are sorted, so that spellings agree.
    axes = [{axis for axis in CHAINED if overrides(method, axis)} for _, method, _ in built]
    left = list(range(len(built)))
    order = []
    while left:
        free = [i for i in left if not any(axes[i] & axes[j] for j in left if j < i)]
        chosen = min(free, key=lambda i: built[i][0])
        order.append(built[chosen])
        left.remove(chosen)
    return order
