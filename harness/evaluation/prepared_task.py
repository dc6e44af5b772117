"""Lm-eval tasks made ready once for all models of a comparison: documents, ids, rendered requests."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from harness.evaluation.codec import Codec, encode_pairs
from harness.evaluation.lm_eval_model import EvaluatedModel, render
from harness.store.schema import key_of
from harness.tasks.subset import remember
from harness.tasks.suites import EvalTask
from harness.text.named_answers import named_chance
from harness.tokens.rendered import Rendered

PICKED = ("exact_match", "numeric")
"""Metrics of generated answers that whoever picks the right one of the named things gets in full."""


class Prepared:
    """An lm-eval task whose documents and requests are made once and may be sub-sampled; the rest is the task's own."""

    def __init__(self, told: EvalTask, codec: Codec) -> None:
        self.told, self.task = told, told.task
        self.docs = dict(enumerate(told.task.eval_docs))
        remember(told.task)
        render_chat = partial(render, codec.template)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar a task
            self.task.build_all_requests(apply_chat_template=told.chat, chat_template=render_chat if told.chat else None)
        self._instances = list(self.task.instances)
        self.ids = _item_ids(told.name, self.docs)
        self.choices = Counter(instance.doc_id for instance in self._instances)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked while being copied
            raise AttributeError(name)
        return getattr(self.task, name)

    @property
    def instances(self) -> list[Any]:
        return self._instances

    def build_all_requests(self, **_: Any) -> None:
        """Forget the last model's answers."""
        for instance in self._instances:
            instance.resps, instance.filtered_resps = [], {}

    def apply_filters(self) -> None:
        for ensemble in self.task._filters:
            ensemble.apply(self._instances)

    def doc_iterator(self, **_: Any) -> Iterator[tuple[int, Any]]:
        return iter(self.docs.items())

    def only(self, places: set[int]) -> Prepared:
        """The same task on some of its documents."""
        chosen = copy.copy(self)
        chosen.docs = {place: doc for place, doc in self.docs.items() if place in places}
        chosen._instances = [copy.copy(instance) for instance in self._instances if instance.doc_id in places]
        return chosen

    def drawn(self, n: int, seed: int) -> set[int]:
        """Places of n documents, drawn by content and seed: the same in every run, whatever the file's order."""
        return set(sorted(self.docs, key=lambda place: key_of([seed, self.ids[place]]))[:n])

    def chance(self, place: int) -> float:
        """Score of a guess: as the item says, as the task says, or of picking one of the things that a prompt names."""
        doc = self.docs[place]
        given = doc.get("chance") if isinstance(doc, Mapping) else None
        if isinstance(given, (int, float)):
            return float(given)
        if self.told.chance is None:
            return 1 / self.choices[place]
        if self.told.chance or self.told.group != "general" or self.told.metric.partition(",")[0] not in PICKED:
            return self.told.chance
        targets = doc.get("targets") if isinstance(doc, Mapping) else None
        target = targets or [self.task.doc_to_target(doc)]
        return named_chance(str(self.task.doc_to_text(doc)), [str(text) for text in target])

    def spelling(self, codec: Codec) -> int:
        """Items with a special token spelled out in a prompt or choice."""
        found = set()
        for instance in self.instances:
            context, *rest = instance.args
            turns = [turn.content for turn in context.turns] if isinstance(context, Rendered) else [context]
            texts = [text for text in (*turns, *rest) if isinstance(text, str)]
            if any(codec.tokens.spells(text) for text in texts):
                found.add(instance.doc_id)
        return len(found)

    def sizes(self, lm: EvaluatedModel) -> list[int]:
        """Tokens each request needs of the context: prompt and continuation, or prompt and room to answer."""
        kind = self.task.OUTPUT_TYPE
        if kind == "loglikelihood_rolling":
            return [0] * len(self.instances)  # read in windows
        arguments = [instance.args for instance in self.instances]
        if kind == "generate_until":
            contexts = lm.codec.encode([context for context, _ in arguments])
            return [len(context) + lm.plan(settings)[0] for context, (_, settings) in zip(contexts, arguments, strict=False)]
        return [len(context) + len(tokens) - 1 for context, tokens in encode_pairs(lm.codec, arguments)]


def _item_ids(task: str, docs: Mapping[int, Any]) -> dict[int, str]:
    """Place -> id: a hash of task and content, the same in every run and sub-sample; equal documents are numbered."""
    seen: Counter[str] = Counter()
    ids = {}
    for place, doc in docs.items():
        name = key_of([task, json.dumps(doc, sort_keys=True, default=str)])
        seen[name] += 1
        ids[place] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return ids
