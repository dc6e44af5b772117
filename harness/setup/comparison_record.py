"""What comparison.json says of a comparison: its question, its data, its rows."""

from __future__ import annotations

from typing import Any

from harness.plan.plan import Plan
from harness.plan.tuning_rule import STANDARD_RULE
from harness.recipes.optimizer import DEFAULT
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec, sharding_of
from harness.store.question import Question
from harness.store.schema import PROTOCOL, RowRecord


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


def data_record(plan: Plan, material: Material) -> dict[str, Any]:
    """Return what comparison.json says of the data."""
    dataset = material.dataset
    record = {
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


def answers_of(material: Material) -> list[str]:
    """Return the answers that the domain's training examples give."""
    answers = []
    for record in material.dataset.train:
        answers += [turn.content for turn in record.messages if turn.role == "assistant"]
    return answers
