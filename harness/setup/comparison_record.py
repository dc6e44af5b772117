"""What comparison.json says of a comparison (its question, its data, its rows), and run.json of a run."""

from __future__ import annotations

from typing import Any

from harness.plan.deepspeed import sharding_of
from harness.plan.load import portable
from harness.plan.plan import Plan
from harness.plan.tuning_rule import STANDARD_RULE
from harness.recipes.optimizer import DEFAULT
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.provenance import where
from harness.store.question import Question
from harness.store.schema import PROTOCOL, SCHEMA_VERSION, DataRecord, RowRecord


def question_of(material: Material) -> Question:
    """Return what makes two comparisons the same one: rows may be added to it, these fields may not change."""
    plan = material.plan
    optimizer = material.training.optimizer
    # An option that came later is None where it is not used, so that earlier comparisons stay the same question.
    fields = {
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
        "optimizer": None if optimizer == DEFAULT else optimizer,
        "batch_size": plan.batch_size,
        "precision": plan.precision,
        "scoring": None if plan.scoring == "float32" else plan.scoring,
        "threads": plan.threads,
        "learning_rate": material.training.learning_rate,
        "tune": plan.tune,
        "tune_rule": plan.tune_rule if plan.tune and plan.tune_rule != STANDARD_RULE else None,
    }
    return Question(fields)


def data_record(plan: Plan, material: Material) -> DataRecord:
    """Return what comparison.json says of the data."""
    dataset = material.dataset
    record: DataRecord = {
        "name": dataset.name,
        "path": plan.data,
        "fingerprint": dataset.fingerprint,
        "notes": list(dataset.notes),
        "train": len(dataset.train),
        "dev": len(dataset.dev),
        "test": len(dataset.test),
    }
    if len(material.stages) > 1:
        record["stages"] = [stage.name for stage in material.stages]
    return record


def row_record(spec: RunSpec, evaluation: EvaluationPlan) -> RowRecord:
    """Return a run's entry in comparison.json."""
    record: RowRecord = {
        "row": spec.row,
        "recipe": spec.recipe,
        "role": spec.role,
        "track": spec.track,
        "seed": spec.seed,
        "key": spec.key,
        "evals": evaluation.keys_of(spec),
    }
    if spec.tuned:
        record["measured"] = spec.tuned.record()
    return record


def run_record(spec: RunSpec, material: Material, happened: dict[str, Any]) -> dict[str, Any]:
    """Return run.json: what was asked of a run, what happened, and where."""
    return {
        "schema_version": SCHEMA_VERSION,
        "key": spec.key,
        "asked": _asked_of(spec, material),
        "happened": happened,
        "where": where(),
    }


def _asked_of(spec: RunSpec, material: Material) -> dict[str, Any]:
    """Return what was asked of a run, for run.json."""
    plan = material.plan
    dataset = material.dataset
    base = material.base
    sizes = {part: len(getattr(dataset, part)) for part in ("train", "dev", "test")}
    fields = spec.question.fields
    record = {
        "recipe": spec.row,
        "methods": fields.get("methods", []),
        "track": spec.track,
        "role": spec.role,
        "seed": spec.seed,
        "model": {
            "name": portable(plan).model,
            "hash": base.hash,
            "parameters": base.parameters,
        },
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint} | sizes,
        "protocol": PROTOCOL,
        "threads": plan.threads,
        "precision": plan.precision,
    }

    # Of a model that was tuned elsewhere neither budget nor training is known.
    if spec.tuned is not None:
        return record | {"measured": spec.tuned.record()}
    examples = {part: fields[part] for part in ("data", "general") if fields.get(part)}
    return record | {
        "learning_rate": spec.training.learning_rate,
        "training": fields.get("training"),
        "examples": examples,
        "budget": {"text": plan.budget, "meter": spec.meter, "amount": spec.allowed},
    }


def answers_of(material: Material) -> list[str]:
    """Return the answers that the domain's training examples give."""
    answers = []
    for record in material.dataset.train:
        answers += [turn.content for turn in record.messages if turn.role == "assistant"]
    return answers
