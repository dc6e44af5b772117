"""What is gained without learning: rows of every table that no model is behind, scored by the same scorers on the same items.

`constant answer` always gives the training answer that scores best on the training answers of an item's kind: the commonest,
where answers repeat. `random choice` picks one of an item's choices, and is there where items have any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from harness.evaluation.codec import Codec
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.lm_eval_model import Generated
from harness.files.records import Record
from harness.setup.material import Material
from harness.setup.suite_tasks import domain_of
from harness.store.runs import RunStore
from harness.store.schema import PROTOCOL, RowRecord, key_of
from harness.tasks.domain import Kinds, read_asked, target_of
from harness.text import answer_metrics
from harness.text.answer_metrics import RequestedMetric
from harness.vocabulary import EvalKind, Role, Status, Track

ROWS = {Role.CONSTANT: "constant answer", Role.GUESS: "random choice"}
"""Role -> row."""
CANDIDATES, TRIED = 20, 150
"""Of the commonest training answers so many are tried, on so many training answers."""


def constant_rows(material: Material, evals: Mapping[EvalKind, str], store: RunStore) -> list[RowRecord]:
    """Return the rows as comparison.json keeps them, their scores stored where the store lacks them.

    None where a domain's task asks for likelihoods (texts, test files with options): an answer has none.

    `evals`: the keys of the comparison's evaluations.
    """
    # A constant text has no likelihood, so it cannot answer such tasks.
    if any(task.task.OUTPUT_TYPE != "generate_until" for task in domain_of(material)):
        return []
    answers = training_answers(material)
    choices = _has_choices(material)
    key = evals[EvalKind.FINAL]
    entries = []
    for role, row in ROWS.items():
        # Guessing needs options to guess from.
        if not answers or (role == Role.GUESS and not choices):
            continue

        # The answer is part of the key: other training data is another row.
        question = {"protocol": PROTOCOL, "role": role, "answers": answers}
        folder = store.run(key_of(question))
        if folder.status != Status.DONE or not folder.has_scores(EvalKind.FINAL, key):
            evaluator = Evaluator(
                domain_of(material),
                material.template,
                material.base.tokenizer,
                limit=material.plan.limit,
                cluster_of=material.dataset.cluster_of,
            )
            lm = Answers(evaluator.codec, answers, guess=role == Role.GUESS)
            folder.write_scores(EvalKind.FINAL, key, evaluator.score_answers(lm))
            if folder.status != Status.DONE:
                folder.end(Status.DONE)
        evals = {EvalKind.FINAL: key}
        entry = RowRecord(row=row, recipe="", role=role, track=Track.FREE, seed=0, key=folder.key, evals=evals)
        entries.append(entry)
    return entries


def training_answers(material: Material) -> dict[str, str]:
    """Return task -> its constant answer, from the training records that would be in that task."""
    constants = {}
    for stage in material.stages:
        kinds = Kinds.of(stage.test, read_asked(material.plan.domain_metric))
        for kind, records in kinds.split(stage.train).items():
            constants[kinds.title(stage.name, kind)] = best_constant(records, kinds.metrics[kind])
    return constants


def best_constant(records: Sequence[Record], metric: RequestedMetric) -> str:
    """Return the answer of these records that scores best on all of them; of equals the commoner, then the first by text."""
    answers = [target_of(record) for record in records]
    choices = [record.choices or () for record in records]

    # Every answer against every answer would take the square of their number.
    counts = Counter(answers)
    candidates = sorted(counts, key=lambda text: (-counts[text], text))[:CANDIDATES]
    # By hash, so that the same records are tried in every run.
    tried = sorted(range(len(answers)), key=lambda index: key_of([index, answers[index]]))[:TRIED]

    def score(text: str) -> float:
        return sum(answer_metrics.best(metric.metric, text, [answers[i]], choices[i], metric.measure) for i in tried)

    return max(candidates, key=score)


def _has_choices(material: Material) -> bool:
    return any(record.choices for record in chain.from_iterable(stage.test for stage in material.stages))


class Answers(LM):
    """Gives each task's constant answer, or one of an item's choices, where lm-eval asks a model."""

    def __init__(self, codec: Codec, answers: Mapping[str, str], guess: bool = False) -> None:
        super().__init__()
        self.codec, self.answers, self.guess = codec, answers, guess

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:  # type: ignore[override]
        return [self._said(self._answer(request)) for request in requests]

    def _answer(self, request: Instance) -> str:
        choices = request.doc.get("choices") or ()
        # By a hash of the item, so that a guess is the same for every comparison.
        if self.guess and choices:
            return choices[int(key_of(["guess", request.doc["id"]]), 16) % len(choices)]
        return self.answers.get(str(request.task_name), "")

    def _said(self, text: str) -> Generated:
        return Generated(text, self.codec.encode([text], whole=False)[0])

    def loglikelihood(self, requests: Sequence[Instance], **_: Any) -> list[tuple[float, bool]]:  # type: ignore[override]
        raise NotImplementedError("a constant answer has no likelihood")

    loglikelihood_rolling: Callable[..., Any] = loglikelihood  # type: ignore[assignment]
