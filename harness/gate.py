"""`lethe check`: measure what a plan says, hold it against the accepted baseline, say so. Needs torch only to measure.

`PLAN.toml` holds the options of a comparison and a table `[check]` with `tolerance` and `noise_seeds`. Beside it lie the
baseline's two files, both committed: `PLAN.json`, made to be read in a diff, and `PLAN.items.json`, the accepted evidence.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.announce import junit as junit_report
from harness.announce import show, step_summary
from harness.bundled import embedded
from harness.check import TOLERANCE, Policy, analysis_of, base_of, decide, floors_of, metrics_of
from harness.errors import PlanError, raise_faults
from harness.evidence import evidence_of, legible, read_evidence, write_evidence
from harness.store import SCHEMA_VERSION, RunStore, read_comparison, read_json, write_atomic

NOISE_SEEDS = 3
"""Seeds of each recipe that `--accept` runs to measure the noise floor."""


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


def check(
    plan: str | None = None,
    accept: bool = False,
    evidence: str | None = None,
    junit: str | None = None,
    only: str | None = None,
    out: str = "results",
) -> int:
    """The whole command; returns its exit code. `only`: recipes of the plan, separated by spaces."""
    from harness.plan import split_recipes

    gate = read_gate(Path(plan) if plan else embedded().folder / "check.toml")
    names = tuple(split_recipes(only or ""))
    if accept and names:
        raise PlanError("--accept renews the whole baseline: leave --only away")
    policy = None if accept else read_policy(gate, names)
    if evidence:
        found = read_evidence(Path(evidence))
    else:
        found = measure(gate, Path(out), max(gate.seeds, gate.noise_seeds) if accept else gate.seeds, names)
        write_evidence(Path(out) / "check" / "evidence.json", found)
    if policy is None:
        write_baseline(gate, found)
        print(f"accepted: {gate.baseline} and {gate.items.name}; commit both")
        return 0
    verdict = decide(found, policy)
    show(verdict)
    if junit:
        write_atomic(Path(junit), junit_report(verdict))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(step_summary(verdict))
    return verdict.exit_code


def read_gate(file: Path) -> Gate:
    """The plan of a check. Raises PlanError with all faults of its table `[check]`; its other options are checked when used."""
    try:
        options = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"plan '{file}' does not exist; docs/ci.md shows one") from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"plan '{file}' is not TOML: {error}") from None
    own = options.pop("check", {})
    tolerance, seeds = own.pop("tolerance", TOLERANCE), own.pop("noise_seeds", NOISE_SEEDS)
    faults = [f"[check] has no option '{name}'; it has tolerance and noise_seeds" for name in own]
    faults += [f"{name} is the check's own: leave it out of {file}" for name in ("out", "name") if name in options]
    if not isinstance(tolerance, int | float) or tolerance < 0:
        faults.append(f"tolerance is a number of points from 0, not {tolerance!r}")
    if not isinstance(seeds, int) or seeds < 2:
        faults.append(f"noise_seeds is 2 or more, not {seeds!r}: one seed shows no noise")
    raise_faults(faults)
    return Gate(file, options, float(tolerance), seeds)


def measure(gate: Gate, out: Path, seeds: int, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Evidence made anew in a store of its own: an old run would only tell what an old tree did."""
    from harness.comparison import carry_out
    from harness.plan import make_plan

    recipes = {"recipes": " ".join(only)} if only else {}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".check.") as place:
        own = {"out": place, "name": "check", "seeds": seeds, "final_only": True, "keep": 0.0}
        folder = carry_out(make_plan(gate.options | recipes | own))[0]
        return evidence_of(read_comparison(folder, RunStore(Path(place) / "runs")))


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
    return Policy(read_evidence(gate.items), floors, gate.tolerance, only)


def write_baseline(gate: Gate, evidence: dict[str, Any]) -> None:
    """Accept this evidence: its first seeds, and a page of metrics with their noise floors."""
    bad = [
        f"{row}, seed {seed}: {run['status']} ({run['reason']})"
        for row, told in evidence["rows"].items()
        for seed, run in told["seeds"].items()
        if run["status"] != "done"
    ]
    raise_faults([f"a baseline is of runs that ended well, and this one did not: {fault}" for fault in bad])
    floors = floors_of(evidence, gate.seeds)
    if any(told["role"] == "recipe" and row not in floors for row, told in evidence["rows"].items()):
        raise PlanError("the evidence has one seed, which shows no noise: run `lethe check --accept` without --evidence")
    seeds = {row: len(told["seeds"]) for row, told in evidence["rows"].items()}
    rows = {row: told | {"seeds": _first(told["seeds"], gate.seeds)} for row, told in evidence["rows"].items()}
    kept = evidence | {"rows": rows}
    write_evidence(gate.items, kept)
    record = {
        "schema_version": SCHEMA_VERSION,
        "protocol": evidence["protocol"],
        "accepted": datetime.now(UTC).date().isoformat(),
        "commit": (evidence["where"].get("git") or {}).get("commit"),
        "question": evidence["question"],
        "base": _levels(evidence),
        "metrics": _metrics(kept, floors, seeds),
        "items_sha256": digest(gate.items),
    }
    write_atomic(gate.baseline, legible(record) + "\n")


def _first(seeds: dict[str, Any], n: int) -> dict[str, Any]:
    return {seed: seeds[seed] for seed in sorted(seeds, key=int)[:n]}


def _levels(evidence: dict[str, Any]) -> dict[str, float]:
    """The base's mean score on each measure, as measured."""
    base = evidence["rows"][base_of(evidence)]["seeds"]["0"]["scores"]
    means = {name: [score for score in scores if score is not None] for name, scores in base.items()}
    return {name: round(sum(scores) / len(scores), 4) for name, scores in means.items() if scores}


def _metrics(evidence: dict[str, Any], floors: dict[str, dict[str, float]], seeds: dict[str, int]) -> dict[str, Any]:
    """row -> metric -> {value, low, high, floor}: points gained or lost against the base, or the level itself."""
    recipes = [row for row, told in evidence["rows"].items() if told["role"] == "recipe"]
    analysis, found = analysis_of(evidence, evidence, recipes), {}
    for row in recipes:
        for metric, (quantity, _) in metrics_of(analysis).items():
            estimate = analysis.estimate(quantity, f"now: {row}")
            scale = 100 if quantity.startswith("level:") else 1
            if estimate.known:
                shown = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
                line = {name: round(scale * value, 2) for name, value in shown.items()}
                floor = floors[row].get(metric, 0.0)
                found.setdefault(row, {})[metric] = line | {"floor": round(floor, 2), "seeds": seeds[row]}
    return found


def digest(path: Path) -> str:
    """sha256 of a file's JSON, whatever its line ends."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return hashlib.sha256(legible(value).encode()).hexdigest()
