"""Some of an lm-eval task's documents, or of several tasks' as one: sub-samples, and groups such as MMLU's 57 subjects.

Prompts, requests, filters and scores stay the tasks' own. A group is one task here, since what is told of a task (is the base
above chance?) cannot be told of a subject with nine items.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from harness.store.schema import key_of
from harness.tasks.item_task import HeldTask

# lm-eval compiles a task's template once a document: a seventh of the time of scoring small models.
utils.env.from_string = lru_cache(maxsize=4096)(utils.env.from_string)  # pyright: ignore[reportAttributeAccessIssue]

LEAST_CLUSTERS = 10


class DrawnDoc(TypedDict):
    """A document of one of several tasks."""

    leaf: int
    """Index of its task."""
    doc: Any
    """The document as that task has it."""
    cluster: str
    """What it shares with other documents; empty where it stands for itself."""


class Drawn(HeldTask):
    """Documents of `leaves`, tasks of one kind."""

    def __init__(self, name: str, leaves: Sequence[Any], docs: Sequence[DrawnDoc]) -> None:
        self.leaves = list(leaves)
        self.docs = list(docs)
        self.OUTPUT_TYPE: Any = leaves[0].OUTPUT_TYPE
        self._config = copy.copy(leaves[0].config)
        self._config.task = name
        self._filters = leaves[0]._filters
        self._instances: list[Instance] | None = None
        for leaf in leaves:
            remember(leaf)

    def leaf(self, doc: DrawnDoc) -> Any:
        return self.leaves[doc["leaf"]]

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        for leaf in self.leaves:
            leaf.set_fewshot_seed(seed)

    def doc_to_text(self, doc: DrawnDoc) -> Any:
        return self.leaf(doc).doc_to_text(doc["doc"])

    def doc_to_target(self, doc: DrawnDoc) -> Any:
        return self.leaf(doc).doc_to_target(doc["doc"])

    def doc_to_choice(self, doc: DrawnDoc) -> Any:
        return self.leaf(doc).doc_to_choice(doc["doc"])

    def doc_to_prefix(self, doc: DrawnDoc) -> Any:
        return self.leaf(doc).doc_to_prefix(doc["doc"])

    def fewshot_context(self, doc: DrawnDoc, num_fewshot: int = 0, **options: Any) -> Any:  # pyright: ignore
        return self.leaf(doc).fewshot_context(doc["doc"], num_fewshot, **options)

    def construct_requests(self, doc: DrawnDoc, ctx: Any, **options: Any) -> Any:
        return self.leaf(doc).construct_requests(doc=doc["doc"], ctx=ctx, **options)

    def process_results(self, doc: DrawnDoc, results: Any) -> Any:
        return self.leaf(doc).process_results(doc["doc"], results)

    def aggregation(self) -> Any:
        return self.leaves[0].aggregation()

    def higher_is_better(self) -> Any:
        return self.leaves[0].higher_is_better()


def gathered(leaves: Sequence[Any]) -> list[DrawnDoc]:
    """Return all documents of tasks, as `Drawn` takes them.

    Many tasks are clusters, since their items have a subject in common.
    """
    # Subjects of one benchmark have texts and authors in common; with few tasks each document
    # stands for itself.
    many = len(leaves) >= LEAST_CLUSTERS
    docs: list[DrawnDoc] = []
    for number, leaf in enumerate(leaves):
        for doc in leaf.eval_docs:
            docs.append({"leaf": number, "doc": doc, "cluster": str(leaf.config.task) if many else _own_cluster(doc)})
    return docs


def _own_cluster(doc: Any) -> str:
    return str(doc.get("cluster") or "") if isinstance(doc, Mapping) else ""


def drawn(name: str, docs: Sequence[DrawnDoc], size: int, seed: int) -> list[DrawnDoc]:
    """Return `size` documents in their order, hash-sampled with a seed: the same in every run, whatever the files' order."""
    # Nothing to draw: then the order stays too.
    if size >= len(docs):
        return list(docs)

    # Equal documents have equal keys: the number of a copy keeps their order fixed, and copies come last.
    keys = []
    seen: Counter[str] = Counter()
    for index, doc in enumerate(docs):
        key = key_of([name, seed, json.dumps(doc["doc"], sort_keys=True, default=str)])
        keys.append((seen[key], key, index))
        seen[key] += 1
    chosen = {index for _, _, index in sorted(keys)[:size]}
    return [doc for index, doc in enumerate(docs) if index in chosen]


def without(task: Any, places: Collection[int]) -> Any:
    """Return the task less the documents at these places."""
    kept = [doc for index, doc in enumerate(task.eval_docs) if index not in places]

    # Tasks of three kinds: items held in memory (which stay what they are), a sub-sample, or lm-eval's own.
    if hasattr(task, "docs") and not isinstance(task, Drawn):
        fewer = copy.copy(task)
        fewer.docs = kept
        fewer._instances = None
        return fewer
    if isinstance(task, Drawn):
        return Drawn(str(task.config.task), task.leaves, kept)
    wrapped = [DrawnDoc(leaf=0, doc=doc, cluster=_own_cluster(doc)) for doc in kept]
    return Drawn(str(task.config.task), [task], wrapped)


def remember(task: Any) -> None:
    """Work out targets and choices once a document: each call renders a template, and scoring asks five times."""
    if isinstance(task, ConfigurableTask) and not hasattr(task, "remembers"):
        task.remembers = True  # pyright: ignore
        for name in ("doc_to_target", "doc_to_choice"):
            setattr(task, name, _remembered(getattr(task, name)))


def _remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function of one document, called once for each; documents live as long as their task."""
    values: dict[int, tuple[Any, Any]] = {}

    def remembered(doc: Any, *more: Any) -> Any:
        if any(more):
            return function(doc, *more)
        # The document is held beside its value, so that its id is given to no other.
        if id(doc) not in values:
            values[id(doc)] = doc, function(doc)
        return values[id(doc)][1]

    return remembered
