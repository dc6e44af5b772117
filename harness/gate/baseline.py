"""The accepted baseline of a check: its two files, its noise floors, and its faults. No torch.

Both files lie beside the plan and are committed: `PLAN.json`, made to be read in a diff, and `PLAN.items.json`, the evidence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from harness.errors import PlanError, raise_faults
from harness.gate.evidence import legible, read_evidence, table_of, write_evidence
from harness.gate.judge import MOST_FLOOR, had
from harness.gate.record import Evidence, Level, RowEvidence, RunEvidence, base_of
from harness.gate.verdict import THEN, Policy, analysis_of, baseline_faults, general_families, metrics_of
from harness.stats.analysis import Analysis, analyse
from harness.stats.measures import quantities_of
from harness.stats.quantity_name import Measured, QuantityName
from harness.store.files import read_json, write_atomic
from harness.store.schema import SCHEMA_VERSION
from harness.text.json_reader import Form, misfit
from harness.vocabulary import Role, Status

FORM: Form = {"items_sha256": str, "metrics": {...: {...: {"floor": (int, float)}}}}
"""Of the file that a reviewer reads, as far as a check reads it."""


@dataclass(frozen=True)
class Gate:
    """A check, as its TOML file describes it."""

    file: Path
    options: dict[str, Any]
    """The options of the comparison, as `make_plan` takes them."""
    tolerance: float
    noise_seeds: int

    @property
    def seeds(self) -> int:
        """Runs of each recipe in one check."""
        return self.options.get("seeds") or 1

    @property
    def baseline(self) -> Path:
        """The file that a reviewer reads."""
        return self.file.with_suffix(".json")

    @property
    def items(self) -> Path:
        """The file of the accepted evidence."""
        return self.file.with_suffix(".items.json")


@dataclass(frozen=True)
class Acceptance:
    """The report of `--accept` on the baseline that it wrote."""

    floors: dict[str, float]
    """metric -> noise floor in points, the same for every recipe."""
    errors: list[str] = field(default_factory=list)
    """Faults that make the baseline unfit for judging on another machine."""
    warnings: list[str] = field(default_factory=list)


def read_policy(gate: Gate, only: tuple[str, ...] = ()) -> Policy:
    """Return tolerance, noise floors and accepted evidence. Raises PlanError where there is no baseline, or half of one."""
    # The two files belong together: one of them from another commit would judge by floors of other runs.
    cure = f"restore it, or renew it with `lethe check {gate.file} --accept`"
    try:
        record = read_json(gate.baseline)
        items = digest(gate.items) if gate.items.exists() else ""
    except (OSError, ValueError) as error:
        raise PlanError(f"{gate.baseline} or {gate.items.name} cannot be read ({error}): {cure}") from None
    if record is None or not items:
        raise PlanError(
            f"{gate.baseline} or {gate.items.name} does not exist: make both with `lethe check {gate.file} --accept`"
        )
    fault = _fault(record)
    if fault:
        raise PlanError(f"{gate.baseline} {fault}: {cure}")
    if items != record["items_sha256"]:
        raise PlanError(
            f"{gate.items} is not the one that {gate.baseline.name} was accepted with: restore both from one commit"
        )

    # Floors are judged by row and metric, as they were measured.
    floors: dict[str, dict[str, float]] = {}
    for row, metrics in record["metrics"].items():
        floors[row] = {name: metric["floor"] for name, metric in metrics.items()}
    policy = Policy(read_evidence(gate.items), floors, gate.tolerance, only)
    raise_faults(baseline_faults(policy))
    return policy


def _fault(record: Any) -> str:
    """Return what makes a file no baseline, in words; "" where it is one."""
    if not isinstance(record, dict):
        return "is no JSON object"
    missing = [key for key in ("items_sha256", "metrics") if key not in record]
    if missing:
        return f"lacks {', '.join(missing)}"
    if fault := misfit(record, FORM):
        return f"is damaged: {fault}"
    # A form lets empty values pass, of whatever type they are.
    if not isinstance(record["metrics"], dict):
        return "is damaged: its metrics are not given by name"
    for row, metrics in record["metrics"].items():
        if not isinstance(metrics, dict):
            return f"is damaged: the metrics of {row} are not given by name"
        for metric in metrics.values():
            if not metric or "floor" not in metric:
                return f"has metrics without a floor, of {row}"
    return ""


def write_baseline(gate: Gate, evidence: Evidence) -> Acceptance:
    """Accept this evidence: write its first seeds, and a page of metrics with their noise floors.

    Returns what is wrong with it. Raises PlanError where a run did not end well, or there is one seed only.
    """
    # A baseline of failed runs would pass everything.
    raise_faults(_unfinished(evidence))
    floors = floors_of(evidence, gate.seeds)
    if not floors:
        raise PlanError("the evidence has one seed, which shows no noise: run `lethe check --accept` without --evidence")

    # All seeds give the floors; a check is compared with as many seeds as it runs itself.
    rows: dict[str, RowEvidence] = {}
    for name, row in evidence["rows"].items():
        rows[name] = {**row, "seeds": _first(row["seeds"], gate.seeds)}
    kept: Evidence = {**evidence, "rows": rows}
    recipes = [name for name, row in rows.items() if row["role"] == Role.RECIPE]
    analysis = analysis_of(kept, kept, recipes)
    acceptance = Acceptance(floors, _errors(floors), _warnings(evidence, analysis, recipes, floors))
    write_evidence(gate.items, kept)
    record = {
        "schema_version": SCHEMA_VERSION,
        "protocol": evidence["protocol"],
        "accepted": datetime.now(UTC).date().isoformat(),
        "commit": (evidence["where"].get("git") or {}).get("commit"),
        "question": evidence["question"],
        "base": _levels(evidence),
        "metrics": _metrics(analysis, recipes, floors),
        "noise_seeds": {name: len(row["seeds"]) for name, row in evidence["rows"].items()},
        "faults": [*acceptance.errors, *acceptance.warnings],
        "items_sha256": digest(gate.items),
    }
    write_atomic(gate.baseline, legible(record) + "\n")
    return acceptance


def _unfinished(evidence: Evidence) -> list[str]:
    """Return a fault for each run that did not end well."""
    faults = []
    for name, row in evidence["rows"].items():
        for seed, run in row["seeds"].items():
            if run["status"] != Status.DONE:
                text = f"{name}, seed {seed}: {run['status']} ({run['reason']})"
                faults.append(f"a baseline is of runs that ended well, and this one did not: {text}")
    return faults


def floors_of(evidence: Evidence, seeds: int) -> dict[str, float]:
    """Return the noise floor of each metric: how far two checks of so many seeds may be apart when only the noise differs.

    t(0.975, d) s sqrt(2 / seeds) points. s is pooled over the recipes: s^2 is the mean of their variances between seeds, and d
    the sum of their degrees of freedom. Three seeds of one recipe alone show so little of their variance that t is 4.3. That
    all recipes have the same noise is a guess.
    """
    # Two draws: only the seeds' own values are read here.
    analysis = analyse(table_of(evidence), base_of(evidence), reps=2)
    recipes = []
    for name, row in evidence["rows"].items():
        if row["role"] == Role.RECIPE and name in analysis.rows:
            recipes.append(name)

    # Around each recipe's own mean: recipes differ by more than noise.
    floors: dict[str, float] = {}
    for metric, (quantity, _) in metrics_of(analysis).items():
        squares = 0.0
        freedom = 0
        for name in recipes:
            values = analysis.by_seed[quantity][:, analysis.rows.index(name)]
            values = _scale(quantity) * values[np.isfinite(values)]
            if len(values) > 1:
                squares += float(((values - values.mean()) ** 2).sum())
                freedom += len(values) - 1
        if freedom:
            spread = stdtrit(freedom, 0.975) * np.sqrt(squares / freedom) * np.sqrt(2 / seeds)
            floors[metric] = round(float(spread), 3)
    return floors


def _errors(floors: dict[str, float]) -> list[str]:
    """Return what is wrong with the noise floors."""
    # An allowance this wide would let a real loss pass.
    descending = sorted(floors.items(), key=lambda pair: -pair[1])
    high = [f"{metric} {floor:.1f}" for metric, floor in descending if floor > MOST_FLOOR]
    if not high:
        return []
    cure = "give more seeds (`seeds` of the plan), more items (`limit`) or a longer budget"
    text = f"{len(high)} of {len(floors)} noise floors are above {MOST_FLOOR:g} points ({', '.join(high)})"
    return [f"{text}: another machine is allowed {MOST_FLOOR:g} there and may be found inconclusive; {cure}"]


def _warnings(evidence: Evidence, analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> list[str]:
    """Return what a check against this baseline cannot see."""
    warnings = []
    if not general_families(evidence):
        warnings.append("no general task is answered above chance by the base: what is forgotten cannot be seen")
    if blind := _blind(analysis, recipes, floors):
        warnings.append(f"the noise floor is more than can be lost: {'; '.join(blind)}")

    # What should differ and does not, or should be the same and is not, was measured wrongly.
    base = f"{base_of(evidence)}, seed 0"
    for name, row in evidence["rows"].items():
        pairs = _equal_seeds(name, row["seeds"])
        if pairs:
            warnings.append(f"{name}: seeds {', '.join(pairs)} ended in the same weights, so they show no noise")
        if row["role"] == Role.CONTROL and base not in row["seeds"]["0"]["exact"]["same scores as"]:
            warnings.append(f"{name} does not score as the base does, and nothing trained it: something is read differently")
    return warnings


def _equal_seeds(row: str, seeds: dict[str, RunEvidence]) -> list[str]:
    """Return the pairs of a row's seeds that ended in the same weights, as `0 and 2`."""
    pairs = []
    for seed, run in seeds.items():
        # Written in both runs: counted once, from the lower seed.
        for name in run["exact"]["same weights as"]:
            other = name.rpartition(" ")[2]
            if name.startswith(f"{row}, seed ") and int(other) > int(seed):
                pairs.append(f"{seed} and {other}")
    return pairs


def _blind(analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> list[str]:
    """Return the metrics whose noise floor exceeds the largest possible loss of a recipe, each with that recipe."""
    weights = {name: quantity.weights for name, quantity in quantities_of(analysis.measures).items()}
    blind = []
    for metric, (quantity, sign) in metrics_of(analysis).items():
        # Only where more is better is there something to lose.
        if sign != 1 or metric not in floors:
            continue
        points = {row: had(analysis, quantity, weights[quantity], THEN + row) for row in recipes}
        least = min(points, key=lambda row: points[row])
        if floors[metric] > points[least]:
            blind.append(f"{metric} {floors[metric]:.1f} points where {least} has {max(points[least], 0.0):.1f}")
    return blind


def _first(seeds: dict[str, RunEvidence], n: int) -> dict[str, RunEvidence]:
    """Return the n lowest seeds."""
    return {seed: seeds[seed] for seed in sorted(seeds, key=int)[:n]}


def _scale(quantity: QuantityName) -> int:
    """Return the factor that turns a quantity into points."""
    return 100 if quantity.measured is Measured.LEVEL else 1


def _levels(evidence: Evidence) -> dict[str, float]:
    """Return the base's mean score on each measure, as measured."""
    # The base is not trained, so one seed of it is all there is.
    base = evidence["rows"][base_of(evidence)]["seeds"]["0"]["scores"]
    levels = {}
    for name, item_scores in base.items():
        scores = [score for score in item_scores if score is not None]
        if scores:
            levels[name] = round(sum(scores) / len(scores), 4)
    return levels


def _metrics(analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> dict[str, dict[str, Level]]:
    """Return row -> metric -> {value, low, high, floor}: points gained or lost against the base, or the level itself."""
    rows: dict[str, dict[str, Level]] = {}
    for row in recipes:
        for metric, (quantity, _) in metrics_of(analysis).items():
            estimate = analysis.estimate(quantity, THEN + row)
            if not estimate.known:
                continue
            scale = _scale(quantity)
            rows.setdefault(row, {})[metric] = {
                "value": round(scale * estimate.value, 2),
                "low": round(scale * estimate.low, 2),
                "high": round(scale * estimate.high, 2),
                "floor": round(floors.get(metric, 0.0), 2),
            }
    return rows


def digest(path: Path) -> str:
    """Return the sha256 of a file's JSON. Line ends do not count: git may change them."""
    value = read_json(path)
    return hashlib.sha256(legible(value).encode()).hexdigest()
