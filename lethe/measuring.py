"""`lethe.measure`: models that others tuned, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from lethe.process import carried_out

if TYPE_CHECKING:
    import pandas as pd

Place = str | PathLike[str]
"""A folder, a hub id, an adapter, or a run of a store."""


def measure(
    base: Place,
    tuned: Place | Sequence[Place] | Mapping[str, Place | Sequence[Place]],
    *,
    plan: Place | None = None,
    quiet: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Measure models that were tuned elsewhere against their base; return the table, one line for each row (pandas).

    Nothing is trained. Scores that the store has are not computed again. Results and report are written to
    `<out>/<name>/`.

    Args:
        base: The untuned model.
        tuned: One model, several, or `{row: model}`; `{row: [a, b]}` are seeds of one recipe, shown as one row.
        plan: A TOML file of options; those given here win over it.
        quiet: Show no progress.
        options: Those of `lethe.compare` that train nothing: data, test, suites, general, limit, rules, answer_format,
            domain_metric, backend, scoring, device, threads, workers, require, name, out ...

    Returns:
        The table of the report: base, control, and each model's retention and gain, with intervals.

    Raises:
        PlanError: What was asked cannot be done; `faults` has a sentence on each reason, with the cure.
        InternalError: Lethe itself failed.
    """
    arguments = {"data": "", **options, "model": base, "measured": _rows(tuned), "recipes": "", "plan": plan, "quiet": quiet}
    return carried_out(arguments)


def _rows(tuned: Place | Sequence[Place] | Mapping[str, Place | Sequence[Place]]) -> list[str]:
    """Return the rows as `lethe measure` takes them."""
    if isinstance(tuned, Mapping):
        return [f"{row}={_joined(places)}" for row, places in tuned.items()]
    if isinstance(tuned, (str, os.PathLike)):
        return [os.fspath(tuned)]
    return [os.fspath(path) for path in tuned]


def _joined(places: Place | Sequence[Place]) -> str:
    if isinstance(places, (str, os.PathLike)):
        return os.fspath(places)
    return ",".join(os.fspath(path) for path in places)
