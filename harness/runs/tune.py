"""Tuning: the same trials for every recipe, each over its own search space, selected on dev items by one rule.

A recipe is its whole curve over settings, so beside the selected one a few others of its dev front are trained under the
reported seeds and scored on test items: its points.

A trial is an ordinary run at the full budget, under a seed of its own, so that no reported run is one that was selected. Its
settings are a point of the scrambled Halton sequence, whose first axis is the learning rate: trial k tries the same multiple of
the default rate in every recipe, and a larger number of trials keeps the earlier ones. What a recipe fixes stays fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.contract import overrides
from harness.plan.tuning_rule import Reference, parse_tuning_rule, preferred, reference_of, spread_over
from harness.recipes.catalogue import axis_names
from harness.recipes.recipe import PLAIN, Recipe, parse_recipe
from harness.recipes.recipe_text import read_terms, with_settings
from harness.recipes.registry import defaults_of, find_method
from harness.setup.material import Material
from harness.setup.specs import RunSpec, rate_of, spec_of
from harness.stats.analysis import analyse
from harness.store.runs import RunStore
from harness.store.schema import TrialRecord, key_of
from harness.vocabulary import EvalKind, Role, Status

RATE = 10.0
"""The learning rate is searched from a tenth of its default to ten times it."""
SEED = 1_000_000
"""The trials' training seed."""


@dataclass(frozen=True)
class Axis:
    """One setting that is searched."""

    method: str
    setting: str
    low: float
    high: float
    whole: bool

    def at(self, share: float) -> float:
        """Return the value at a share of the way from low to high: by logarithm where the range spans a decade, else evenly."""
        # Strengths and rates matter by their order of magnitude, shares by their value.
        if self.low > 0 and self.high >= 10 * self.low:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return round(value) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True)
class Trial:
    """One setting of one recipe, tried."""

    row: str
    values: dict[Axis, float]
    spec: RunSpec


def axes_of(recipe: Recipe, rate: float) -> list[Axis]:
    """Return what of a recipe is searched: its learning rate, then its methods' own ranges, less what the text fixes."""
    # What the recipe's text fixes is what its user wants: it is not searched.
    terms = read_terms(recipe.text)
    axes = []

    # The learning rate is searched for every recipe, so that none is handicapped by its default.
    if recipe.learning_rate is None:
        axes.append(Axis(terms[0][0], "lr", rate / RATE, rate * RATE, False))
    for name, given in terms:
        method = find_method(name)

        # Whole settings stay whole.
        whole = {setting for setting, default in defaults_of(method).items() if type(default) is int}
        ranges = {setting: bounds for setting, bounds in method.search.items() if setting not in given}
        axes += [Axis(name, setting, low, high, setting in whole) for setting, (low, high) in ranges.items()]
    return axes


def points(axes: int, trials: int) -> np.ndarray:
    """Return (trials, axes) points of the unit cube; more axes or more trials only add columns or rows."""
    from scipy.stats import qmc

    # A recipe that fixes everything has nothing to try.
    if not axes:
        return np.empty((0, 0))
    # A quasi-random sequence: it covers the cube evenly, and more trials go on where fewer ended.
    return qmc.Halton(axes, rng=np.random.default_rng(int(key_of("tune"), 16))).random(trials)


def trials_of(material: Material, allowed: float) -> list[Trial]:
    """Return every recipe's trials; none for a recipe that fixes everything."""
    trials = []
    for recipe in material.recipes:
        # The recipe's own rate is the middle of its range.
        axes = axes_of(recipe, rate_of(material, recipe))
        for number, point in enumerate(points(len(axes), material.plan.tune), 1):
            values = {axis: axis.at(share) for axis, share in zip(axes, point, strict=True)}

            # The trial's text names all its settings, so it is a recipe that can be run by itself.
            text = with_settings(recipe.text, {(axis.method, axis.setting): value for axis, value in values.items()})
            name = f"{recipe.row} trial {number}"
            spec = spec_of(material, name, Role.RECIPE, parse_recipe(text), SEED, allowed, (EvalKind.DEV,))
            trials.append(Trial(recipe.row, values, spec))
    return trials


def trial_specs(material: Material, trials: Sequence[Trial]) -> list[RunSpec]:
    """Return what must run before anything is selected: the trials, and the base on dev items."""
    # Nothing is selected, so the base need not be scored on dev items either.
    if not trials:
        return []
    return [base_on_dev(material), *{trial.spec.key: trial.spec for trial in trials}.values()]


def base_on_dev(material: Material) -> RunSpec:
    return spec_of(material, "base", Role.BASE, PLAIN, 0, 0.0, (EvalKind.DEV,))


@dataclass(frozen=True)
class Tuning:
    """What came of all trials."""

    chosen: dict[str, str]
    """Row -> the recipe to run."""
    record: list[TrialRecord]
    """One entry a trial, as comparison.json keeps it."""
    notes: list[str]
    points: tuple[tuple[str, str], ...] = ()
    """(row, recipe) of the settings that are scored on test items beside the selected ones."""


def select(material: Material, trials: Sequence[Trial], store: RunStore, dev_key: str | None) -> Tuning:
    """Apply the plan's rule to the stored dev scores of base and trials, and pick the points of each recipe's curve."""
    if not trials or dev_key is None:
        return Tuning({}, [], [])

    # All trials are judged together, so that one reference holds for all recipes.
    keys = {spec.row: spec.key for spec in (base_on_dev(material), *(trial.spec for trial in trials))}
    analysis = analyse(scores_of(keys, store, dev_key), "base", reps=1)
    rule = parse_tuning_rule(material.plan.tune_rule)
    chosen: dict[str, str] = {}
    record: list[TrialRecord] = []
    notes = [f"Tuned on dev items: of each recipe's trials, {rule.words}."]
    others: list[tuple[str, str]] = []
    # The table's reference is plain fine-tuning's trials: what they learn is what is asked of
    # others.
    names = [trial.spec.row for trial in trials]
    gain, change = ({name: analysis.estimate(quantity, name).value for name in names} for quantity in ("gain", "change"))
    reference = reference_of(list(gain.values()), list(change.values()), [is_plain(trial) for trial in trials], rule)
    for row in dict.fromkeys(trial.row for trial in trials):
        # Each recipe keeps the trial that the rule prefers; without any score it runs untuned.
        of_row = [trial for trial in trials if trial.row == row]
        names = [trial.spec.row for trial in of_row]
        gains, changes = [gain[name] for name in names], [change[name] for name in names]
        best = choose(gains, changes, reference)
        if best is None:
            notes.append(f"{row}: no trial ended with a score, so it ran untuned.")
        else:
            chosen[row] = of_row[best].spec.recipe
            notes += at_edge(row, of_row, best)
            places = spread_over(gains, changes, best, material.plan.tune_points)
            others += [(row, of_row[index].spec.recipe) for index in places[1:]]
            if not gain[names[best]] >= reference.gain:
                notes.append(f"{row}: no trial learned much on dev items ({gain[names[best]]:.1f} points at most).")

        # Every trial is recorded, the rejected too: a reader may apply another rule.
        record += [trial_record(trial, dev_key, index == best) for index, trial in enumerate(of_row)]
    return Tuning(chosen, record, notes, tuple(others))


def trial_record(trial: Trial, dev_key: str, selected: bool) -> TrialRecord:
    """Return a trial as comparison.json keeps it."""
    return TrialRecord(
        row=trial.row,
        trial=trial.spec.row,
        recipe=trial.spec.recipe,
        track=trial.spec.track,
        seed=SEED,
        key=trial.spec.key,
        evals={EvalKind.DEV: dev_key},
        selected=selected,
        plain=is_plain(trial),
    )


def point_specs(material: Material, allowed: float, points: Sequence[tuple[str, str]]) -> list[tuple[str, RunSpec]]:
    """Return the row and the run of each point, with every reported seed; scored on test items at the end, and nothing else."""
    assert material.plan.seeds is not None
    specs = []
    for row, text in points:
        for seed in range(material.plan.seeds):
            spec = spec_of(material, f"{row}: {text}", Role.RECIPE, parse_recipe(text), seed, allowed, (EvalKind.FINAL,))
            specs.append((row, spec))
    return specs


def point_entry(row: str, spec: RunSpec, final_key: str) -> TrialRecord:
    """Return the entry of a point as comparison.json keeps it, among the trials."""
    return TrialRecord(
        row=row,
        trial=spec.row,
        recipe=spec.recipe,
        track=spec.track,
        seed=spec.seed,
        key=spec.key,
        evals={EvalKind.FINAL: final_key},
        selected=False,
    )


def planned_points(material: Material, allowed: float, tuned: Sequence[str]) -> list[RunSpec]:
    """Return the cost of points before their settings are known, as if they had the recipes' defaults."""
    specs = []
    for recipe in material.recipes:
        if recipe.row in tuned:
            for number in range(2, material.plan.tune_points + 1):
                text = f"{recipe.row} point {number}"
                seeds = range(material.plan.seeds or 1)
                specs += [spec_of(material, text, Role.RECIPE, recipe, seed, allowed, (EvalKind.FINAL,)) for seed in seeds]
    return specs


def scores_of(keys: dict[str, str], store: RunStore, dev_key: str) -> pd.DataFrame:
    """Return dev scores by row of the runs that ended well."""
    # A trial that failed has no scores; it simply cannot be selected.
    frames = []
    for row, key in keys.items():
        folder = store.run(key)
        scores = folder.scores(EvalKind.DEV, dev_key) if folder.status == Status.DONE else None
        if scores is not None:
            frames.append(scores.assign(row=row, seed=0))
    return pd.concat(frames, ignore_index=True)


def is_plain(trial: Trial) -> bool:
    """Return whether a trial is of plain fine-tuning: no method of it fills any axis, whatever the learning rate."""
    axes = axis_names()
    methods = parse_recipe(trial.spec.recipe).methods
    return all(not any(overrides(method, hook) for hook in axes) for method in methods)


def choose(gain: Sequence[float], change: Sequence[float], reference: Reference) -> int | None:
    """Return the place of the selected trial, from points of domain and general change against the base; NaN: not known."""
    return next(iter(preferred(gain, change, reference)), None)


def at_edge(row: str, trials: Sequence[Trial], best: int) -> list[str]:
    """Return a note for each axis on which the chosen value is the lowest or highest of those tried."""
    notes = []
    for axis, value in trials[best].values.items():
        # A value at the edge of what was tried says that the range may be too narrow.
        tried = [trial.values[axis] for trial in trials]
        if min(tried) < max(tried) and value in (min(tried), max(tried)):
            side = "lowest" if value == min(tried) else "highest"
            notes.append(
                f"{row}: the selected {axis.setting}={value:g} is the {side} of {len(tried)} tried"
                f" (range {axis.low:g} to {axis.high:g}); the best may lie beyond."
            )
    return notes
