"""Lm-eval tasks made ready once for all models of a comparison: documents, ids, rendered requests."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from harness.evaluation.codec import Codec, encode_pairs
from harness.evaluation.lm_eval_model import EvaluatedModel, render
from harness.store.schema import key_of
from harness.tasks.eval_task import EvalTask
from harness.tasks.subset import remember
from harness.text.named_answers import named_chance
from harness.tokens.rendered import Rendered

Beside = Callable[[Sequence[Any]], Sequence[Mapping[str, Any]]]
"""Answered requests -> what is told of each."""
PICKED = ("exact_match", "numeric")
"""Metrics of generated answers that whoever picks the right one of the named things gets in full."""


class Prepared:
    """An lm-eval task whose documents and requests are made once and may be sub-sampled; the rest is the task's own."""

    def __init__(self, spec: EvalTask, codec: Codec) -> None:
        self.spec = spec
        self.task = spec.task
        self.docs = dict(enumerate(spec.task.eval_docs))
        self.beside: Beside | None = None
        """What the scorer is told of an answer beside its text; None: nothing."""
        # Targets and choices are worked out once a document.
        remember(spec.task)
        template = codec.template.thoughtful if spec.thinking else codec.template.skipping
        render_chat = partial(render, template) if spec.chat else None
        with contextlib.redirect_stderr(io.StringIO()):  # lm-eval shows a progress bar per task
            self.task.build_all_requests(apply_chat_template=spec.chat, chat_template=render_chat)
        self._instances = list(self.task.instances)
        self.ids = _item_ids(spec.name, self.docs)
        self.choices = Counter(instance.doc_id for instance in self._instances)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked while being copied
            raise AttributeError(name)
        return getattr(self.task, name)

    @property
    def instances(self) -> list[Any]:
        """The task's requests."""
        return self._instances

    @property
    def filters(self) -> list[Any]:
        """The task's filters: lm-eval's private `_filters`, read against version 0.4.13."""
        return self.task._filters

    def build_all_requests(self, **_: Any) -> None:
        """Forget the last model's answers."""
        # Requests are made once and shared by all models, so only the answers go.
        for instance in self._instances:
            instance.resps = []
            instance.filtered_resps = {}

    def apply_filters(self) -> None:
        """Filter the answers of the chosen documents only, and tell the scorer what it is told beside them."""
        for ensemble in self.filters:
            ensemble.apply(self._instances)
        if self.beside:
            for instance, facts in zip(self._instances, self.beside(self._instances), strict=True):
                self.docs[instance.doc_id]["told"] = facts

    def doc_iterator(self, **_: Any) -> Iterator[tuple[int, Any]]:
        """Return the chosen documents, each with its index in the whole task."""
        return iter(self.docs.items())

    def only(self, indices: set[int]) -> Prepared:
        """Return the same task on some of its documents."""
        # A shallow copy shares the rendered prompts, which are most of the memory.
        chosen = copy.copy(self)
        chosen.docs = {index: doc for index, doc in self.docs.items() if index in indices}
        chosen._instances = [copy.copy(instance) for instance in self._instances if instance.doc_id in indices]
        return chosen

    def hash_sample(self, size: int, seed: int) -> set[int]:
        """Return the indices of `size` documents, those with the smallest hashes of seed and content.

        They are the same in every run, whatever the file's order.
        """
        # By hash, so that a larger sample holds the smaller one, and equal items are drawn in every
        # run.
        order = sorted(self.docs, key=lambda index: key_of([seed, self.ids[index]]))
        return set(order[:size])

    def chance(self, index: int) -> float:
        """Return the score of a guess: as the item says, else as the task says, else of picking a thing the prompt names."""
        doc = self.docs[index]
        declared = doc.get("chance") if isinstance(doc, Mapping) else None
        if isinstance(declared, (int, float)):
            return float(declared)
        if self.spec.chance is None:
            # Multiple choice: each option is as likely as the others.
            return 1 / self.choices[index]
        # named things are looked for in general tasks only, and only where the task has no chance level of its own
        metric = self.spec.metric.partition(",")[0]
        if self.spec.chance or self.spec.group != "general" or metric not in PICKED:
            return self.spec.chance
        targets = doc.get("targets") if isinstance(doc, Mapping) else None
        if not targets:
            targets = [self.task.doc_to_target(doc)]
        return named_chance(str(self.task.doc_to_text(doc)), [str(text) for text in targets])

    def spelling(self, codec: Codec) -> int:
        """Return the number of items with a special token spelled out in a prompt or choice."""
        items = set()
        for instance in self.instances:
            context, *others = instance.args
            texts = [turn.content for turn in context.turns] if isinstance(context, Rendered) else [context]
            texts += others
            if any(codec.tokens.spells(text) for text in texts if isinstance(text, str)):
                items.add(instance.doc_id)
        return len(items)

    def sizes(self, lm: EvaluatedModel) -> list[int]:
        """Return the tokens each request needs of the context: prompt and continuation, or prompt and room to answer."""
        kind = self.task.OUTPUT_TYPE
        if kind == "loglikelihood_rolling":
            return [0] * len(self.instances)  # read in windows, so never too long
        arguments = [instance.args for instance in self.instances]
        if kind == "generate_until":
            contexts = lm.codec.encode([context for context, _ in arguments])
            limits = [lm.plan(settings)[0] for _, settings in arguments]
            return [len(context) + limit for context, limit in zip(contexts, limits, strict=False)]
        pairs = encode_pairs(lm.codec, arguments)
        return [len(context) + len(tokens) - 1 for context, tokens in pairs]


def _item_ids(task: str, docs: Mapping[int, Any]) -> dict[int, str]:
    """Return index -> id: a hash of task and content, the same in every run and sub-sample; equal documents are numbered."""
    copies: Counter[str] = Counter()
    ids = {}
    for index, doc in docs.items():
        # With the task's name: one document in two tasks is two items.
        name = key_of([task, json.dumps(doc, sort_keys=True, default=str)])
        copies[name] += 1
        ids[index] = name if copies[name] == 1 else f"{name}-{copies[name]}"
    return ids


def question_of(task: Prepared) -> list[Any]:
    """Return what the evaluation's key holds of a task."""
    spec = task.spec
    description = [spec.name, spec.family, spec.group, spec.seen, spec.channel, spec.metric, spec.chance]
    if spec.fluency:  # left out elsewhere, so that scores stored before it existed are still found
        description.append("fluency")
    items = [task.ids[index] for index in task.docs]
    requests = [[instance.request_type, instance.arguments] for instance in task.instances]
    return [*description, items, requests]


def sampling_notes(tasks: Sequence[Prepared], limit: int) -> list[str]:
    """Return a sentence for each task that has more items than are asked."""
    notes = []
    for task in tasks:
        if len(task.docs) > limit:
            notes.append(f"{task.spec.name}: {limit:,} of {len(task.docs):,} items, drawn by content.")
    return notes
