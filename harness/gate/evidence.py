"""Evidence: what a comparison measured, item by item, as one JSON from which a verdict can be drawn anywhere. No torch.

    layout, schema_version, protocol, question {}, where {}, device
    measures  {name: {task, metric, family, group, seen, channel, primary, higher_better, chance, items [], clusters []}}
    rows      {row: {role, track, seeds {seed: {status, reason, exact {}, scores {measure: [score of each item, or null]}}}}}

Scores are rounded to four decimals, the same on both sides of every comparison. `exact`: see harness/gate/exact.py.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, cast

import pandas as pd

from harness.errors import PlanError
from harness.gate.exact import add_relations, asked_of, figures_of
from harness.gate.record import Evidence, ItemScores, Measure, RowEvidence
from harness.stats.above_chance import clusters_of
from harness.stats.measures import HEADLINE_CHANNELS
from harness.store.comparisons import Comparison
from harness.store.files import is_local, read_json, write_atomic
from harness.store.opening import check_file
from harness.store.schema import NAMES, SCHEMA_VERSION, RunEntry
from harness.text.json_reader import Form, misfit
from harness.vocabulary import EvalKind, Role, Status

LAYOUT = 2
"""Of a file of evidence. Files without one are older and lack the exact figures."""
SECONDARY = ("nll", "kl_to_base", "rep3_word", "no_stop")
"""Kept beside the primary scores: held-out loss and drift (nats a token), repetition, answers that never stop (shares)."""
COMPARED = (EvalKind.FINAL, EvalKind.QUALITY)
"""Evaluations of a check whose questions are compared exactly."""
FORM: Form = {
    "question": {},
    "measures": {...: {"task": str, "metric": str, "items": list, "clusters": list}},
    "rows": {...: {"role": str, "track": str, "seeds": {...: {"status": str, "exact": {}, "scores": {}}}}},
}
"""Of a file of evidence, as far as it is read without looking."""
FIXED = ("family", "group", "seen", "channel", "primary", "higher_better")
BOOLEAN = {"seen": "boolean", "primary": "bool", "higher_better": "boolean"}


def evidence_of(comparison: Comparison) -> Evidence:
    """Return the evidence of a finished comparison."""
    record = comparison.record

    scores = _judged_scores(comparison)
    measures = {str(name): _measure(part) for name, part in scores.groupby("name", sort=True)}

    # A row without a model behind it (a constant answer) can neither fail nor regress.
    rows: dict[str, RowEvidence] = {}
    by_run = dict(iter(scores.groupby(["row", "seed"])))
    for run in comparison.runs:
        if not Role(run["role"]).has_model:
            continue
        row = rows.setdefault(run["row"], {"role": run["role"], "track": run["track"], "seeds": {}})
        run_scores = by_run.get((run["row"], run["seed"]), scores.head(0))
        if run["status"] != Status.DONE:
            run_scores = run_scores.head(0)  # scores of a run that did not end are no evidence
        by_measure: dict[str, ItemScores] = {}
        for name, part in run_scores.groupby("name", sort=True):
            by_measure[str(name)] = _listed(part, measures[str(name)]["items"])
        row["seeds"][str(run["seed"])] = {
            "status": run["status"],
            "reason": (run.get("status_record") or {}).get("reason"),
            "exact": figures_of(run, _task_hashes(comparison, run)),
            "scores": by_measure,
        }

    # Which runs equal which others is part of the evidence: a seed that changes nothing must show.
    add_relations(rows)
    return {
        "layout": LAYOUT,
        "schema_version": SCHEMA_VERSION,
        "protocol": record["protocol"],
        "question": record["question"],
        "where": next((run["run"]["where"] for run in comparison.runs if run["run"]), {}),
        "device": record["plan"]["device"],
        "measures": measures,
        "rows": rows,
    }


def _judged_scores(comparison: Comparison) -> pd.DataFrame:
    """Return the scores that are judged, with the name of their measure: a metric of a task."""
    scores = comparison.scores
    headline = scores["primary"].astype(bool) & scores["channel"].isin(HEADLINE_CHANNELS)
    scores = scores[headline | scores["metric"].isin(SECONDARY)].astype(dict.fromkeys(NAMES, "str"))
    return scores.assign(name=scores["task"] + "/" + scores["metric"])


def _task_hashes(comparison: Comparison, run: RunEntry) -> dict[str, str]:
    """Return task -> hash of what the run's evaluations asked it, from the stored texts."""
    hashes: dict[str, str] = {}
    for kind in COMPARED:
        table = comparison.store.run(run["key"]).table(kind, run["evals"][kind], ["task", "item", "prompt", "target"])
        if table is not None:
            hashes |= asked_of(table.to_pandas())
    return hashes


def _measure(part: pd.DataFrame) -> Measure:
    """Return the description of a task's metric, and its items in the order of their names."""
    # By name, so that evidence does not depend on the order in which items were scored.
    first = part.iloc[0]
    items = part.drop_duplicates("item").sort_values("item")
    fixed: dict[str, Any] = {}
    for name in FIXED:
        value = None if pd.isna(first[name]) else first[name]
        fixed[name] = bool(value) if name in BOOLEAN and value is not None else value
    chance = float(items["chance"].fillna(0.0).mean())
    return Measure(
        task=str(first["task"]),
        metric=str(first["metric"]),
        chance=round(chance, 6),
        **fixed,
        items=items["item"].tolist(),
        clusters=clusters_of(items).tolist(),
    )


def _listed(part: pd.DataFrame, items: list[str]) -> ItemScores:
    """Return the scores in the order of `items`, rounded; null where an item has none."""
    # Four digits: scores of items are 0, 1, or shares of few parts.
    by_item = part.drop_duplicates("item").set_index("item")["score"].astype(float)
    scores: ItemScores = []
    for item in items:
        score = round(by_item.get(item, math.nan), 4)
        if math.isnan(score):
            scores.append(None)
        else:
            scores.append(int(score) if float(score).is_integer() else score)  # 0 and 1 take less of the file than 0.0 and 1.0
    return scores


def table_of(evidence: Evidence, prefix: str = "", seeds: int | None = None) -> pd.DataFrame:
    """Return item scores as the statistics read them; `prefix` goes before row names, `seeds`: the first so many only."""
    # As the statistics read a comparison: one line an item, whatever file it came from.
    parts = []
    for row, entry in evidence["rows"].items():
        for seed, run in sorted(entry["seeds"].items(), key=lambda pair: int(pair[0]))[:seeds]:
            for name, scores in run["scores"].items():
                measure = evidence["measures"][name]
                wanted = ("task", "metric", "chance", *FIXED)
                same: dict[str, Any] = {key: value for key, value in measure.items() if key in wanted}
                own = {"item": measure["items"], "cluster": measure["clusters"], "score": pd.array(scores, dtype="Float64")}
                parts.append(pd.DataFrame({**own, "row": prefix + row, "seed": int(seed), **same}))
    if not parts:
        raise PlanError("the evidence holds no scores at all: every run failed, see its `reason`")
    table = pd.concat(parts, ignore_index=True)
    return table.astype(BOOLEAN | {"score": "float64"})


def read_evidence(path: Path) -> Evidence:
    """Return evidence from its file. Raises PlanError where that is none."""
    if is_local(path) and os.path.lexists(path):
        check_file(path, f"evidence '{path}'")
    try:
        evidence = read_json(path)
    except json.JSONDecodeError as error:
        raise PlanError(f"evidence '{path}' is not JSON: {error}") from None
    if evidence is None:
        raise PlanError(f"evidence '{path}' does not exist; `lethe check` without --evidence measures it")
    if not isinstance(evidence, dict):
        raise PlanError(f"evidence '{path}' is no JSON object: it is not what `lethe check` writes")
    missing = [key for key in ("schema_version", "protocol", "question", "measures", "rows") if key not in evidence]
    if missing:
        raise PlanError(f"evidence '{path}' lacks {', '.join(missing)}: it is not what `lethe check` writes")
    # Older layouts lack the exact figures, and would pass what they cannot show.
    layout = evidence.get("layout", 1)
    if layout != LAYOUT or evidence["schema_version"] != SCHEMA_VERSION:
        readable = f"layout {LAYOUT}, schema {SCHEMA_VERSION}"
        text = f"evidence '{path}' has layout {layout}, schema {evidence['schema_version']}, and this version reads {readable}"
        raise PlanError(f"{text}: renew a baseline with `lethe check --accept`, measure other evidence again")
    fault = misfit(evidence, FORM) or _lack(evidence)
    if fault:
        raise PlanError(f"evidence '{path}' is damaged: {fault}; restore it, or measure it again with `lethe check`")
    return cast(Evidence, evidence)


def _lack(evidence: dict[str, Any]) -> str:
    """Return the first row or measure that lacks a field, in words; "" where none does."""
    needed = {"rows": ("role", "seeds"), "measures": ("task", "metric", "items", "clusters")}
    for part, fields in needed.items():
        if not isinstance(evidence[part], dict):
            return f"its {part} are not given by name"
        for name, entry in evidence[part].items():
            for field in fields:
                if not entry or field not in entry:
                    return f"'{str(name)[:40]}' in its {part} lacks '{field}'"
    return ""


def write_evidence(path: Path, evidence: Evidence) -> None:
    write_atomic(path, legible(evidence) + "\n")


def legible(value: Any, depth: int = 0) -> str:
    """Return JSON with sorted keys and a line for each value: what holds no further mapping stands on one line."""
    if isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values()):
        indent = " " * (depth + 1)
        lines = [f"{indent}{json.dumps(key, ensure_ascii=False)}: {legible(value[key], depth + 1)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
