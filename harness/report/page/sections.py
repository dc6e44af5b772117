"""The sections of report.html, in their order. A new one is a line in `SECTIONS` and a template beside this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.plan.tuning_rule import parse_tuning_rule
from harness.report.page import judged, measured
from harness.report.page.explorer import explorer, read_flips
from harness.report.page.headlines import explanations, headlines
from harness.report.summary.contrasts import contrasts, hypervolume, standings_of
from harness.report.summary.recommend import advise, choices, limits_of
from harness.report.summary.rows import Row, share_names
from harness.report.summary.rule import rule_sentence
from harness.report.summary.stages import STAGES, stage_table
from harness.report.summary.summary import Summary
from harness.report.summary.trials import by_trials
from harness.report.tables.artefact import artefacts, reference_of
from harness.report.tables.change_grid import change_grid
from harness.report.tables.dev_and_test import promised
from harness.report.tables.main_table import costs, domain_gains, matched_head, memory, quality, tuning
from harness.report.verdict.cautions import warnings
from harness.report.verdict.meters import NAMES, other_meter
from harness.report.verdict.verdict import verdict_of
from harness.stats.analysis import MARGIN, Estimate
from harness.stats.frontier import Plane
from harness.stats.quantity_name import Measured, Scope, name_of
from harness.vocabulary import Track

Values = dict[str, Any]
METRIC_HEADS = {"rep3_word": "rep-3", "rep3_char": "rep-3 of characters", "rep3": "rep-3 of tokens",
                "kl_to_base": "KL to base", "no_stop": "no stop"}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One part of the page: a heading in the list of sections, and what stands under it."""

    id: str
    """Its anchor; its template is `sections/<id>.html.j2`, which may import `macros.html.j2`."""
    title: str
    values: Callable[[Summary], Values | None] = lambda summary: {}
    """What its template needs beside what all have (`page.py`); None: the comparison has nothing of the kind, no section."""


def _verdict(summary: Summary) -> Values:
    verdict = verdict_of(summary)
    return {
        "verdict": verdict,
        "headlines": headlines(summary, verdict),
        "warnings": warnings(summary),
        "notes": _notes(summary),
    }


def _matched(summary: Summary) -> Values | None:
    way = summary.matched
    if not way.name:
        return None
    others = [other for other in summary.ways if other is not way and len(other.matched.reached) > 1]
    recipes = [row.name for row in summary.recipes]
    reference = next(iter(summary.references), None)
    return {
        "way": way,
        "others": others,
        "entries": way.entries(recipes),
        "reference": reference,
        "reference_label": way.labels(recipes).get(reference or "", reference),
    }


def _table(summary: Summary) -> Values:
    return {
        "matched_head": matched_head(summary),
        "tuning": {row.name: tuning(summary, row) for row in summary.rows},
        "costs": {row.name: costs(row) for row in summary.rows},
        "chosen": summary.computed(advise).shares,
        "split": bool(summary.analysis and name_of(Measured.GAIN, Scope.KNOWLEDGE) in summary.analysis.point),
        "domains": summary.stages.domains if summary.stages else [],
        "domain_gains": {row.name: domain_gains(summary, row) for row in summary.rows},
        "none_known": Estimate(),
        "explained": explanations(summary),
    }


def _recommendation(summary: Summary) -> Values | None:
    limits, recommended = limits_of(summary), choices(summary)
    has_limits = bool((summary.record.get("plan") or {}).get("require"))
    if not recommended:
        return None
    one_seed = summary.computed(advise).one_seed
    return {"limits": limits, "asked": has_limits, "rule": rule_sentence(limits), "choices": recommended, "one_seed": one_seed}


def _comparisons(summary: Summary) -> Values | None:
    if summary.analysis is None:
        return None
    standings = summary.computed(standings_of)
    against_references = summary.computed(contrasts)
    # One recipe alone has nobody to be compared with.
    if not (standings or len(against_references)):
        return None
    volumes = [(track, hypervolume(summary, track)) for track in Track if track.is_ranked]
    return {
        "standings": standings,
        "contrasts": against_references.to_dict("records"),
        "volumes": [(track, volume) for track, volume in volumes if volume.known],
        "floor": Plane(summary.analysis, []).floor,
    }


def _forgotten(summary: Summary) -> Values:
    flips = read_flips(summary)
    return {"flips": flips, "explorer": explorer(flips)}


def _stages(summary: Summary) -> Values | None:
    return {"stages": stage_table(summary.stages), "staged": STAGES} if summary.stages else None


def _trials(summary: Summary) -> Values | None:
    if summary.trials.empty:
        return None
    rule = parse_tuning_rule((summary.record.get("plan") or {}).get("tune_rule"))

    # What tuning cost beside the runs that are reported.
    spent = summary.trials[["flops", "seconds"]].sum()
    reported = [row.cost("ledger", "flops") * len(row.seeds) for row in summary.recipes if row.done]
    return {
        "trials": summary.trials.to_dict("records"),
        "by_trials": by_trials(summary.trials, rule),
        "rule": rule.words,
        "each": sorted(set(summary.trials.groupby("row").size())),
        "spent": spent.to_dict(),
        "beside": spent["flops"] / sum(reported) if sum(reported) else None,
        "promised": promised(summary),
    }


def _quality(summary: Summary) -> Values:
    by_row = {row.name: quality(summary, row.name) for row in summary.rows}
    names = dict.fromkeys(chain.from_iterable(by_row.values()))
    return {"quality": by_row, "qualities": {name: _head(name) for name in names}}


def _head(quality_name: str) -> str:
    """Return `rep3_word general share` as the head of a column: `rep-3, general: of answers`."""
    metric, _, group = quality_name.partition(" ")
    share = group.endswith(" share")
    return f"{METRIC_HEADS.get(metric, metric)}, {group.removesuffix(' share')}" + (": of answers" if share else "")


def _people(summary: Summary) -> Values | None:
    return {"scales": summary.scales, "agreement": summary.people["agreement"]} if summary.scales else None


def _cost(summary: Summary) -> Values:
    return {
        "costs": {row.name: costs(row) for row in summary.rows},
        "memory": {row.name: memory(row) for row in summary.rows},
        "classes": sorted(share_names(summary.rows, "ledger", "tokens")),
        "meter": other_meter(summary),
        "meter_names": NAMES,
    }


def _provenance(summary: Summary) -> Values:
    return {"margin": MARGIN, "where": _where(summary.rows)}


def _families(summary: Summary) -> Values:
    return _heat(summary) | {"artefacts": artefacts(summary), "artefact_reference": reference_of(summary)}


def _heat(summary: Summary) -> Values:
    """Return rows and coloured cells of the heat map as a table: shade in percent, sign by colour and in the number."""
    grid = change_grid(summary)
    if grid.empty:
        return {"heat": {"columns": [], "lines": []}}

    # At least five points for the deepest shade, so that noise does not look like a loss.
    top = max(5.0, float(grid.abs().max().max()))
    lines = []
    for (kind, name), line in grid.T.items():  # type: ignore[misc]
        shades = (70 * line.abs() / top).fillna(0).round().astype(int)
        cells = [
            {"estimate": summary.estimate(name_of(Measured.CHANGE, Scope(kind), name), row), "shade": shades[row]}
            for row in line.index
        ]
        area = next((area for area, families in summary.areas.items() if kind == "family" and name in families), None)
        lines.append({"kind": kind, "name": name, "cells": cells, "area": area})
    # families of a column group stand together, in the order they had; channels last
    groups = [*summary.areas, None]
    lines.sort(key=lambda line: (line["kind"] == "channel", groups.index(line["area"])))
    return {"heat": {"columns": list(grid.columns), "lines": lines}}


def _notes(summary: Summary) -> list[str]:
    """Return the notes of the comparison, of its data and of its runs, each once."""
    data = summary.record.get("data") or {}
    notes = [*(summary.record.get("notes") or []), *(data.get("notes") or [])]
    for row in summary.rows:
        for run in row.finished:
            happened = (run.get("run") or {}).get("happened") or {}
            notes += [f"{row.name}: {note}" for note in happened.get("notes") or []]
    return list(dict.fromkeys(str(note) for note in notes))


def _where(rows: list[Row]) -> list[Values]:
    """Return the distinct machines and versions the runs were made with."""
    places: list[Values] = []
    for row in rows:
        for run in row.finished:
            where = (run.get("run") or {}).get("where")
            if where and where not in places:
                places.append(where)
    return places


SECTIONS = (
    Section("verdict", "Verdict", _verdict),
    Section("matched", "Kept at the same gain", _matched),
    Section("table", "Table", _table),
    Section("tradeoff", "Gain and retention"),
    Section("recommendation", "The rule, and other limits", _recommendation),
    Section("comparisons", "Comparisons", _comparisons),
    Section("stages", "Stages", _stages),
    Section("tuning", "Tuning", _trials),
    Section("families", "Families and channels", _families),
    Section("curves", "Learning and forgetting"),
    Section("training", "What was trained on"),
    Section("quality", "Output quality", _quality),
    Section("answers", "Free answers", measured.answers),
    Section("rules", "Rules", judged.rules),
    Section("classes", "Classifications", judged.classes),
    Section("people", "People", _people),
    Section("calibration", "Calibration", measured.calibration),
    Section("cost", "Cost", _cost),
    Section("kinds", "What kind of forgetting", measured.kinds),
    Section("items", "Item by item", measured.items),
    Section("forgotten", "What was forgotten", _forgotten),
    Section("failed", "What failed, and why", lambda summary: {"failed": [row for row in summary.rows if row.reasons]}),
    Section("provenance", "Provenance", _provenance),
)
