"""`lethe annotate import`: filled forms become means with intervals, agreement, and a column of the comparison's table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import pandas as pd

from harness.commands.annotate.forms import SCALES, JudgedOutput
from harness.errors import PlanError, raise_faults
from harness.store.hashes import read_hashed, write_hashed
from harness.store.opening import read_text
from harness.store.results import open_results
from harness.vocabulary import Role

OVERALL = "overall"
"""The mean of an output's scales."""

Filled = dict[str, dict[str, dict[str, int | None]]]
"""Annotator -> output -> scale -> rating, or None."""


class Form(TypedDict):
    """An exported form, as the file beside its comparison has it."""

    form: str
    scales: list[str]
    outputs: list[JudgedOutput]


class MeanRating(TypedDict):
    """A mean over prompts with its 95 % interval; None where it cannot be told."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Prompts."""


def import_ratings(name: str, files: Sequence[str], out: str = "results") -> dict[str, Any]:
    """Read filled forms and store what they say as results/<name>/people.json. Raises PlanError with all faults."""
    results = open_results(out)
    folder, record = results.folder(name), results.record(name)
    filled, form = _read(folder / "people", files)
    base = next((row["row"] for row in record["rows"] if row["role"] == Role.BASE), "base")
    ratings = _table(filled)
    people = {
        "form": form["form"],
        "annotators": list(filled),
        "agreement": agreement(ratings, list(filled)),
        "rows": judged(ratings, form["outputs"], base),
        "ratings": filled,
    }
    write_hashed(folder / "people.json", people)
    return people


def _table(filled: Filled) -> pd.DataFrame:
    """Return one row a rating; what an annotator left open has none."""
    rows = []
    for annotator, outputs in filled.items():
        for output, scales in outputs.items():
            given = {scale: value for scale, value in scales.items() if value is not None}
            rows += [{"annotator": annotator, "id": output, "scale": scale, "value": given[scale]} for scale in given]
    return pd.DataFrame(rows, columns=["annotator", "id", "scale", "value"])


def _read(folder: Path, files: Sequence[str]) -> tuple[Filled, Form]:
    """Return the ratings of all files, and the form they fill in."""
    faults: list[str] = []
    filled: Filled = {}
    forms: dict[str, Form] = {}
    for file in files:
        try:
            given = json.loads(read_text(Path(file), f"'{file}'"))
            annotator, form = str(given["annotator"]), str(given["form"])
            answers = dict(given["ratings"])
        except PlanError as error:
            faults += error.faults
            continue
        except (ValueError, RecursionError, KeyError, TypeError):
            faults.append(f"{file} is no saved form: give the files that the forms' Save button writes")
            continue

        # The form's name comes from a file that anybody may have written: it names no other folder.
        try:
            key = read_hashed(folder / f"{form}.json", {"form": str, "outputs": list}) if form.isalnum() else None
        except ValueError as error:
            faults.append(f"{folder / form}.json {error}; `lethe annotate export` writes it anew")
            continue
        if key is None:
            faults.append(f"{file} fills in form {form!r}, which this comparison never exported; is it of another one?")
        elif annotator in filled:
            faults.append(f"{file} is annotator {annotator}'s, whose ratings another file has too; keep one of them")
        else:
            forms[form] = cast(Form, key)
            faults += _faults(file, answers, {output["id"] for output in key["outputs"]})
            filled[annotator] = answers
    if len(forms) > 1:
        faults.append(f"the files fill in {len(forms)} different exports; import those of one at a time")
    raise_faults(faults or ([] if forms else ["give at least one saved form"]))
    return filled, next(iter(forms.values()))


def _faults(file: str, answers: Mapping[str, Any], outputs: set[str]) -> list[str]:
    """Return what is wrong with one annotator's ratings."""
    if strange := sorted(set(answers) - outputs):
        return [f"{file} rates {len(strange)} outputs that its form does not have, {strange[0]!r} the first"]
    faults = []
    for output, scales in answers.items():
        known_scales = isinstance(scales, dict) and set(scales) <= set(SCALES)
        if not known_scales or not all(map(_is_rating, scales.values())):
            faults.append(f"{file}: the ratings of {output} are {scales!r}; use whole numbers from 1 to 5, or null")
    return faults


def _is_rating(value: object) -> bool:
    # True is an int to Python, and no rating.
    return value is None or (type(value) is int and 1 <= value <= 5)


def agreement(ratings: pd.DataFrame, annotators: Sequence[str]) -> dict[str, float | None]:
    """Return scale -> Krippendorff's ordinal alpha: 1 perfect, 0 chance; None where fewer than two rated, or all are equal."""
    alphas: dict[str, float | None] = {}
    for scale in SCALES:
        part = ratings[ratings["scale"] == scale].pivot_table(index="annotator", columns="id", values="value")
        alphas[scale] = alpha(part.reindex(list(annotators)).to_numpy(float))
    return alphas


def alpha(table: np.ndarray) -> float | None:
    """Return Krippendorff's alpha of (annotators, outputs) ordinal ratings, NaN where there is none (Krippendorff 2011)."""
    import krippendorff

    # Only outputs that two people rated show whether people agree.
    paired = table[:, (~np.isnan(table)).sum(0) >= 2] if table.size else table
    if not paired.size or len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))


def judged(ratings: pd.DataFrame, outputs: Sequence[JudgedOutput], base: str) -> dict[str, dict[str, Any]]:
    """Return row -> scale -> `MeanRating`, and under `change` the same of its change against the base, prompt by prompt.

    An output's rating is the mean over its annotators. Intervals are Student's t over clusters of prompts (95 %): they tell
    what other prompts would do, not other annotators.
    """
    scales = [*SCALES, OVERALL]
    means = ratings.pivot_table(index="id", columns="scale", values="value").reindex(columns=list(SCALES))
    means[OVERALL] = means.mean(axis=1)

    # Rows that said the same thing share an output, which people saw once.
    lines = []
    for output in outputs:
        shown = {name: output[name] for name in ("id", "item", "cluster")}
        lines += [{"row": row} | shown for row in output["rows"]]
    table = pd.DataFrame(lines).join(means, on="id")
    wide = table.pivot_table(index=["cluster", "item"], columns="row", values=scales, dropna=False)

    judgements: dict[str, dict[str, Any]] = {}
    for row in sorted(set(table["row"])):
        levels = {scale: wide[scale, row] for scale in scales}
        changes = {scale: levels[scale] - wide[scale, base] for scale in scales if (scale, base) in wide}
        judgements[row] = {scale: mean_over_clusters(levels[scale]) for scale in scales}
        judgements[row]["change"] = {scale: mean_over_clusters(change) for scale, change in changes.items()}
    return judgements


def mean_over_clusters(values: pd.Series) -> MeanRating:
    """Return the mean over clusters (first index level) of their means, by Student's t; n prompts."""
    from scipy.special import stdtrit

    rated = values.dropna()
    means = rated.groupby(level=0).mean().to_numpy(float)
    if not len(means):
        return {"value": None, "low": None, "high": None, "n": 0}
    value = float(means.mean())
    n = len(means)
    # One cluster shows no spread, so it has no interval.
    if n < 2:
        return {"value": value, "low": None, "high": None, "n": len(rated)}
    half = float(stdtrit(n - 1, 0.975)) * float(means.std(ddof=1)) / math.sqrt(n)
    return {"value": value, "low": value - half, "high": value + half, "n": len(rated)}
