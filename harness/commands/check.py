"""`lethe check`: measure what a plan says, hold it against the accepted baseline, say so. Needs torch only to measure.

`PLAN.toml` holds the options of a comparison and a table `[check]` with `tolerance` and `noise_seeds`. Beside it lie the
baseline's two files, both committed: `PLAN.json`, made to be read in a diff, and `PLAN.items.json`, the accepted evidence.
"""

from __future__ import annotations

from pathlib import Path

from harness.bundled import embedded
from harness.errors import PlanError, raise_faults
from harness.gate.announce import announce, check_report, show_acceptance
from harness.gate.baseline import Gate, read_policy, write_baseline
from harness.gate.evidence import evidence_of, read_evidence, write_evidence
from harness.gate.judge import TOLERANCE
from harness.gate.record import Evidence
from harness.gate.verdict import decide
from harness.store.comparisons import read_comparison
from harness.store.files import place
from harness.store.opening import read_given_toml
from harness.store.results import Results, open_results

NOISE_SEEDS = 3
"""Seeds of each recipe that `--accept` runs to measure the noise floor."""


def check(
    plan: str | None = None,
    accept: bool = False,
    evidence: str | None = None,
    junit: str | None = None,
    only: str | None = None,
    out: str = "results",
) -> int:
    """Run the whole command; return its exit code. `only`: recipes of the plan, separated by spaces."""
    from harness.plan.plan import split_recipes

    gate = read_gate(Path(plan) if plan else embedded().folder / "check.toml")
    names = tuple(split_recipes(only or ""))
    # A baseline is of the whole plan, and its policy is what the last one said.
    if accept and names:
        raise PlanError("--accept renews the whole baseline: leave --only away")
    check_report(junit)
    policy = None if accept else read_policy(gate, names)

    # Evidence of another job, or measured here and left where a job can pick it up.
    if evidence:
        measured = read_evidence(place(evidence))
    else:
        seeds = max(gate.seeds, gate.noise_seeds) if accept else gate.seeds
        measured = measure(gate, open_results(out), seeds, names)
        write_evidence(open_results(out).root / "check" / "evidence.json", measured)
    if policy is None:
        show_acceptance(write_baseline(gate, measured))
        print(f"accepted: {gate.baseline} and {gate.items.name}; commit both")
        return 0

    # The exit code is what CI reads; the table and the files are for people.
    verdict = decide(measured, policy)
    announce(verdict, junit)
    return verdict.exit_code


def read_gate(file: Path) -> Gate:
    """Return the plan of a check.

    Raises PlanError with all faults of its table `[check]`; its other options are checked when used.
    """
    options = read_given_toml(file, f"plan '{file}'")

    # The check's own options stand apart from those of the comparison that it runs.
    table = options.pop("check", {})
    if not isinstance(table, dict):
        raise PlanError(f"check is {table!r} in {file}; write a table [check] with tolerance and noise_seeds (docs/ci.md)")
    tolerance = table.pop("tolerance", TOLERANCE)
    seeds = table.pop("noise_seeds", NOISE_SEEDS)
    faults = [f"[check] has no option '{name}'; it has tolerance and noise_seeds" for name in table]
    faults += [f"{name} is the check's own: leave it out of {file}" for name in ("out", "name") if name in options]
    if not isinstance(tolerance, int | float) or isinstance(tolerance, bool) or not 0 <= tolerance < float("inf"):
        faults.append(f"tolerance is a number of points from 0, not {tolerance!r}")
    if type(seeds) is not int or seeds < 2:
        faults.append(f"noise_seeds is 2 or more, not {seeds!r}: one seed shows no noise")
    given = options.get("seeds", 1)  # compared with noise_seeds before the plan's options are checked
    if type(given) is not int:
        faults.append(f"seeds takes int, not {given!r}")
    raise_faults(faults)
    return Gate(file, options, float(tolerance), seeds)


def measure(gate: Gate, results: Results, seeds: int, only: tuple[str, ...] = ()) -> Evidence:
    """Return evidence made anew in a store of its own: an old run would only tell what an old tree did."""
    from harness.commands.compare import carry_out
    from harness.plan.load import make_plan

    recipes = {"recipes": " ".join(only)} if only else {}
    with results.scratch("check") as scratch:
        # Only final scores are compared, so nothing else is measured or kept.
        fixed = {"out": str(scratch), "name": "gate", "seeds": seeds, "final_only": True, "keep": 0.0}
        folder = carry_out(make_plan(gate.options | recipes | fixed))[0]
        return evidence_of(read_comparison(folder, open_results(scratch).store))
