"""The domain's tasks: the user's test records, scored by what fits their answers, or as `domain_metric` asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.data.split import Dataset
from harness.errors import PlanError, raise_faults
from harness.files.records import Record
from harness.tasks.eval_task import EvalTask, Reader
from harness.tasks.item_suites import as_eval_task, item_tasks
from harness.tasks.item_task import ItemTask, token_limit
from harness.text import answer_metrics
from harness.text.answer_metrics import RequestedMetric
from harness.text.numbers import numbers
from harness.text.thoughts import split_thoughts

LEAST_ITEMS = 20
MOST_KINDS = 12
THOUGHTS = 1024
"""Tokens more for answers that begin with thoughts: a guess."""
UNREADABLE = 0.1
"""Share of answers that may hold no number (no choice) where a metric that needs one is asked for."""


@dataclass(frozen=True)
class Kinds:
    """How records are put into tasks: decided once, on the test records, so that dev items are measured like test items."""

    named: frozenset[str]
    """The kinds that have a task of their own; other records go by the form of their answer."""
    task_of: Mapping[str, str]
    """Kind or form -> the kind whose task it is in; "" is a task of what is rare."""
    metrics: Mapping[str, RequestedMetric]
    """Kind -> what its answers are measured by."""

    @classmethod
    def of(cls, records: Sequence[Record], requested: Mapping[str, RequestedMetric] | None = None) -> Kinds:
        """Return the kinds of these records, at least 20 each where there are as many; rarer ones go by the form of
        their answer, then together. The metric is picked from the answers, unless `requested` names one.
        """
        # A record whose answer follows nothing has no prompt to be asked by.
        records = [record for record in records if record.answer > 0]
        counts = Counter(record.kind for record in records if record.kind)

        # Many kinds would make many tasks of few items each: then records go by the form of their answers alone.
        named = frozenset(kind for kind, n in counts.items() if n >= LEAST_ITEMS)
        named = named if len(named) <= MOST_KINDS else frozenset()
        labels = [_label(record, named) for record in records]
        task_of = _joined(Counter(labels))

        # Each task has one metric, picked by what its answers look like, unless the user named one.
        metrics = {}
        for kind in set(task_of.values()):
            part = [record for record, label in zip(records, labels, strict=True) if task_of[label] == kind]
            picked = answer_metrics.pick_metric([target_of(r) for r in part], [r.choices for r in part])
            metrics[kind] = (requested or {}).get(kind, (requested or {}).get("", RequestedMetric(picked)))
        return cls(named, task_of, metrics)

    def split(self, records: Sequence[Record]) -> dict[str, list[Record]]:
        """Return answered records by kind; those of a kind that was not there when kinds were decided are left out."""
        # A kind that only dev items have was never decided upon: measuring it would need a metric
        # of its own.
        groups: dict[str, list[Record]] = {}
        for record in records:
            kind = self.task_of.get(_label(record, self.named)) if record.answer > 0 else None
            if kind is not None:
                groups.setdefault(kind, []).append(record)
        return dict(sorted(groups.items()))

    def title(self, name: str, kind: str) -> str:
        """Return a task's name: `domain_report_rouge_l`."""
        metric = self.metrics[kind].metric
        # What is rare is called by its metric alone, unless answers of one form are called so already.
        if not kind and metric in self.metrics:
            kind = "others"
        return "_".join(filter(None, (name, kind if kind != metric else "", metric)))


def _label(record: Record, named: frozenset[str]) -> str:
    """Return a record's kind where it has a task, else the form of its answer (letter, number, label, text)."""
    if record.kind and record.kind in named:
        return record.kind
    return answer_metrics.pick_metric([target_of(record)], [record.choices])


def _joined(counts: Mapping[str, int]) -> dict[str, str]:
    """Return which task each label is in: rare ones together, or in the largest where they are too few for one."""
    task_of = {label: label for label in counts}
    small = [label for label, n in counts.items() if n < LEAST_ITEMS]
    if small and len(counts) > 1:
        # Too few for a task of their own join the largest, where there is one.
        large = {label: n for label, n in counts.items() if label not in small}
        enough = sum(counts[label] for label in small) >= LEAST_ITEMS or not large
        home = "" if enough else max(large, key=lambda label: large[label])
        task_of |= dict.fromkeys(small, home)
    return task_of


def stage_tasks(dataset: Dataset, template: Any, metric: str | None) -> list[EvalTask]:
    """Return the tasks of a data file's test part, each test file a part of its own; `metric` as `domain_metric` asks.

    Files of items are asked and scored as they are under SUITES, but multiple choice by generated letters where `metric` names
    one for all records.
    """
    # A metric is checked against all kinds of the file, whichever part they are in.
    requested = read_asked(metric, [record.kind for record in dataset.test])
    if not dataset.tests:
        return domain_tasks(dataset.test, template, dataset.cluster_of, dataset.name, requested)
    tasks: list[EvalTask] = []
    for file in dataset.tests:
        name = dataset.name if len(dataset.tests) == 1 else f"{dataset.name}_{file.name}"
        # A test file of records, or of choices that are to be asked as generated letters.
        if file.items is None or ("" in requested and set(file.items.kinds) == {"choice"}):
            tasks += domain_tasks(file.records, template, dataset.cluster_of, name, requested)
            continue
        made = item_tasks(file.items, name, "domain", Reader(lambda text: len(template.tokenizer(text)["input_ids"])))

        # Items that are alike are one cluster, as records are.
        for task in made:
            for doc in task.task.docs:
                doc["cluster"] = dataset.cluster_of.get(doc["cluster"], doc["cluster"])
        tasks += [replace(task, family=task.name, suite=dataset.name) for task in made]
    return tasks


def domain_tasks(
    records: Sequence[Record],
    template: Any,
    cluster_of: Mapping[str, str],
    name: str = "domain",
    requested: Mapping[str, RequestedMetric] | None = None,
    kinds: Kinds | None = None,
) -> list[EvalTask]:
    """Return the test records as generation tasks: the last answer is the target, all before it the prompt.

    One task for each kind the file names; without kinds, for each form of answer (letter, number, label, text). The metric is
    picked from the answers, unless `requested` names one for the kind, or under "" for all others. (The held-out loss of the
    same records is measured with the drift.) Plain texts make one task more: bits per byte, lower is better. `kinds`: for dev
    records the kinds of the test records, so that both are measured alike.
    """
    tasks = []
    if texts := [_text_doc(record, cluster_of) for record in records if record.text]:
        title = f"{name}_bits_per_byte"
        tasks.append(replace(as_eval_task(ItemTask(title, "text", texts), title, "domain", ""), suite=name))

    # Decided on these records only where nobody decided before: dev items follow the test items.
    faults: list[str] = []
    decided = kinds or Kinds.of(records, requested)
    for kind, part in decided.split(records).items():
        targets = [target_of(record) for record in part]
        wanted = decided.metrics[kind]
        metric = wanted.metric
        # Dev items are measured as the test items were found to fit.
        faults += _unfit(metric, kind or name, targets, part) if kinds is None else []
        docs = [_doc(record, template, cluster_of) | wanted.measure for record in part]
        needed = token_limit(targets, lambda text: len(template.tokenizer(text)["input_ids"]))
        limit = needed + THOUGHTS if template.thinking else needed
        title = decided.title(name, kind)
        why = "as domain_metric asks" if requested and {kind, ""} & requested.keys() else "picked from the data"
        how = "".join(f", {key} {value}" for key, value in wanted.measure.items())
        note = f"{title}: {len(docs):,} generated answers scored by {metric.replace('_', ' ')}{how}, {why}."
        task = ItemTask(title, metric, docs, rendered=True, limit=limit)
        tasks.append(replace(as_eval_task(task, title, "domain", note), suite=name))
    raise_faults(faults)
    return tasks


def read_asked(text: str | None, kinds: Sequence[str | None] = ()) -> dict[str, RequestedMetric]:
    """Return `domain_metric` by kind of record. Raises PlanError if it names a kind that no record has."""
    by_kind = answer_metrics.read_metrics(text or "")
    of_records = {kind for kind in kinds if kind}
    unknown = [kind for kind in by_kind if kind and kind not in of_records]
    # Without records no kind is known, and any may come.
    if unknown and kinds:
        names = ", ".join(sorted(of_records)[:MOST_KINDS]) or "none"
        raise PlanError(f"domain_metric names the kind '{unknown[0]}', but the data's kinds are {names}")
    return by_kind


def _unfit(metric: str, kind: str, targets: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Return a fault where the answers are not what a metric compares: every output would be wrong."""
    if metric == "numeric":
        bad = sum(not numbers(target) for target in targets)
        what = "hold no number"
    elif metric == "letter":
        named = [answer_metrics.named_choice(t, r.choices or ()) for t, r in zip(targets, records, strict=True)]
        bad = named.count(None)
        what = "name no choice"
    else:
        return []

    # A tenth may be odd; more means that the metric is not of these answers.
    too_many = bad > UNREADABLE * len(targets)
    return [f"domain_metric '{metric}' does not fit {kind}: {bad:,} of {len(targets):,} answers {what}"] if too_many else []


def target_of(record: Record) -> str:
    """Return the last answer, as it is scored: without thoughts."""
    return split_thoughts(record.messages[record.answer].content)[1]


def _doc(record: Record, template: Any, cluster_of: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": record.id,
        "prompt": template.prompt(record.messages[: record.answer]),
        "targets": [target_of(record)],
        "choices": list(record.choices or ()),
        "cluster": cluster_of.get(record.id, record.id),
    }


def _text_doc(record: Record, cluster_of: Mapping[str, str]) -> dict[str, Any]:
    return {"id": record.id, "prompt": "", "targets": [record.text], "cluster": cluster_of.get(record.id, record.id)}
