"""What the final evaluation asks, as tasks: the domain's test records and the suites, without what training data gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.data.contamination import ContaminatedTask, search
from harness.data.held_out import Family, check_families
from harness.errors import PlanError, raise_faults
from harness.files.records import Record
from harness.setup.material import Material
from harness.tasks.domain import Kinds, domain_tasks, read_asked, stage_tasks
from harness.tasks.eval_task import EvalTask
from harness.tasks.subset import without
from harness.tasks.suites import load_suite
from harness.training.protocol import TrainingData


def domain_of(material: Material) -> list[EvalTask]:
    """Return the domain's test records as tasks, those of each stage apart."""
    tasks: list[EvalTask] = []
    for stage in material.stages:
        tasks += stage_tasks(stage, material.template, material.plan.domain_metric)
    return tasks


def load_tasks(material: Material) -> list[EvalTask]:
    """Return the domain's test records and every suite, as tasks. Raises PlanError where a suite cannot be had."""
    tasks, faults = domain_of(material), list[str]()
    context = material.base.max_length
    for suite in material.plan.suite_names:
        try:
            tasks += load_suite(suite, count=lambda text: len(material.base.tokenizer(text)["input_ids"]), context=context)
        except PlanError as error:
            faults += error.faults
    raise_faults(faults)
    return _seen(_clean(tasks, material.contaminated), material.families)


def _clean(tasks: list[EvalTask], contaminated: Sequence[ContaminatedTask]) -> list[EvalTask]:
    """Return the tasks less the items that are excluded; a task of which nothing is left is left out."""

    # Excluded items are left out for every model alike, so that all rows are over the same items.
    gone = {entry.task: set(entry.excluded) for entry in contaminated if entry.excluded}
    kept = []
    for task in tasks:
        places = gone.get(task.name, set())
        if len(places) < task.items:
            kept.append(replace(task, task=without(task.task, places), items=task.items - len(places)) if places else task)
    return kept


def without_contamination(material: Material, tasks: list[EvalTask]) -> tuple[Material, list[EvalTask]]:
    """(the material that knows and notes which suite items stand in training data and which families are not held out from its
    pool, the tasks less the items it excludes)."""
    # Only records that are trained on can contaminate; dev items of the pool decide, so they count too.
    data = material.training_data
    trained = {example.id.partition(".")[0] for example in (*data.domain, *data.general)}
    sources = {
        "domain": [record for record in material.dataset.train if record.id in trained],
        # What the pool's methods may train on, and what recipes are selected by.
        "general": [*(record for record in material.pool if record.id in trained), *material.general_dev],
    }
    overlaps = tuple(search(tasks, sources, material.plan.contamination == "exclude"))
    families = tuple(check_families(tasks, material.pool, overlaps, material.plan.general or ""))
    notes = (*material.notes, *(entry.note for entry in (*overlaps, *families) if entry.note))
    return replace(material, contaminated=overlaps, families=families, notes=notes), _seen(_clean(tasks, overlaps), families)


def _seen(tasks: list[EvalTask], families: Sequence[Family]) -> list[EvalTask]:
    """Return the tasks, those of a family that was found in the pool as seen."""
    seen = {family.family for family in families if family.seen}
    return [replace(task, seen=True) if task.group == "general" and task.family in seen else task for task in tasks]


def without_retention_items(material: Material, tasks: list[EvalTask]) -> Material:
    """Return the same material, less every record to train or calibrate on that asks what a general suite asks; noted."""
    questions: set[str] = set()
    for task in tasks:
        if task.group == "general":
            questions |= {_words(task.task.doc_to_text(doc)) for doc in task.task.eval_docs}
    questions.discard("")

    def found(records: Sequence[Record]) -> set[str]:
        return {record.id for record in records if _words(_question(record)) in questions}

    # A question that is asked and trained on would measure memory, not retention.
    domain, general = found(material.dataset.train), found((*material.pool, *material.general_dev))
    if not domain | general:
        return material

    # The examples are already tokenised, so they are filtered by the record they came from.
    data = material.training_data
    notes = [
        f"{len(ids):,} {name} records ask what a general suite asks: left out, they would inflate retention."
        for name, ids in (("domain", domain), ("general", general))
        if ids
    ]
    return replace(
        material,
        training_data=TrainingData(
            tuple(example for example in data.domain if example.id not in domain),
            tuple(example for example in data.general if example.id not in general),
        ),
        general_dev=tuple(record for record in material.general_dev if record.id not in general),
        notes=(*material.notes, *notes),
    )


def _question(record: Record) -> str:
    """Return the user's last words in a record."""
    return next((turn.content for turn in reversed(record.messages) if turn.role == "user"), "")


def _words(text: Any) -> str:
    """Return a prompt with case and spacing set aside."""
    return " ".join(str(text).casefold().split())


def dev_tasks(material: Material, most: int | None) -> list[EvalTask]:
    """Return dev records of the domain, measured as its test records are, and of general ability where there is a pool.

    At most so many of each.
    """
    template, clusters, tasks = material.template, material.dataset.cluster_of, []
    # The same records for each model: the first ones, whose order is fixed by the split.
    dev = {record.id for record in material.dataset.dev[:most]}
    for stage in material.stages:
        # Dev items are measured as the test items of their kind are.
        kinds = Kinds.of(stage.test, read_asked(material.plan.domain_metric))
        records = [record for record in stage.dev if record.id in dev]
        name = "dev" if len(material.stages) == 1 else f"dev_{stage.name}"
        tasks += domain_tasks(records, template, clusters, name, kinds=kinds)
    general = domain_tasks(material.general_dev[:most], template.skipping, clusters, name="general_dev")
    return tasks + [replace(task, group="general", seen=True) for task in general]
