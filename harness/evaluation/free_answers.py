"""Free answers to a fixed set of domain and general prompts: greedy, sampled, and to the same prompts reworded.

Suites cut an answer where their scorer stops reading; here every model may say up to 128 tokens, so that what it says when
it does not stop is seen too. The texts are stored: measures over several outputs are taken from them by the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from harness.decoding.capabilities import continuations
from harness.decoding.generate import Prompt, most_likely, sampled
from harness.decoding.prefix_tree import Ids
from harness.evaluation.beside import base_bits_per_byte
from harness.evaluation.drift import Base
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.evaluation.prepared_task import Prepared
from harness.evaluation.undisturbed import undisturbed
from harness.files.records import Record
from harness.files.turns import Turn
from harness.models.placement import while_memory_runs_out
from harness.store.journal import Journal
from harness.store.schema import ITEM_COLUMNS, PROTOCOL, ItemRow, key_of
from harness.text import answer_metrics, text_quality
from harness.text.numbers import last_number
from harness.text.rewordings import rewrites

PROMPTS = 48
"""Prompts of each group, spread evenly over its generation tasks."""
SAMPLED = 24
"""How many of them are answered by sampling too."""
REWORDED = 24
"""How many domain prompts are asked reworded; a general task's items declare their own rewrites."""
LIMIT = 128
"""Tokens an answer may have."""
TEMPERATURE = 0.7
SEED = 20251
"""Of the sampled answers, the same for every model."""


@dataclass(frozen=True)
class Open:
    """One prompt, and what a good answer to it would be."""

    group: str
    item: str
    cluster: str
    metric: str
    """How its answer is read where two answers are compared."""
    text: str
    """As the model reads it, chat template included."""
    target: str
    choices: tuple[str, ...]
    reworded: tuple[str, ...]
    """The same prompt in other words, likewise; empty where none is known."""


class Outputs:
    """Asks models for free answers. `key` names the question, as an Evaluator's does."""

    def __init__(self, prompts: Sequence[Open], evaluator: Evaluator, base: Base | None, max_length: int):
        """`evaluator` lends its codec; `base` judges how likely it would itself have said what a model says.

        None where it has other tokens, and so cannot.
        """
        self.prompts = list(prompts)
        self.codec = evaluator.codec
        self.base = base
        self.max_length = max_length
        self.limit = min(LIMIT, max_length // 2)
        self.scoring = evaluator.scoring
        self._stops = evaluator.codec.stops

    @property
    def key(self) -> str:
        """Hash of everything asked."""
        # All that an answer depends on; prompts as the model reads them.
        prompts = [[p.group, p.item, p.metric, p.text, p.target, p.reworded] for p in self.prompts]
        decoding = {"limit": self.limit, "temperature": TEMPERATURE, "seed": SEED, "sampled": SAMPLED}
        # Scores stored before there was a choice were in float32, and stay found.
        if self.scoring != "float32":
            decoding["scoring"] = self.scoring
        return key_of({"protocol": PROTOCOL, "prompts": prompts, "decoding": decoding, "measures": list(METRICS)})

    def score(
        self, model: nn.Module, *, fraction: float = 1.0, alpha: float = 1.0, journal: Journal | None = None
    ) -> pd.DataFrame:
        """Return one row an output and metric, as `ITEM_COLUMNS` lays out; `task` is `<group>_greedy` or `<group>_sampled`.

        What the journal knows is not computed again.
        """
        once = (journal or Journal()).once
        # Sampling costs as much as greedy decoding again, so half of the prompts do.
        sampled_prompts = self._of("domain")[:SAMPLED] + self._of("general")[:SAMPLED]
        with undisturbed(model), undisturbed(self.base()) if self.base else nullcontext():
            self._stops = self.codec.template.stops(model)

            # Prompts and their rewordings are decoded together: more rows a pass.
            texts = [prompt.text for prompt in self.prompts]
            for prompt in self.prompts:
                texts += prompt.reworded
            greedy = once(["greedy", texts], lambda: self._answers(model, texts, most_likely))
            plain = greedy[: len(self.prompts)]

            drawn_texts = [prompt.text for prompt in sampled_prompts]
            drawn = once(["sampled", drawn_texts], lambda: self._answers(model, drawn_texts, sampled(TEMPERATURE)))
            rows = self._rows("greedy", self.prompts, plain) + self._rows("sampled", sampled_prompts, drawn)

        # The answers to rewordings follow in the order of their prompts.
        reworded = iter(greedy[len(self.prompts) :])
        for prompt, answer in zip(self.prompts, plain, strict=True):
            others = [next(reworded) for _ in prompt.reworded]
            if others:
                rows.append(_row(prompt, "greedy", "stability", self._stability(prompt, answer, others)))
        frame = pd.DataFrame(rows, columns=list(ITEM_COLUMNS)).assign(fraction=fraction, alpha=alpha)
        return frame.astype(dict(ITEM_COLUMNS))

    def _of(self, group: str) -> list[Open]:
        return [prompt for prompt in self.prompts if prompt.group == group]

    def _encoded(self, text: str) -> Ids:
        """Return the prompt's tokens, its beginning cut where it leaves no room for an answer."""
        return self.codec.encode([text])[0][-(self.max_length - self.limit) :]

    def _answers(self, model: nn.Module, texts: Sequence[str], choose: Any) -> list[list[int]]:
        """Return the continuation of each prompt, up to a stop token or the limit."""
        prompts = [Prompt(self._encoded(text), self.limit, lambda _: False) for text in texts]
        # Nothing but stop tokens and the limit ends an answer: what a task would cut off is part of
        # what is judged.
        lm = EvaluatedModel(model, self.codec, max_length=self.max_length)

        # Drawing begins anew at each try, so that a try that ran out of memory leaves no mark on the samples.
        def decode(budget: int) -> list[list[int]]:
            torch.manual_seed(SEED)
            lm.token_budget = budget
            return continuations(model, prompts, self._stops, budget, lm.room, choose)

        return while_memory_runs_out(decode, lm.token_budget) if prompts else []

    def _rows(self, decoding: str, prompts: Sequence[Open], answers: Sequence[list[int]]) -> list[ItemRow]:
        """Return the quality of each answer, and its text beside its length."""
        bits = self._base_bits(prompts, answers)
        rows = []
        for prompt, answer, base_bits in zip(prompts, answers, bits, strict=True):
            # A stop token is no part of the answer's text, and the report shows which answers ran
            # into the limit.
            stopped = answer[-1] in self._stops
            tokens = answer[:-1] if stopped else answer
            text = self.codec.read(tokens, prompt.text)
            values = text_quality.measure(text, tokens, stopped) | {"base_bits_per_byte": base_bits}
            for metric, value in values.items():
                row = _row(prompt, decoding, metric, value)
                # One row of each answer carries its text.
                if metric == "length_tokens":
                    row |= {"primary": True, "prompt": prompt.text, "output": text, "target": prompt.target}
                rows.append(row)
        return rows

    def _base_bits(self, prompts: Sequence[Open], answers: Sequence[list[int]]) -> list[float]:
        """Return the fluency: bits a byte of each answer under the base, after the same prompt.

        NaN for an empty answer, and where there is no base to ask.
        """
        if self.base is None:
            return [math.nan] * len(answers)
        # The base would be asked how likely it stops, which is not about the text.
        spoken = [[token for token in answer if token not in self._stops] for answer in answers]
        return base_bits_per_byte(self.base, self.codec, [self._encoded(prompt.text) for prompt in prompts], spoken)

    def _stability(self, prompt: Open, answer: list[int], others: Sequence[list[int]]) -> float:
        """Return the share of rewordings whose answer reads the same."""
        first = self._read(prompt, answer)
        return sum(self._read(prompt, other) == first for other in others) / len(others)

    def _read(self, prompt: Open, tokens: Sequence[int]) -> Any:
        text = self.codec.read([token for token in tokens if token not in self._stops], prompt.text)
        return read_answer(prompt.metric, text, prompt.choices)


METRICS: dict[str, bool | None] = text_quality.METRICS | {"base_bits_per_byte": False, "stability": True}
"""Metric -> whether higher is better (None: neither)."""


def read_answer(metric: str, text: str, choices: Sequence[str] = ()) -> Any:
    """Return what an answer says, as the scorer of its task reads it: a choice, the last number, or the text in normal form."""
    if metric == "letter" and (index := answer_metrics.named_choice(text, choices)) is not None:
        return index
    if metric == "numeric" and (number := last_number(text)):
        return round(number.value * (number.factor or 1.0), 9)
    return answer_metrics.normalise(answer_metrics.final(text))


def _row(prompt: Open, decoding: str, metric: str, value: float) -> ItemRow:
    name = f"{prompt.group}_{decoding}"
    row: ItemRow = {"task": name, "family": name, "group": prompt.group, "seen": None}
    row |= {"channel": "degeneration", "metric": metric, "primary": False, "higher_better": METRICS[metric]}
    row |= {"item": prompt.item, "cluster": prompt.cluster, "score": value, "chance": 0.0}
    return row


# --- the fixed prompts -------------------------------------------------------------------------------------------------


def open_prompts(tasks: Sequence[Prepared], records: Sequence[Record], template: Any) -> list[Open]:
    """Return the prompts: drawn by content, as many from each generation task of a group.

    `records`: those the domain's come from.
    """
    # Only domain records have a question that our rules know how to reword.
    by_id = {record.id: record for record in records}
    prompts = []
    for group in ("domain", "general"):
        generated = [task for task in tasks if task.spec.group == group and task.task.OUTPUT_TYPE == "generate_until"]
        for number, (task, doc) in enumerate(_in_turns(generated)[:PROMPTS]):
            prompts.append(_open(task, doc, by_id if number < REWORDED else {}, template))
    return prompts


def _in_turns(tasks: Sequence[Prepared]) -> list[tuple[Prepared, int]]:
    """Return (task, number of a document): the first of each task, then the second of each, as long as a task has one."""
    # One from each task in turn, so that a large task does not crowd out the others.
    drawn = [(task, sorted(task.hash_sample(PROMPTS, 0), key=task.ids.__getitem__)) for task in tasks]
    turns = []
    for turn in range(PROMPTS):
        turns += [(task, docs[turn]) for task, docs in drawn if turn < len(docs)]
    return turns


def _open(task: Prepared, number: int, records: Mapping[str, Record], template: Any) -> Open:
    """Return the prompt of a task's document; `records`: by id, those whose questions may be reworded."""
    doc = task.docs[number]
    fields = doc if isinstance(doc, Mapping) else {}
    prompt = next(instance.args[0] for instance in task.instances if instance.doc_id == number)
    targets = fields.get("targets") or task.task.doc_to_target(doc)
    target = targets[0] if isinstance(targets, (list, tuple)) and targets else targets

    # A domain item stands for a record, whose question is reworded by rule; any other says itself how it may be put.
    record = records.get(str(fields.get("id", ""))) if task.spec.group == "domain" else None
    reworded = _reworded(record, template) if record else _declared(task, fields, prompt, template)
    return Open(
        group=task.spec.group,
        item=task.ids[number],
        cluster=str(fields.get("cluster") or task.ids[number]),
        metric=task.spec.metric.partition(",")[0],
        text=prompt,
        target=str(target),
        choices=tuple(fields.get("choices") or ()),
        reworded=tuple(reworded),
    )


def _reworded(record: Record, template: Any) -> list[str]:
    """Return the prompt of a domain record with its last question reworded."""
    # A record whose answer follows no question has nothing to reword.
    answer = record.answer
    if answer < 1 or record.messages[answer - 1].role != "user":
        return []
    before = record.messages[: answer - 1]
    last = record.messages[answer - 1]
    return [template.prompt((*before, Turn("user", text))) for text in rewrites(last.content)]


def _declared(task: Prepared, doc: Mapping[str, Any], prompt: str, template: Any) -> list[str]:
    """Return the rewrites that an item declares in a field of that name; none where its prompt is more than its question."""

    def prompt_of(text: str) -> str:
        return template.prompt((Turn("user", text),)) if task.spec.chat else text

    # A prompt with examples or a frame cannot be put together from its question alone.
    if not doc.get("rewrites") or prompt_of(task.task.doc_to_text(doc)) != prompt:
        return []
    return [prompt_of(str(text)) for text in doc["rewrites"]]
