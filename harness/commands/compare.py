"""`lethe compare`: from a plan to runs, a stored comparison and its report."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.commands.faults import say
from harness.data.contamination import RULE
from harness.doing import doing, spoken
from harness.evaluation.backends import check_backend
from harness.evaluation.item_rows import headline
from harness.files.rule_files import read_format, read_rules
from harness.plan.deepspeed import ranks_of
from harness.plan.load import make_plan, portable
from harness.plan.plan import Plan
from harness.recipes.catalogue import papers
from harness.runs.tune import Tuning, point_entry, point_specs, select, trial_specs, trials_of
from harness.setup.comparison_record import answers_of, data_record, question_of, row_record
from harness.setup.constant_answers import constant_rows
from harness.setup.evaluations import EvaluationPlan
from harness.setup.kept import Kept, answered, kept_rows
from harness.setup.material import Material, gather
from harness.setup.specs import RunSpec, allowed_amount, run_specs
from harness.setup.suite_tasks import load_tasks, without_contamination, without_retention_items
from harness.store.files import is_local, place, read_record, sweep, try_writing, write_record
from harness.store.hashes import move_aside, read_hashed, write_hashed
from harness.store.provenance import where
from harness.store.question import free_name, given_name
from harness.store.results import may_only_be_read, open_results
from harness.store.runs import RunFolder, RunStore
from harness.store.schema import PROTOCOL, SCHEMA_VERSION, RowRecord, key_of
from harness.text.text_quality import template
from harness.vocabulary import EvalKind, Role, Status
from harness.workers.pace import pace
from harness.workers.process import start_forkserver
from harness.workers.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """The outcome of a comparison."""

    folder: Path
    report: Any
    """The report as written: the table (pandas), the verdicts, the files."""
    failed: list[str]
    """Rows that did not end well, with the reason."""


def compare(plan_file: str | None = None, quiet: bool = False, **options: Any) -> Outcome:
    """Make every run that the store lacks, then the report. Raises PlanError before anything runs."""
    return run(make_plan(options, plan_file), quiet)


def run(plan: Plan, quiet: bool = False) -> Outcome:
    """Do the same for a plan that is made already."""
    from harness.report.write import read_report, write_report

    # The report is written under a lease of the results: two comparisons that end at once must not
    # overwrite each other.
    with spoken(quiet):
        folder, failed = carry_out(plan, quiet)
        doing("writing the report: intervals, plots, page")
        results = open_results(plan.out)
        try:
            with results.recording():
                return Outcome(folder, write_report(folder, results.store), failed)
        except OSError as error:
            if not may_only_be_read(error):
                raise
            return Outcome(folder, read_report(folder, results.store), failed)


def carry_out(plan: Plan, quiet: bool = False) -> tuple[Path, list[str]]:
    """Make a comparison without its report. Returns (its folder, what did not end well)."""
    # Runs on this machine fork from a process that imports the libraries meanwhile: planning leaves cores idle.
    if not plan.ray:
        start_forkserver()
    material, evaluation, allowed = prepare(plan)
    material, note = named(material, plan.name)
    _tell([note], quiet)
    plan = material.plan

    # Runs are shared by all comparisons under one `out`: what the store has is not made again.
    results = open_results(plan.out)
    store = results.store
    sweep(results.root)
    sweep(store.root)
    # Trials first: they choose the settings of the runs.
    trials = trials_of(material, allowed)
    make_runs(trial_specs(material, trials), material, evaluation, store, quiet)
    tuning = select(material, trials, store, evaluation.keys.get(EvalKind.DEV))
    specs = run_specs(material, allowed, tuning.chosen)
    # One run may serve two rows (a recipe at its defaults, and a point of its curve): each key once.
    points = point_specs(material, allowed, tuning.points)
    by_key = {spec.key: spec for _, spec in points} | {spec.key: spec for spec in specs}
    make_runs(list(by_key.values()), material, evaluation, store, quiet)
    tuning.record.extend(point_entry(row, spec, evaluation.keys[EvalKind.FINAL]) for row, spec in points)

    # Another command may have taken the name meanwhile. What was computed here is not lost then, nor what it wrote.
    constant = constant_rows(material, evaluation.keys, store)
    failures = _failures(specs, store, evaluation)
    try:
        with results.recording():
            material, note = named(material, None)
            folder = results.folder(material.plan.name)
            earlier = read_record(folder) or {}
            kept = kept_rows(earlier, specs, material, evaluation, allowed, store)
            write_record(folder, _record(earlier, material, evaluation, specs, kept, tuning, constant))
    except OSError as error:
        folder = results.folder(material.plan.name)
        if not may_only_be_read(error) or not _holds_all(folder, specs):
            raise
        return folder, failures
    _tell([note, *kept.notes], quiet)
    return folder, failures


def _holds_all(folder: Path, specs: Sequence[RunSpec]) -> bool:
    """Return whether a comparison's record has a row of every run."""
    record = read_record(folder) or {"rows": []}
    return {spec.key for spec in specs} <= {entry["key"] for entry in record["rows"]}


def make_runs(specs: Sequence[RunSpec], material: Material, evaluation: EvaluationPlan, store: RunStore, quiet: bool) -> None:
    """Make those of the runs that the store lacks, the base first; runs of other comparisons count too."""
    from harness.workers.dispatch import run_all

    missing: list[RunSpec] = []
    scored: list[float] = []
    for spec in in_turn(specs):
        if not answered(spec, store, evaluation):
            missing.append(spec)
        elif seconds := _scoring_seconds(store.run(spec.key)):
            # What earlier evaluations took says how long those to come will take.
            scored.append(seconds)
    # Before anything is loaded for the first of them.
    if missing:
        try_writing(store.root)
    with Progress(missing, material.plan, quiet, lambda spec: _result(spec, store, evaluation), scored) as progress:
        run_all(missing, material, evaluation, store, progress.event)


def _tell(notes: Sequence[str | None], quiet: bool) -> None:
    """Print the notes that there are, on the error stream."""
    if not quiet:
        say(0, [note for note in notes if note])


def named(material: Material, given: str | None) -> tuple[Material, str | None]:
    """Return the material under the name of its results, and a note on that name or None.

    A name that the user gave is refused where it holds another question; one that Lethe chose gives way to the next free one.
    """
    root = open_results(material.plan.out).root
    question = question_of(material)
    name = given_name(root, given, question) if given else free_name(root, material.plan.name, question)
    plan = dataclasses.replace(material.plan, name=name.text)
    return dataclasses.replace(material, plan=plan), name.note


def prepare(plan: Plan, keep: bool = False) -> tuple[Material, EvaluationPlan, float]:
    """Load, check and price everything that `plan` asks. Returns (material, evaluations, the budget's amount).

    Nothing runs but a calibration where seconds bind. `keep`: the evaluators stay in this process.
    """
    # Refused first, by their own messages: reading a model takes longer.
    if plan.answer_format:
        read_format(plan.answer_format)
    if plan.rules:
        read_rules(plan.rules)
    check_backend(plan.backend)

    # Everything that can be refused is refused here, before anything trains.
    material = gather(plan)
    doing("reading the suites")
    tasks = load_tasks(material)
    doing("looking for suite items that stand in the training data")
    material, tasks = without_contamination(without_retention_items(material, tasks), tasks)
    return material, EvaluationPlan.make(material, tasks, keep), _allowed(material)


def _allowed(material: Material) -> float:
    """Return the budget's amount.

    Where epochs are priced in seconds, the pace is measured once and kept, so that runs stay found.
    """
    # Nothing is trained where only finished models are measured.
    plan = material.plan
    if not material.recipes:
        return 0.0
    doing("pricing the budget")
    if plan.meter != "seconds" or material.budget.unit != "epochs":
        return allowed_amount(material)

    # Seconds of epochs need this machine's pace.
    question = {
        "model": material.base.hash,
        "device": plan.device,
        "threads": plan.threads,
        "training": material.training.question,
    }

    # The measured pace is part of what names the runs, so it must not be measured anew.
    question |= ranks_of(plan)
    path = place(plan.out) / "runs" / f"pace-{key_of(question)}.json"
    kept = kept_pace(path)
    if kept is None:
        kept = pace(material)
        write_hashed(path, question | {"seconds_a_flop": kept})
    flops = dataclasses.replace(material, plan=dataclasses.replace(plan, meter="flops"))
    return allowed_amount(flops) * kept


def kept_pace(path: Path) -> float | None:
    """Return the seconds a FLOP that were measured before, None where they were not or where their file is damaged."""
    try:
        record = read_hashed(path, {"seconds_a_flop": float})
    except ValueError as error:
        # It names the runs, so another pace makes all of them anew: that must be said.
        if is_local(path):
            move_aside(path)
        say(0, [f"{path} {error}: the pace is measured anew, and runs of the earlier pace are not found any more"])
        return None
    return None if record is None else record["seconds_a_flop"]


def in_turn(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the runs in the order in which they are made: the base, the recipes, then the controls.

    So the first rows to end are those that all others are read against. Everybody expects the controls to read 0.
    """
    # The base first: every number is one against it.
    order = {Role.BASE: 0, Role.RECIPE: 1, Role.MEASURED: 1}
    return sorted(specs, key=lambda spec: order.get(spec.role, 2))


def _result(spec: RunSpec, store: RunStore, evaluation: EvaluationPlan) -> dict[str, float] | None:
    """Return the mean scores of a finished run, to be shown; None where it has none."""
    # Trials have dev scores alone; every other run has final ones.
    kind = next((kind for kind in (EvalKind.FINAL, EvalKind.DEV) if kind in spec.kinds), None)
    scores = store.run(spec.key).scores(kind, evaluation.keys_of(spec)[kind]) if kind else None
    return None if scores is None else headline(scores)


def _scoring_seconds(run: RunFolder) -> float | None:
    """Return how long the evaluations of a stored run took; None where it has none."""
    happened = (run.read("run") or {}).get("happened") or {}
    return happened.get("evaluation_seconds")


def _record(
    earlier: Mapping[str, Any],
    material: Material,
    evaluation: EvaluationPlan,
    specs: list[RunSpec],
    kept: Kept,
    tuning: Tuning,
    constant: list[RowRecord],
) -> dict[str, Any]:
    """Return comparison.json, as docs/storage.md has it."""
    # What stays of an earlier comparison is part of the plan, so that `lethe reproduce` makes all
    # rows.
    plan = portable(kept.added_to(material.plan))
    specs = [*specs, *kept.specs]
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": PROTOCOL,
        "name": plan.name,
        "created": earlier.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "command": earlier.get("command") or shlex.join(["lethe", *sys.argv[1:]]),
        "question": question_of(material).fields,
        "plan": dataclasses.asdict(plan),
        "model": {"name": plan.model, "hash": material.base.hash, "parameters": material.base.parameters},
        "data": data_record(plan, material),
        "suites": evaluation.summary,
        "template": template(answers_of(material)),
        "answer_format": read_format(plan.answer_format) if plan.answer_format else None,
        "rules": read_rules(plan.rules) if plan.rules else [],
        "contamination": {"rule": RULE, "found": [item.record() for item in material.contaminated]},
        "families": [family.record() for family in material.families],
        "notes": [*material.notes, *evaluation.notes, *tuning.notes, *kept.notes],
        "where": where(),
        "trials": [*tuning.record, *kept.trials],
        "papers": papers(dict.fromkeys(spec.recipe for spec in specs if spec.role == Role.RECIPE)),
        "rows": [*(row_record(spec, evaluation) for spec in specs), *constant],
    }


def _failures(specs: list[RunSpec], store: RunStore, evaluation: EvaluationPlan) -> list[str]:
    """Return a sentence on every run that did not end well."""
    failures = []
    for spec in specs:
        # A run without a status was never begun, or its process was killed.
        record = store.run(spec.key).read("status") or {"status": "missing", "reason": None}
        if record["status"] != Status.DONE:
            failures.append(f"{spec.row} (seed {spec.seed}) {record['status']}: {record['reason']}")
        elif not answered(spec, store, evaluation):
            failures.append(f"{spec.row} (seed {spec.seed}) was trained but not evaluated")
    return failures
