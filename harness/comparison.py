"""The conductor: plan -> runs -> store -> report."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import PROTOCOL
from harness.answer_format import read_format
from harness.backends import check_backend
from harness.catalogue import papers
from harness.contamination import RULE
from harness.engines.ranks import pace
from harness.errors import PlanError
from harness.evaluation import EvaluationPlan, load_tasks, without_contamination, without_retention_items
from harness.material import Material, gather
from harness.plan import Plan, make_plan, portable
from harness.progress import Progress
from harness.quality import template
from harness.rules import read_rules
from harness.specs import RunSpec, allowed_amount, ranks_of, run_specs, sharding_of
from harness.store import SCHEMA_VERSION, RunStore, key_of, place, read_json, write_json
from harness.tune import Tuning, select, trial_specs, trials_of
from harness.where import where

RETRIED = ("failed", "out_of_memory", "stopped", None)
"""Statuses that another `lethe compare` tries again; the others are answers."""


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to."""

    folder: Path
    report: Any
    """What was written: the table (pandas), the verdicts, the files."""
    failed: list[str]
    """Rows that did not end well, with the reason."""


def compare(plan_file: str | None = None, quiet: bool = False, **options: Any) -> Outcome:
    """Make every run that the store lacks, then the report. Raises PlanError before anything runs."""
    from harness.report import write_report

    folder, failed = carry_out(make_plan(options, plan_file), quiet)
    return Outcome(folder, write_report(folder, RunStore(folder.parent / "runs")), failed)


def carry_out(plan: Plan, quiet: bool = False) -> tuple[Path, list[str]]:
    """A comparison but for its report: (its folder, what did not end well)."""
    from harness.engines import run_all

    material, evaluation, allowed = prepare(plan)
    plan = material.plan
    store = RunStore(place(plan.out) / "runs")
    folder = place(plan.out) / str(plan.name)
    _refuse_other_question(folder, material)

    def run(specs: list[RunSpec]) -> None:
        missing = [spec for spec in specs if not _answered(spec, store, evaluation)]
        with Progress(missing, plan, quiet) as progress:
            run_all(missing, material, evaluation, store, progress.event)

    trials = trials_of(material, allowed)
    run(trial_specs(material, trials))
    tuning = select(material, trials, store, evaluation.keys.get("dev"))
    specs = run_specs(material, allowed, tuning.chosen)
    run(specs)
    write_json(folder / "comparison.json", _record(folder, material, evaluation, specs, tuning))
    return folder, _failures(specs, store, evaluation)


def prepare(plan: Plan) -> tuple[Material, EvaluationPlan, float]:
    """Load, check and price everything that `plan` asks: (material, evaluations, the budget's amount).

    Nothing runs but a calibration where seconds bind.
    """
    if plan.answer_format:
        read_format(plan.answer_format)
    if plan.rules:
        read_rules(plan.rules)
    check_backend(plan.backend)
    material = gather(plan)
    tasks = load_tasks(material)
    material, tasks = without_contamination(without_retention_items(material, tasks), tasks)
    return material, EvaluationPlan.make(material, tasks), _allowed(material)


def _allowed(material: Material) -> float:
    """The budget's amount. Where epochs are priced in seconds, the pace is measured once and kept, so that runs stay found."""
    plan = material.plan
    if plan.meter != "seconds" or material.budget.unit != "epochs":
        return allowed_amount(material)
    asked = {
        "model": material.base.hash,
        "device": plan.device,
        "threads": plan.threads,
        "training": material.training.question,
    }
    asked |= ranks_of(plan)
    path = place(plan.out) / "runs" / f"pace-{key_of(asked)}.json"
    kept = read_json(path) or asked | {"seconds_a_flop": pace(material)}
    write_json(path, kept)
    flops = dataclasses.replace(material, plan=dataclasses.replace(plan, meter="flops"))
    return allowed_amount(flops) * kept["seconds_a_flop"]


def _answered(spec: RunSpec, store: RunStore, evaluation: EvaluationPlan) -> bool:
    """Whether the store holds the run and its present evaluations."""
    folder = store.run(spec.key)
    if folder.status in RETRIED:
        return False
    if folder.status != "done":
        return True
    return folder.has_models(spec.models) and all(folder.has_scores(kind, evaluation.keys[kind]) for kind in spec.kinds)


def question_of(material: Material) -> dict[str, Any]:
    """What makes two comparisons the same one: rows may be added to it, these may not change."""
    plan = material.plan
    return {
        "protocol": PROTOCOL,
        "model": material.base.hash,
        "data": material.dataset.fingerprint,
        "budget": plan.budget,
        "meter": plan.meter,
        "mode": plan.mode,
        "max_length": plan.max_length,
        "pack_length": plan.pack_length,
        "gradient_checkpointing": plan.gradient_checkpointing,
        "ranks": plan.ranks if plan.ranks > 1 else None,
        "kernels": None if plan.kernels == "plain" else plan.kernels,
        "compile": plan.compile or None,
        "deepspeed": sharding_of(plan),
        "batch_size": plan.batch_size,
        "precision": plan.precision,
        "scoring": None if plan.scoring == "float32" else plan.scoring,
        "threads": plan.threads,
        "learning_rate": material.training.learning_rate,
        "tune": plan.tune,
    }


def _refuse_other_question(folder: Path, material: Material) -> None:
    """A name holds one question; another one is refused, naming the fields that differ."""
    earlier = read_json(folder / "comparison.json")
    if earlier is None:
        return
    now = question_of(material)
    differing = [
        f"{key} was {earlier['question'].get(key)!r}, now {now[key]!r}"
        for key in now
        if earlier["question"].get(key) != now[key]
    ]
    if differing:
        raise PlanError(f"{folder} holds another comparison: {'; '.join(differing)}; give another name, or remove the folder")


def _record(
    folder: Path, material: Material, evaluation: EvaluationPlan, specs: list[RunSpec], tuning: Tuning
) -> dict[str, Any]:
    """comparison.json, as docs/design.md has it."""
    plan, dataset = portable(material.plan), material.dataset
    earlier = read_json(folder / "comparison.json") or {}
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": PROTOCOL,
        "name": plan.name,
        "created": earlier.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "command": earlier.get("command") or shlex.join(["lethe", *sys.argv[1:]]),
        "question": question_of(material),
        "plan": dataclasses.asdict(plan),
        "model": {"name": plan.model, "hash": material.base.hash, "parameters": material.base.parameters},
        "data": {"name": dataset.name, "path": plan.data, "fingerprint": dataset.fingerprint, "notes": list(dataset.notes)}
        | {part: len(getattr(dataset, part)) for part in ("train", "dev", "test")}
        | ({"stages": [stage.name for stage in material.stages]} if len(material.stages) > 1 else {}),
        "suites": evaluation.summary,
        "template": template(_answers(material)),
        "answer_format": read_format(plan.answer_format) if plan.answer_format else None,
        "rules": read_rules(plan.rules) if plan.rules else [],
        "contamination": {"rule": RULE, "found": [found.record() for found in material.contaminated]},
        "notes": [*material.notes, *evaluation.notes, *tuning.notes],
        "where": where(),
        "trials": tuning.record,
        "papers": papers(dict.fromkeys(spec.recipe for spec in specs if spec.role == "recipe")),
        "rows": [
            {
                "row": spec.row,
                "recipe": spec.recipe,
                "role": spec.role,
                "track": spec.track,
                "seed": spec.seed,
                "key": spec.key,
                "evals": evaluation.keys,
            }
            for spec in specs
        ],
    }


def _answers(material: Material) -> list[str]:
    """What the domain is trained to say."""
    return [turn.content for record in material.dataset.train for turn in record.messages if turn.role == "assistant"]


def _failures(specs: list[RunSpec], store: RunStore, evaluation: EvaluationPlan) -> list[str]:
    failures = []
    for spec in specs:
        record = store.run(spec.key).read("status") or {"status": "missing", "reason": None}
        if record["status"] != "done":
            failures.append(f"{spec.row} (seed {spec.seed}) {record['status']}: {record['reason']}")
        elif not _answered(spec, store, evaluation):
            failures.append(f"{spec.row} (seed {spec.seed}) was trained but not evaluated")
    return failures
