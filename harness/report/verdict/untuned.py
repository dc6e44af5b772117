"""The warning about recipes whose settings no trial chose."""

from __future__ import annotations

import math
from itertools import chain

from harness.errors import PlanError
from harness.plan.settings import default_rate
from harness.recipes.recipe_text import read_terms
from harness.report.summary.rows import dig
from harness.report.summary.summary import Summary
from harness.report.verdict.caution import Caution, first_of


def untuned(summary: Summary) -> list[Caution]:
    """Warn of recipes whose settings no trial chose, and say which of them ran at settings given by hand."""
    tuned: set[str] = set()
    if not summary.trials.empty:
        tuned = set(summary.trials.loc[summary.trials["selected"], "row"])
    rows = [row for row in summary.recipes if row.name not in tuned]
    if not rows:
        return []

    # The rate decides most (a guess), so it is told apart from the other settings that a recipe's text gives.
    rates = []
    settings = []
    defaults = []
    unread = []
    for row in rows:
        names = _settings_given(row.recipe)
        if names is None:
            unread.append(row.name)
        elif "lr" in names:
            rates.append(row.name)
        elif names:
            settings.append(row.name)
        else:
            defaults.append(row.name)
    common = _common_rate(summary)
    if not (tuned or rates or settings or unread or common):
        return [Caution("Untuned: every recipe ran with its default settings, so a poor row may be a poor setting.")]

    parts = {
        "at learning rates given by hand": rates,
        f"at other settings given by hand{common}": settings,
        f"at default settings{common}": defaults,
        "at settings that cannot be read": unread,
    }
    listed = "; ".join(f"{what}: {first_of(names)}" for what, names in parts.items() if names)
    text = f"Untuned, so a poor row may be a poor setting: {listed}."
    # In a comparison that is tuned in part only these rows are meant.
    return [Caution(text, tuple(row.name for row in rows) if tuned else ())]


def _settings_given(recipe: str) -> set[str] | None:
    """Return the names of the settings that a recipe's text gives; None where the text, written elsewhere, is no recipe."""
    try:
        return set(chain.from_iterable(given for _, given in read_terms(recipe)))
    except PlanError:
        return None


def _common_rate(summary: Summary) -> str:
    """Return what follows from a learning rate that the plan gave for all recipes; empty where it is the model's default."""
    rate = dig(summary.record, "plan", "learning_rate")
    parameters = dig(summary.record, "model", "parameters")
    if not rate or not parameters or math.isclose(rate, default_rate(parameters), rel_tol=1e-6):
        return ""
    return f" (plain fine-tuning's rate, {rate:g}, was given by hand too)"
