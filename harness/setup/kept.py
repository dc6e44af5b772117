"""What a comparison that is run again keeps of its earlier rows.

A row that is not asked for this time stays in the report where its run is the very one that would be made now: the same
training question, scored on the same items. Any other is left out, and the report says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import PlanError
from harness.plan.plan import split_recipes
from harness.plan.settings import Settings
from harness.recipes.recipe import parse_recipe
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec, spec_of
from harness.store.runs import RunStore
from harness.store.schema import RowRecord, TrialRecord
from harness.vocabulary import Role, Status


@dataclass(frozen=True)
class Kept:
    """Earlier rows that stay, and notes on those that do not."""

    specs: tuple[RunSpec, ...] = ()
    recipes: tuple[str, ...] = ()
    """Of the recipes that stay, the texts as they were given."""
    trials: tuple[TrialRecord, ...] = ()
    """Of those recipes, the trials that selected their settings."""
    notes: tuple[str, ...] = ()

    def added_to(self, plan: Settings) -> Settings:
        """Return the settings that ask for all rows of the report, so that `lethe reproduce` makes all of them."""
        # The recorded plan asks for all rows of the report.
        seeds = max([plan.seeds, *(spec.seed + 1 for spec in self.specs)])
        return dataclasses.replace(plan, recipes=" ".join([*plan.recipe_texts, *self.recipes]), seeds=seeds)


def answered(spec: RunSpec, store: RunStore, evaluation: EvaluationPlan) -> bool:
    """Return whether the store holds the run and its present evaluations, all as they were written."""
    folder = store.run(spec.key)
    status = folder.status
    if status is None or not status.is_answer:  # another `lethe compare` tries it again
        return False
    if folder.damages(weights=False):
        return False
    # A run that failed for a reason of its own (it diverged, say) is an answer too, and has no
    # scores.
    if status != Status.DONE:
        return True
    keys = evaluation.keys_of(spec)
    return folder.has_models(spec.models) and all(folder.has_scores(kind, keys[kind]) for kind in spec.kinds)


def kept_rows(
    earlier: Mapping[str, Any],
    specs: Sequence[RunSpec],
    material: Material,
    evaluation: EvaluationPlan,
    allowed: float,
    store: RunStore,
) -> Kept:
    """Return the rows of the earlier record, `{}` where there is none, that stay beside `specs`."""
    # Rows that are asked for this time are made anew; the others stay if they still answer the same.
    made = {(spec.row, spec.seed) for spec in specs}
    kept: list[RunSpec] = []
    left_out: list[str] = []
    unasked: list[str] = []
    damaged: list[str] = []
    for entry in _earlier_models(earlier, made):
        # A folder may hold another model by now, so it must be named again.
        if entry["role"] == Role.MEASURED:
            unasked.append(entry["row"])
            continue
        if store.run(entry["key"]).damages(weights=False):
            damaged.append(entry["row"])
            continue
        spec = _spec_now(entry, material, allowed)
        if spec is not None and spec.key == entry["key"] and answered(spec, store, evaluation):
            kept.append(spec)
        else:
            left_out.append(entry["row"])
    rows = {spec.row for spec in kept} - {row for row, _ in made}
    texts = split_recipes((earlier.get("plan") or {}).get("recipes") or "")
    return Kept(
        specs=tuple(kept),
        recipes=tuple(text for text in texts if _row_of(text) in rows),
        trials=tuple(trial for trial in earlier.get("trials") or [] if trial["row"] in rows),
        notes=(
            *_notes(left_out, "trained or scored otherwise than the other rows"),
            *_notes(damaged, "their stored files are damaged"),
            *_notes_on_measured(unasked),
        ),
    )


def _earlier_models(earlier: Mapping[str, Any], made: set[tuple[str, int]]) -> list[RowRecord]:
    """Return the earlier rows that are not `made` now and that a model is behind: the others are made anew."""
    entries: list[RowRecord] = []
    for entry in earlier.get("rows") or []:
        if (entry["row"], entry["seed"]) not in made and Role(entry["role"]).has_model:
            entries.append(entry)
    return entries


def _spec_now(entry: RowRecord, material: Material, allowed: float) -> RunSpec | None:
    """Return the run that would be made for a row now; None where its recipe cannot be read any more."""
    try:
        recipe = parse_recipe(entry["recipe"])
    except PlanError:
        return None
    role = Role(entry["role"])
    amount = allowed if role == Role.RECIPE else 0.0
    return spec_of(material, entry["row"], role, recipe, entry["seed"], amount)


def _row_of(text: str) -> str | None:
    """Return the row of a recipe's text; None where the recipe cannot be read any more."""
    try:
        return parse_recipe(text).row
    except PlanError:
        return None


def _notes_on_measured(rows: Sequence[str]) -> tuple[str, ...]:
    """Return what is said of models tuned elsewhere that are not named again: their folders may hold something else by now."""
    if not rows:
        return ()
    names = ", ".join(dict.fromkeys(rows))
    return (f"Left out, as `measured` does not name them this time: {names}. Their scores are kept: naming them is quick.",)


def _notes(rows: Sequence[str], reason: str) -> tuple[str, ...]:
    """Return what is said of rows that are left out."""
    if not rows:
        return ()
    names = ", ".join(dict.fromkeys(rows))
    return (f"Left out, as {reason}: {names}. They are made again where `recipes` names them.",)
