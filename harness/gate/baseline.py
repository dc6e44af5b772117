"""The accepted baseline of a check: its two files, its noise floors, and what is wrong with it. No torch.

Both files lie beside the plan and are committed: `PLAN.json`, made to be read in a diff, and `PLAN.items.json`, the evidence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from harness.errors import PlanError, raise_faults
from harness.gate.evidence import legible, read_evidence, table_of, write_evidence
from harness.gate.judge import MOST_FLOOR, had
from harness.gate.verdict import THEN, Policy, analysis_of, base_of, baseline_faults, general_families, metrics_of
from harness.stats.analysis import Analysis, analyse
from harness.stats.measures import quantities_of
from harness.store.files import read_json, write_atomic
from harness.store.schema import SCHEMA_VERSION
from harness.vocabulary import Role, Status


@dataclass(frozen=True)
class Gate:
    """A check as its TOML says it."""

    file: Path
    options: dict[str, Any]
    """Of the comparison, as `make_plan` takes them."""
    tolerance: float
    noise_seeds: int

    @property
    def seeds(self) -> int:
        return self.options.get("seeds") or 1

    @property
    def baseline(self) -> Path:
        """What a reviewer reads."""
        return self.file.with_suffix(".json")

    @property
    def items(self) -> Path:
        """The accepted evidence."""
        return self.file.with_suffix(".items.json")


@dataclass(frozen=True)
class Acceptance:
    """What `--accept` says of the baseline that it wrote."""

    floors: dict[str, float]
    """metric -> noise floor in points, the same for every recipe."""
    errors: list[str] = field(default_factory=list)
    """What makes the baseline unfit for judging on another machine."""
    warnings: list[str] = field(default_factory=list)


def read_policy(gate: Gate, only: tuple[str, ...] = ()) -> Policy:
    """Tolerance, noise floors and accepted evidence. Raises PlanError where there is no baseline, or half of one."""
    record = read_json(gate.baseline)
    if record is None or not gate.items.exists():
        raise PlanError(
            f"{gate.baseline} or {gate.items.name} does not exist: make both with `lethe check {gate.file} --accept`"
        )
    if digest(gate.items) != record["items_sha256"]:
        raise PlanError(
            f"{gate.items} is not the one that {gate.baseline.name} was accepted with: restore both from one commit"
        )
    rows = record["metrics"].items()
    floors = {row: {name: told["floor"] for name, told in metrics.items()} for row, metrics in rows}
    policy = Policy(read_evidence(gate.items), floors, gate.tolerance, only)
    raise_faults(baseline_faults(policy))
    return policy


def write_baseline(gate: Gate, evidence: dict[str, Any]) -> Acceptance:
    """Accept this evidence: its first seeds, and a page of metrics with their noise floors. Says what is wrong with it."""
    bad = [
        f"{row}, seed {seed}: {run['status']} ({run['reason']})"
        for row, told in evidence["rows"].items()
        for seed, run in told["seeds"].items()
        if run["status"] != Status.DONE
    ]
    raise_faults([f"a baseline is of runs that ended well, and this one did not: {fault}" for fault in bad])
    floors = floors_of(evidence, gate.seeds)
    if not floors:
        raise PlanError("the evidence has one seed, which shows no noise: run `lethe check --accept` without --evidence")
    rows = {row: told | {"seeds": _first(told["seeds"], gate.seeds)} for row, told in evidence["rows"].items()}
    kept = evidence | {"rows": rows}
    recipes = [row for row, told in rows.items() if told["role"] == Role.RECIPE]
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
        "noise_seeds": {row: len(told["seeds"]) for row, told in evidence["rows"].items()},
        "faults": [*acceptance.errors, *acceptance.warnings],
        "items_sha256": digest(gate.items),
    }
    write_atomic(gate.baseline, legible(record) + "\n")
    return acceptance


def floors_of(evidence: dict[str, Any], seeds: int) -> dict[str, float]:
    """Noise floor of each metric: how far two honest checks of so many seeds may be apart when only the noise differs.

    t(0.975, d) s sqrt(2 / seeds) points. s is pooled over the recipes: s^2 is the mean of their variances between seeds, and d
    the sum of their degrees of freedom. Three seeds of one recipe alone know so little of their variance that t is 4.3. That
    the recipes are alike in their noise is a guess.
    """
    analysis = analyse(table_of(evidence), base_of(evidence), reps=2)
    recipes = [name for name, told in evidence["rows"].items() if told["role"] == Role.RECIPE and name in analysis.rows]
    floors: dict[str, float] = {}
    for metric, (quantity, _) in metrics_of(analysis).items():
        squares, freedom = 0.0, 0
        for name in recipes:
            own = analysis.by_seed[quantity][:, analysis.rows.index(name)]
            own = _scale(quantity) * own[np.isfinite(own)]
            if len(own) > 1:
                squares += float(((own - own.mean()) ** 2).sum())
                freedom += len(own) - 1
        if freedom:
            spread = stdtrit(freedom, 0.975) * np.sqrt(squares / freedom) * np.sqrt(2 / seeds)
            floors[metric] = round(float(spread), 3)
    return floors


def _errors(floors: dict[str, float]) -> list[str]:
    """What is wrong with the noise floors."""
    high = [
        f"{metric} {floor:.1f}" for metric, floor in sorted(floors.items(), key=lambda pair: -pair[1]) if floor > MOST_FLOOR
    ]
    if not high:
        return []
    cure = "give more seeds (`seeds` of the plan), more items (`limit`) or a longer budget"
    text = f"{len(high)} of {len(floors)} noise floors are above {MOST_FLOOR:g} points ({', '.join(high)})"
    return [f"{text}: another machine is allowed {MOST_FLOOR:g} there and may be found inconclusive; {cure}"]


def _warnings(evidence: dict[str, Any], analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> list[str]:
    """What a check against this baseline cannot see."""
    warnings = []
    if not general_families(evidence):
        warnings.append("no general task is answered above chance by the base: what is forgotten cannot be seen")
    if blind := _blind(analysis, recipes, floors):
        warnings.append(f"the noise floor is more than can be lost: {'; '.join(blind)}")
    for row, told in evidence["rows"].items():
        alike = [
            f"{seed} and {name.rpartition(' ')[2]}"
            for seed, run in told["seeds"].items()
            for name in run["exact"]["same weights as"]
            if name.startswith(f"{row}, seed ") and int(name.rpartition(" ")[2]) > int(seed)
        ]
        if alike:
            warnings.append(f"{row}: seeds {', '.join(alike)} ended in the same weights, so they show no noise")
        base = f"{base_of(evidence)}, seed 0"
        if told["role"] == Role.CONTROL and base not in told["seeds"]["0"]["exact"]["same scores as"]:
            warnings.append(f"{row} does not score as the base does, and nothing trained it: something is read differently")
    return warnings


def _blind(analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> list[str]:
    """Where the noise floor exceeds what a recipe can lose: each metric, with the recipe that has the least."""
    weights = {name: quantity.weights for name, quantity in quantities_of(analysis.measures).items()}
    blind = []
    for metric, (quantity, sign) in metrics_of(analysis).items():
        if sign != 1 or metric not in floors:
            continue
        there = {row: had(analysis, quantity, weights[quantity], THEN + row) for row in recipes}
        least = min(there, key=lambda row: there[row])
        if floors[metric] > there[least]:
            blind.append(f"{metric} {floors[metric]:.1f} points where {least} has {max(there[least], 0.0):.1f}")
    return blind


def _first(seeds: dict[str, Any], n: int) -> dict[str, Any]:
    return {seed: seeds[seed] for seed in sorted(seeds, key=int)[:n]}


def _scale(quantity: str) -> int:
    """What makes points of a quantity."""
    return 100 if quantity.startswith("level:") else 1


def _levels(evidence: dict[str, Any]) -> dict[str, float]:
    """The base's mean score on each measure, as measured."""
    base = evidence["rows"][base_of(evidence)]["seeds"]["0"]["scores"]
    means = {name: [score for score in scores if score is not None] for name, scores in base.items()}
    return {name: round(sum(scores) / len(scores), 4) for name, scores in means.items() if scores}


def _metrics(analysis: Analysis, recipes: list[str], floors: dict[str, float]) -> dict[str, Any]:
    """row -> metric -> {value, low, high, floor}: points gained or lost against the base, or the level itself."""
    found: dict[str, Any] = {}
    for row in recipes:
        for metric, (quantity, _) in metrics_of(analysis).items():
            estimate = analysis.estimate(quantity, THEN + row)
            if estimate.known:
                shown = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
                line = {name: round(_scale(quantity) * value, 2) for name, value in shown.items()}
                found.setdefault(row, {})[metric] = line | {"floor": round(floors.get(metric, 0.0), 2)}
    return found


def digest(path: Path) -> str:
    """sha256 of a file's JSON, whatever its line ends."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return hashlib.sha256(legible(value).encode()).hexdigest()
