"""Evaluator: scores every model of a comparison the same way; one row per item and metric.

The base is scored as every other model. lm-eval runs all likelihood, choice and generation tasks on
our model class (harness/evaluation/lm_eval_model.py). Quality is measured on the same generations,
held-out loss and drift on fixed examples. Requests are built and tokenised once, for all models.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from lm_eval.evaluator import evaluate
from torch import nn

from harness.contract import Example
from harness.doing import counted
from harness.errors import PlanError
from harness.evaluation.backends import answering
from harness.evaluation.beside import AnswerFacts
from harness.evaluation.codec import Codec
from harness.evaluation.drift import Base, Drift, drift_task
from harness.evaluation.item_rows import frame_of, task_rows
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.evaluation.prepared_task import Prepared, question_of, sampling_notes
from harness.evaluation.undisturbed import undisturbed
from harness.store.journal import Journal
from harness.store.schema import PROTOCOL, ItemRow, SuiteRecord, key_of
from harness.tasks.eval_task import EvalTask
from harness.text import choice_calibration


class Evaluator:
    """Scorer of models on fixed tasks and examples.

    `key` names the question; the weights' hash names the answer.
    """

    def __init__(  # noqa: PLR0913
        self,
        tasks: Sequence[EvalTask],
        template: Any,
        tokenizer: Any,
        *,
        base: Base | None = None,
        drift_examples: Mapping[str, Sequence[Example]] | None = None,
        cluster_of: Mapping[str, str] | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        limit: int | None = None,
        backend: str = "hf",
        scoring: str = "float32",
    ) -> None:
        """Prepare the tasks and examples.

        `drift_examples`: `domain`, `general` (the pool's) or `held_out` (of families held out) ->
        examples whose loss and drift are measured against `base`.
        `cluster_of`: example id -> cluster.
        `max_length`: the model's context, read from its config if not given.
        `limit`: items of each task at most, hash-sampled (chosen by a hash of their content, so
        always the same).
        `backend`: hf or vllm (harness/evaluation/backends.py).
        `scoring`: the precision in which models are scored.
        """
        _refuse_repeated(tasks)
        self.codec = Codec(tokenizer, template)

        self._prepare(tasks, template, limit)
        self.cluster_of = cluster_of or {}
        self.backend = backend
        self.scoring = scoring
        self._options: dict[str, Any] = {"token_budget": token_budget, "max_length": max_length}
        self.base = base
        self._tell_scorers(max_length)
        self._drift = self._drift_of(drift_examples or {}, token_budget)

    def _prepare(self, tasks: Sequence[EvalTask], template: Any, limit: int | None) -> None:
        """Make the tasks ready, except those that the template cannot ask.

        `limit`: so many items of each at most.
        """
        # A model that knows no thoughts would be asked for what it cannot say.
        self._thoughtless: list[str] = []
        for task in tasks:
            if task.thinking and not template.knows_thoughts:
                self._thoughtless.append(task.name)
        tasks = [task for task in tasks if task.name not in self._thoughtless]
        items = sum(task.items for task in tasks)
        tasks_in_turn = counted(tasks, f"rendering {items:,} items, task by task")
        self.tasks = [Prepared(task, self.codec) for task in tasks_in_turn]
        self._sampling_notes: list[str] = []

        # Sampled by a hash, so that every model and every run is asked the same items.
        if limit:
            self._sampling_notes = sampling_notes(self.tasks, limit)
            self.tasks = [task.only(task.hash_sample(limit, 0)) for task in self.tasks]

    def _drift_of(
        self,
        drift_examples: Mapping[str, Sequence[Example]],
        token_budget: int | None,
    ) -> dict[str, Drift]:
        """Return what measures drift, by group of texts."""
        # Drift has no meaning without a base, and a group without examples has no drift.
        drift: dict[str, Drift] = {}
        if self.base is None:
            return drift
        for group, examples in drift_examples.items():
            if examples:
                drift[group] = Drift(self.base, examples, self.codec.decode, token_budget)
        return drift

    def _tell_scorers(self, max_length: int | None) -> None:
        """Give scorers what they need beside the answers. Only a base can judge fluency."""
        for task in self.tasks:
            judge = self.base if task.spec.fluency else None
            if task.spec.thinking or judge is not None:
                task.beside = AnswerFacts(self.codec, judge, max_length)

    @property
    def key(self) -> str:
        """Hash of everything asked: documents, prompts, metrics, decoding, protocol."""
        # Everything that an answer depends on is in the key; what only labels rows is not.
        drift: dict[str, Any] = {}
        for group, measured in self._drift.items():
            drift[group] = [[e.id, e.tokens, e.supervised] for e in measured.examples]
        question: dict[str, Any] = {
            "protocol": PROTOCOL,
            "decoding": "greedy",
            "tasks": [question_of(task) for task in self.tasks],
            "drift": drift,
            "calibration": list(choice_calibration.METRICS),
        }
        # defaults are left out, so that scores stored before these options existed are still found
        if self.backend != "hf":
            question["backend"] = self.backend
        if self.scoring != "float32":
            question["scoring"] = self.scoring
        # Through JSON, so that tuples and lists are one and the key does not depend on how a value
        # was built.
        plain = json.loads(json.dumps(question, default=str))
        return key_of(plain | {"max_length": self._options["max_length"]})

    @property
    def summary(self) -> list[SuiteRecord]:
        """Tasks, items, families and their column groups: one record per suite."""
        suites: dict[str, SuiteRecord] = {}
        for task in self.tasks:
            name = task.spec.suite
            family = task.spec.family
            if name not in suites:
                suites[name] = {"name": name, "tasks": [], "items": 0, "families": {}, "areas": {}}
            suite = suites[name]
            suite["tasks"].append(task.spec.name)
            suite["items"] += len(task.docs)
            suite["families"][family] = suite["families"].get(family, 0) + len(task.docs)
            if task.spec.group == "general":
                suite["areas"][family] = str(task.spec.area)
        return list(suites.values())

    @property
    def notes(self) -> list[str]:
        """Sentences the report must show: how items are scored, and which were too long."""
        notes = [task.spec.note for task in self.tasks if task.spec.note]
        notes += self._sampling_notes
        for name in self._thoughtless:
            notes.append(f"{name}: the chat template knows no thoughts: left out.")
        # The report must say where a prompt is not what its author wrote.
        for task in self.tasks:
            spelled = task.spelling(self.codec)
            if spelled:
                share = f"{spelled:,} of {len(task.docs):,} items"
                reason = "spell out a special token in their text: it is read as text"
                notes.append(f"{task.spec.name}: {share} {reason}.")
        for name, (cut, total) in self._truncated().items():
            share = f"{cut:,} of {total:,} prompts"
            reason = "are longer than the model's context and lose their beginning"
            notes.append(f"{name}: {share} {reason}.")
        return notes

    def score(
        self,
        model: nn.Module,
        *,
        fraction: float = 1.0,
        alpha: float = 1.0,
        drift: bool = True,
        journal: Journal | None = None,
    ) -> pd.DataFrame:
        """Return one row per item and metric, as `ITEM_COLUMNS` lays out.

        The model and all random states are left as they were. Answers that the journal has are not
        computed again.
        """
        rows: list[ItemRow] = []
        with undisturbed(model):
            if self.tasks:
                options = {"journal": journal, **self._options}
                with answering(self.backend, model, self.codec, **options) as lm:
                    rows += self._answered(lm)
            if drift:
                for group, measured in self._drift.items():
                    rows += measured.rows(group, model, journal, self.cluster_of)
        return frame_of(rows, fraction, alpha)

    def score_answers(self, lm: Any) -> pd.DataFrame:
        """Return the same rows for the answers of any lm-eval model, without drift."""
        return frame_of(self._answered(lm), fraction=1.0, alpha=1.0)

    def _answered(self, lm: Any) -> list[ItemRow]:
        # lm-eval takes a dictionary of its own form; it calls our tasks, which have forgotten the
        # last model's answers.
        named = {task.spec.name: task for task in self.tasks}
        collection: Any = {"tasks": named, "groups": {}, "group_map": {}}
        results: Any = evaluate(lm, collection, bootstrap_iters=0, log_samples=True)
        rows: list[ItemRow] = []
        for name, samples in results["samples"].items():
            rows += task_rows(named[name], samples)
        return rows

    def general_only(self) -> Evaluator:
        """Return the same evaluator on the general tasks alone, without drift."""
        chosen = copy.copy(self)
        chosen._drift = {}
        chosen.tasks = [task for task in self.tasks if task.spec.group == "general"]
        return chosen

    def sample(self, domain: int, general: int, seed: int = 0, drift: int = 0) -> Evaluator:
        """Return the same evaluator on about this many items per group.

        They are spread evenly over the group's tasks. Drift is measured on the first `drift`
        examples of each group.
        """
        chosen = copy.copy(self)
        chosen._drift = {}
        if drift:
            for group, measured in self._drift.items():
                chosen._drift[group] = measured.first(drift)
        chosen.tasks = []
        for group, wanted in (("domain", domain), ("general", general)):
            tasks = [task for task in self.tasks if task.spec.group == group]
            for number, task in enumerate(tasks):
                # the remainder of the division goes to the first tasks, one item each
                size = wanted // len(tasks)
                if number < wanted % len(tasks):
                    size += 1
                if size:
                    chosen.tasks.append(task.only(task.hash_sample(size, seed)))
        return chosen

    def part_of(self, scores: pd.DataFrame) -> pd.DataFrame:
        """Return this evaluation's rows of the scores of one that asked the same and more."""
        # By item, not by task: a sample of a task is part of it.
        pairs: set[tuple[str, str]] = set()
        for task in self.tasks:
            pairs |= {(task.spec.name, task.ids[index]) for index in task.docs}
        for group, measured in self._drift.items():
            pairs |= {(drift_task(group), example.id) for example in measured.examples}
        inside = [pair in pairs for pair in zip(scores["task"], scores["item"], strict=True)]
        return scores[inside]

    def check(self) -> None:
        """Raise RuntimeError if held-out losses are not the model's own."""
        for measured in self._drift.values():
            measured.check()

    def remember_base(self) -> None:
        """Keep what drift needs of the base, for processes that inherit this evaluator."""
        for measured in self._drift.values():
            measured.remember()

    def _truncated(self) -> dict[str, tuple[int, int]]:
        """Return task -> (items whose prompt is cut, items); empty without a base."""
        if self.base is None:
            return {}
        lm = EvaluatedModel(self.base(), self.codec, **self._options)
        truncated: dict[str, tuple[int, int]] = {}
        for task in self.tasks:
            # An item has several requests (one a choice) and counts once.
            long: set[int] = set()
            for instance, size in zip(task.instances, task.sizes(lm), strict=False):
                if size > lm.max_length:
                    long.add(instance.doc_id)
            if long:
                truncated[task.spec.name] = (len(long), len(task.docs))
        return truncated


def _refuse_repeated(tasks: Sequence[EvalTask]) -> None:
    """Raise PlanError where a name stands for two tasks: rows of scores are told apart by it."""
    occurrences = Counter(task.name for task in tasks)
    repeated = [name for name, count in occurrences.items() if count > 1]
    if repeated:
        faults = [f"task '{name}' comes from two suites; name it once" for name in repeated]
        raise PlanError(*faults)
