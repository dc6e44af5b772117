"""From a stored comparison to a summary: its rows, its statistics, its curves."""

from __future__ import annotations

import pandas as pd

from harness.plan.values import STANDARD
from harness.report.summary.curves import read_curves
from harness.report.summary.fronts import read_ways
from harness.report.summary.rows import Row, base_of, constant_of, references_of, rows_of
from harness.report.summary.rule import limits_in
from harness.report.summary.stages import read_stages
from harness.report.summary.summary import Summary, areas_of
from harness.report.summary.trials import is_point, read_trials
from harness.stats.analysis import Analysis, analyse
from harness.stats.tradeoffs import Terms
from harness.store.comparisons import Comparison
from harness.vocabulary import Status


def summarise(comparison: Comparison, reps: int = 10_000) -> Summary:
    """Gather rows and statistics."""
    rows = rows_of(comparison.runs)
    base = base_of(rows)
    final = _without_calibration(comparison.scores)
    curve = _without_calibration(comparison.curve)
    path = _without_calibration(comparison.path)

    analysis = _analysis_of(comparison, rows, final, reps)
    fewer = min(reps, 2000)

    # Every way of reading methods at the same gain.
    allowed_loss = limits_in(comparison.record).loss or STANDARD.loss or 0.0
    terms = Terms(allowed_loss, tuple(references_of(rows)))
    curves = read_curves(final, curve, path, analysis, base, fewer, terms)
    trials, tried = read_trials(comparison.trials, comparison.dev, base, fewer)
    settings = _points(comparison)
    ways = read_ways(rows, analysis, settings, (trials, tried), curves, terms)

    # Rows that no model is behind have no stages.
    trained = [row.name for row in rows if row.role.has_model]
    of_models = final[final["row"].isin(trained)]
    return Summary(
        record=comparison.record,
        rows=rows,
        analysis=analysis,
        curves=curves,
        scores=comparison.scores,
        store=comparison.store,
        trials=trials,
        stages=read_stages(comparison.record, of_models, comparison.stages, base, fewer),
        answers=comparison.quality,
        probed=comparison.probe,
        people=comparison.people or {},
        ways=ways,
        points=settings,
    )


def _analysis_of(
    comparison: Comparison,
    rows: list[Row],
    final: pd.DataFrame,
    reps: int,
) -> Analysis | None:
    """Return the statistics of final scores.

    They include settings that were scored on test items beside the selected ones.
    """
    # Every number is one against the base: where it has no score, there is nothing to analyse.
    base = base_of(rows)
    if not final.loc[final["row"] == base, "score"].notna().any():
        return None
    scores = final
    if len(comparison.points):
        scores = pd.concat([final, _without_calibration(comparison.points)], ignore_index=True)
    areas = areas_of(comparison.record)
    return analyse(scores, base, reps=reps, constant=constant_of(rows), areas=areas)


def _points(comparison: Comparison) -> pd.DataFrame:
    """Return the settings of tuned recipes that were scored on test items: row, recipe, name."""
    lines = []
    for entry in comparison.trials:
        if is_point(entry) and entry["status"] == Status.DONE:
            lines.append({"row": entry["row"], "recipe": entry["recipe"], "name": entry["trial"]})
    return pd.DataFrame(lines, columns=["row", "recipe", "name"]).drop_duplicates(ignore_index=True)


def _without_calibration(table: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that have a mean over items."""
    keep = (table["channel"] != "calibration").to_numpy(bool)
    return table if keep.all() else table[keep].reset_index(drop=True)
