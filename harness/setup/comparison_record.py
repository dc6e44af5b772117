"""What comparison.json says of a comparison (its question, its data, its rows), and run.json of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from harness.plan.deepspeed import sharding_of
from harness.plan.load import portable
from harness.plan.plan import Plan
from harness.plan.tuning_rule import STANDARD_RULE
from harness.recipes.optimizer import DEFAULT
from harness.recipes.recipe import MethodQuestion
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec
from harness.store.provenance import Provenance, where
from harness.store.question import Question
from harness.store.schema import PROTOCOL, SCHEMA_VERSION, DataRecord, RowRecord
from harness.vocabulary import Role, Track


class ModelFacts(TypedDict):
    """The base of a run."""

    name: str | None
    """As the plan names it; None: the embedded one."""
    hash: str
    parameters: int


class DataFacts(TypedDict):
    """The domain data of a run, and the numbers of its records."""

    name: str
    fingerprint: str
    train: int
    dev: int
    test: int


class BudgetFacts(TypedDict):
    """The budget of a run."""

    text: str
    """As the plan gives it."""
    meter: str
    amount: float
    """In the meter's unit."""


class Asked(TypedDict):
    """What was asked of a run."""

    recipe: str
    """The name of its row."""
    methods: list[MethodQuestion]
    track: Track
    role: Role
    seed: int
    model: ModelFacts
    data: DataFacts
    protocol: int
    threads: int
    precision: str
    measured: NotRequired[Mapping[str, Any]]
    """Of a model tuned elsewhere: what it is. Then nothing that follows is known."""
    learning_rate: NotRequired[float]
    training: NotRequired[Mapping[str, Any] | None]
    examples: NotRequired[Mapping[str, str]]
    """Hashes of the tokenised examples, by source."""
    budget: NotRequired[BudgetFacts]


class Times(TypedDict):
    """When a run was made: UTC in ISO 8601, and seconds."""

    started: str
    ended: str
    wall_seconds: float


class Happened(Times):
    """What happened in a run. A model tuned elsewhere has no training to tell of."""

    evaluation_seconds: float
    models: list[float]
    """Fractions of the budget at which the store has models."""
    notes: list[str]
    steps: NotRequired[int]
    epochs: NotRequired[float]
    stopped_by: NotRequired[str | None]
    stability: NotRequired[Mapping[str, float | int | None]]
    peak_memory_bytes: NotRequired[int]
    weights_hash: NotRequired[str]


class RunRecord(TypedDict):
    """run.json."""

    schema_version: int
    key: str
    asked: Asked
    happened: Happened
    where: Provenance


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


def times_since(begin: float, started: datetime) -> Times:
    """Return when a run was made that ends now; `begin` is its beginning by `time.monotonic`."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": time.monotonic() - begin,
    }


def run_record(spec: RunSpec, material: Material, happened: Happened) -> RunRecord:
    """Return run.json: what was asked of a run, what happened, and where."""
    return {
        "schema_version": SCHEMA_VERSION,
        "key": spec.key,
        "asked": _asked_of(spec, material),
        "happened": happened,
        "where": where(),
    }


def _asked_of(spec: RunSpec, material: Material) -> Asked:
    """Return what was asked of a run, for run.json."""
    plan = material.plan
    dataset = material.dataset
    base = material.base
    fields = spec.question.fields
    record: Asked = {
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
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train),
            "dev": len(dataset.dev),
            "test": len(dataset.test),
        },
        "protocol": PROTOCOL,
        "threads": plan.threads,
        "precision": plan.precision,
    }

    # Of a model that was tuned elsewhere neither budget nor training is known.
    if spec.tuned is not None:
        record["measured"] = spec.tuned.record()
        return record
    record["learning_rate"] = spec.training.learning_rate
    record["training"] = fields.get("training")
    record["examples"] = {part: fields[part] for part in ("data", "general") if fields.get(part)}
    record["budget"] = {"text": plan.budget, "meter": spec.meter, "amount": spec.allowed}
    return record


def answers_of(material: Material) -> list[str]:
    """Return the answers that the domain's training examples give."""
    answers = []
    for record in material.dataset.train:
        answers += [turn.content for turn in record.messages if turn.role == "assistant"]
    return answers
