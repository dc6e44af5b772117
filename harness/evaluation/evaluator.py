"""Evaluator: every model of a comparison is scored by this one path, the base included; one row an item and metric.

lm-eval runs all likelihood, choice and generation tasks on our model class (harness/evaluation/lm_eval_model.py). Quality is
measured on the same
generations, held-out loss and drift on fixed examples. Requests are built and tokenised once, for all models.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sacrebleu
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from torch import nn

from harness.contract import Example
from harness.doing import counted
from harness.errors import PlanError
from harness.evaluation.backends import answering
from harness.evaluation.codec import Codec
from harness.evaluation.drift import METRICS as DRIFT_METRICS
from harness.evaluation.drift import Base, Drift
from harness.evaluation.lm_eval_model import EvaluatedModel, Generated
from harness.evaluation.prepared_task import Prepared
from harness.stats.measures import HELD_OUT_TEXTS
from harness.store.journal import Journal
from harness.store.schema import ITEM_COLUMNS, PROTOCOL, key_of
from harness.tasks.suites import EvalTask
from harness.text import choice_calibration, text_quality


class Evaluator:
    """Scores models on fixed tasks and examples. `key` names the question; the weights' hash names the answer."""

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
        """`drift_examples`: `domain`, `general` (the pool's) or `held_out` (of families held out) -> examples whose loss and
        drift are measured against `base`.
        `cluster_of`: example id -> cluster. `max_length`: the model's context, read from its config if not given.
        `limit`: items of each task at most, drawn by content. `backend`: hf or vllm (harness/evaluation/backends.py).
        `scoring`: what
        models are scored in."""
        twice = [name for name, n in Counter(task.name for task in tasks).items() if n > 1]
        if twice:
            raise PlanError(*(f"task '{name}' comes from two suites; name it once" for name in twice))
        self.codec = Codec(tokenizer, template)
        items = sum(task.items for task in tasks)
        self.tasks = [Prepared(task, self.codec) for task in counted(tasks, f"rendering {items:,} items, task by task")]
        self._drawn: list[str] = []
        if limit:
            long = [task for task in self.tasks if len(task.docs) > limit]
            self._drawn = [f"{task.told.name}: {limit:,} of {len(task.docs):,} items, drawn by content." for task in long]
            self.tasks = [task.only(task.drawn(limit, 0)) for task in self.tasks]
        self.cluster_of, self.backend, self.scoring = cluster_of or {}, backend, scoring
        self._options: dict[str, Any] = {"token_budget": token_budget, "max_length": max_length}
        self.base = base
        self._drift: dict[str, Drift] = {}
        if base is not None:
            given = (drift_examples or {}).items()
            self._drift = {group: Drift(base, some, self.codec.decode, token_budget) for group, some in given if some}

    @property
    def key(self) -> str:
        """Hash of everything asked: documents, prompts, metrics, decoding, protocol."""
        asked = [
            [
                t.told.name,
                t.told.family,
                t.told.group,
                t.told.seen,
                t.told.channel,
                t.told.metric,
                t.told.chance,
                list(map(t.ids.__getitem__, t.docs)),
                [[i.request_type, i.arguments] for i in t.instances],
            ]
            for t in self.tasks
        ]
        drift = {group: [[e.id, e.tokens, e.supervised] for e in d.examples] for group, d in self._drift.items()}
        question = {"protocol": PROTOCOL, "decoding": "greedy", "tasks": asked, "drift": drift}
        question |= {"calibration": list(choice_calibration.METRICS)}
        question |= {} if self.backend == "hf" else {"backend": self.backend}
        question |= {} if self.scoring == "float32" else {"scoring": self.scoring}
        return key_of(json.loads(json.dumps(question, default=str)) | {"max_length": self._options["max_length"]})

    @property
    def summary(self) -> list[dict[str, Any]]:
        """[{name, tasks, items, families: {family: items}}] a suite."""
        suites: dict[str, dict[str, Any]] = {}
        for task in self.tasks:
            suite = suites.setdefault(task.told.suite, {"name": task.told.suite, "tasks": [], "items": 0, "families": {}})
            suite["tasks"].append(task.told.name)
            suite["items"] += len(task.docs)
            suite["families"][task.told.family] = suite["families"].get(task.told.family, 0) + len(task.docs)
        return list(suites.values())

    @property
    def notes(self) -> list[str]:
        """What the report must say: how items are scored, and which were too long."""
        cut = [
            f"{name}: {n:,} of {total:,} prompts are longer than the model's context and lose their beginning."
            for name, (n, total) in self._truncated().items()
        ]
        spelled = [
            f"{task.told.name}: {n:,} of {len(task.docs):,} items spell out a special token in their text: it is read as text."
            for task in self.tasks
            if (n := task.spelling(self.codec))
        ]
        return [task.told.note for task in self.tasks if task.told.note] + self._drawn + spelled + cut

    def score(
        self,
        model: nn.Module,
        *,
        fraction: float = 1.0,
        alpha: float = 1.0,
        drift: bool = True,
        journal: Journal | None = None,
    ) -> pd.DataFrame:
        """One row an item and metric, as `ITEM_COLUMNS` lays out. The model and all random states are left as they were.

        What the journal knows is not computed again.
        """
        rows: list[dict[str, Any]] = []
        with undisturbed(model):
            if self.tasks:
                with answering(self.backend, model, self.codec, journal=journal, **self._options) as lm:
                    rows += self._answered(lm)
            if drift:
                for group, one in self._drift.items():
                    rows += self._drift_rows(group, one, model, journal)
        frame = pd.DataFrame(rows, columns=list(ITEM_COLUMNS)).assign(fraction=fraction, alpha=alpha)
        return frame.astype(dict(ITEM_COLUMNS))

    def score_answers(self, lm: Any) -> pd.DataFrame:
        """The same of what any lm-eval model answers, without drift."""
        frame = pd.DataFrame(self._answered(lm), columns=list(ITEM_COLUMNS)).assign(fraction=1.0, alpha=1.0)
        return frame.astype(dict(ITEM_COLUMNS))

    def _answered(self, lm: Any) -> list[dict[str, Any]]:
        named = {task.told.name: task for task in self.tasks}
        asked: Any = {"tasks": named, "groups": {}, "group_map": {}}
        results: Any = evaluate(lm, asked, bootstrap_iters=0, log_samples=True)
        return [row for name, samples in results["samples"].items() for row in _task_rows(named[name], samples)]

    def general_only(self) -> Evaluator:
        """The same on the general tasks alone, without drift."""
        chosen = copy.copy(self)
        chosen._drift, chosen.tasks = {}, [task for task in self.tasks if task.told.group == "general"]
        return chosen

    def sample(self, domain: int, general: int, seed: int = 0, drift: int = 0) -> Evaluator:
        """The same on about this many items of each group, spread evenly over its tasks; drift on so many examples."""
        chosen = copy.copy(self)
        chosen._drift = {group: one.first(drift) for group, one in self._drift.items()} if drift else {}
        chosen.tasks = []
        for group, wanted in (("domain", domain), ("general", general)):
            tasks = [task for task in self.tasks if task.told.group == group]
            for place, task in enumerate(tasks):
                n = wanted // len(tasks) + (place < wanted % len(tasks))
                if n:
                    chosen.tasks.append(task.only(task.drawn(n, seed)))
        return chosen

    def part_of(self, scores: pd.DataFrame) -> pd.DataFrame:
        """This evaluation's rows of one that asked the same and more."""
        asked = {(task.told.name, task.ids[place]) for task in self.tasks for place in task.docs}
        asked |= {(_drift_task(group), example.id) for group, one in self._drift.items() for example in one.examples}
        return scores[[pair in asked for pair in zip(scores["task"], scores["item"], strict=True)]]

    def check(self) -> None:
        """Raises RuntimeError where held-out losses are not the model's own."""
        for one in self._drift.values():
            one.check()

    def remember_base(self) -> None:
        """Keep what drift needs of the base, for processes that inherit this evaluator."""
        for one in self._drift.values():
            one.remember()

    def _truncated(self) -> dict[str, tuple[int, int]]:
        """Task -> (items whose prompt is cut, items), for tasks that have any; nothing where no base is at hand."""
        if self.base is None:
            return {}
        lm, found = EvaluatedModel(self.base(), self.codec, **self._options), {}
        for task in self.tasks:
            long: set[int] = set()
            for instance, size in zip(task.instances, task.sizes(lm), strict=False):
                if size > lm.max_length:
                    long.add(instance.doc_id)
            if long:
                found[task.told.name] = (len(long), len(task.docs))
        return found

    def _drift_rows(self, group: str, drift: Drift, model: nn.Module, journal: Journal | None) -> list[dict[str, Any]]:
        name = _drift_task(group)
        fixed = {"task": name, "family": name} | DRIFT_GROUPS[group]
        fixed |= {"primary": False, "higher_better": False, "chance": 0.0}
        return [
            fixed | {"channel": DRIFT_METRICS[metric], "metric": metric, "score": value}
            | {"item": example.id, "cluster": self.cluster_of.get(record := example.id.partition(".")[0], record)}
            for example, values in drift.measure(model, journal)
            for metric, value in values.items()
        ]  # fmt: skip


DRIFT_GROUPS: dict[str, dict[str, Any]] = {
    "domain": {"group": "domain", "seen": None},
    "general": {"group": "general", "seen": True},
    "held_out": {"group": "general", "seen": False},
}
"""What texts whose drift is measured are of: records of the pool are of families that methods may draw on."""


def _drift_task(group: str) -> str:
    return HELD_OUT_TEXTS if group == "held_out" else f"{group}_held_out"


def headline(scores: pd.DataFrame) -> dict[str, float]:
    """{domain, retention}: macro means of the primary scores (families over their tasks first), for decisions on dev items.

    Tasks where lower is better have another scale and stay out. NaN where a group has no items.
    """
    primary: Any = scores[scores["primary"].astype(bool) & scores["higher_better"].fillna(False).astype(bool)]
    tasks: Any = primary.groupby(["group", "family", "task"], as_index=False)["score"].mean()
    families: Any = tasks.groupby(["group", "family"], as_index=False)["score"].mean()
    means = {group: families.loc[families["group"] == group, "score"].mean() for group in ("domain", "general")}
    return {"domain": float(means["domain"]), "retention": float(means["general"])}


# --- from lm-eval's samples to rows ------------------------------------------------------------------------------------


def _task_rows(task: Prepared, samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of one task: its metrics under every filter, and the quality of what was generated."""
    told, first = task.told, task.task._filters[0].name
    better = task.task.higher_is_better()
    for sample in samples:
        place = sample["doc_id"]
        fixed = {"task": told.name, "family": told.family, "group": told.group, "seen": told.seen}
        fixed |= {"item": task.ids[place], "cluster": _cluster(task, place)}
        for metric in sample["metrics"]:
            value = item_score(metric, sample[metric])
            if value is None:
                continue
            name = metric if sample["filter"] == first else f"{metric},{sample['filter']}"
            primary = name == told.metric.removesuffix(f",{first}")
            row = {"channel": told.channel, "metric": name, "primary": primary, "score": value}
            row |= {"higher_better": better.get(metric, True), "chance": task.chance(place) if primary else 0.0}
            yield fixed | row | (_texts(task, sample) if primary else {})
        if task.task.OUTPUT_TYPE == "multiple_choice" and sample["filter"] == first:
            for metric, value in choice_calibration.measure(*_options(task, sample)).items():
                row = {"channel": "calibration", "metric": metric, "primary": False, "score": value, "chance": 0.0}
                yield fixed | row | {"higher_better": choice_calibration.METRICS[metric]}
        text = sample["resps"][0][0]
        if isinstance(text, Generated) and sample["filter"] == first:
            for metric, value in text_quality.measure(text, text.tokens, text.stopped).items():
                row = {"channel": "degeneration", "metric": metric, "primary": False, "score": value, "chance": 0.0}
                yield fixed | row | {"higher_better": text_quality.METRICS[metric]}


def item_score(metric: str, value: Any) -> float | None:
    """One number an item, or None for metrics that exist only over a corpus (F1 over classes, BLEU)."""
    if isinstance(value, (bool, int, float, np.number)):
        return None if metric == "perplexity" else float(value)
    if metric == "chrf":  # of each sentence; lm-eval's is of the corpus
        reference, output = value
        return sacrebleu.sentence_chrf(str(output), [str(reference)]).score / 100
    if metric == "bits_per_byte":
        return -value[0] / value[1] / float(np.log(2))
    if metric == "brier_score":
        gold, probabilities = value
        return float(((np.asarray(probabilities) - np.eye(len(probabilities))[gold]) ** 2).sum())
    return None


def _texts(task: Prepared, sample: dict[str, Any]) -> dict[str, str]:
    """Prompt, output and target, as read by people."""
    prompt, output, target = sample["arguments"][0][0], sample["resps"][0][0], sample["target"]
    if task.task.OUTPUT_TYPE == "multiple_choice":
        choices = task.task.doc_to_choice(sample["doc"])
        if len({arguments[0] for arguments in sample["arguments"]}) > 1:  # the choices are in the prompts
            choices = [arguments[0] for arguments in sample["arguments"]]
        likelihoods = [answer[0][0] for answer in sample["resps"]][: len(choices)]
        output = choices[int(np.argmax(likelihoods))]
        target = choices[target] if isinstance(target, int) and target < len(choices) else target
    elif not isinstance(output, str):
        prompt, output = ("", "") if task.task.OUTPUT_TYPE == "loglikelihood_rolling" else (prompt, "")
    return {"prompt": str(prompt), "output": str(output), "target": str(target)}


def _options(task: Prepared, sample: dict[str, Any]) -> tuple[list[float], int | None]:
    """Nats of each option, and which is right; None where the task does not say so by a place."""
    answers = [answer[0][0] for answer in sample["resps"]][: len(task.task.doc_to_choice(sample["doc"]))]
    gold = task.task.doc_to_target(sample["doc"]) if isinstance(task.task, ConfigurableTask) else sample["doc"].get("answer")
    if isinstance(gold, str):
        gold = (task.task.doc_to_choice(sample["doc"])).index(gold) if gold in task.task.doc_to_choice(sample["doc"]) else None
    return answers, gold if isinstance(gold, int) and 0 <= gold < len(answers) else None


def _cluster(task: Prepared, place: int) -> str:
    doc = task.docs[place]
    return str((doc.get("cluster") if isinstance(doc, Mapping) else None) or task.ids[place])


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients; module modes are put back, and the global random generators of all that computes here."""
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}  # asking others would set them up
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            random.setstate(python)
            np.random.set_state(numpy)
