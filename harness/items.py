"""Evaluation items held in memory as lm-eval tasks: plain JSONL files without code, and the user's own test records.

A row of a file: {"id"?, "question", "context"?, "choices"?, "answer", "type"?, "subject" | "phenomenon" | "cluster"?}.
`type` says how it is scored; without one it is told by the fields and picked from all answers of the file:

    choice    choices: the likelihood of each choice's text as the assistant's answer
    pair      an empty question and choices: whole sentences, without a chat
    exact | numeric | f1 | rougeL    the answer (or any of a list) against what the model generates
    text      {"text"}: bits per byte
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from harness import scoring
from harness.errors import raise_faults
from harness.records import json_type

TYPES = {
    "choice": "acc", "pair": "acc", "text": "bits_per_byte",
    "exact": "exact_match", "numeric": "numeric", "f1": "token_f1", "rougeL": "rouge_l",
}  # fmt: skip
"""Type -> primary metric."""
GENERATED = tuple(scoring.METRICS)
FAULTS_SHOWN = 20
LEAST_CLUSTERS = 10
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Doc = dict[str, Any]


class ItemTask(Task):
    """A task over items: {id, cluster, prompt, targets, choices, answer (index)}, already checked.

    `kind` is a type of `TYPES` or, where texts are generated, the name of a metric. A `rendered` prompt already went through
    the chat template; `limit` is the number of tokens to generate at most.
    """

    VERSION = 1

    def __init__(self, name: str, kind: str, docs: Sequence[Doc], *, rendered: bool = False, limit: int = 0) -> None:
        self.docs, self.kind, self.rendered = list(docs), kind, rendered
        self.metric = TYPES.get(kind, kind)
        self.OUTPUT_TYPE: Any = output_type(kind)
        settings = {"until": [], "max_gen_toks": limit, "do_sample": False}
        generation: dict[str, Any] = {"generation_kwargs": settings} if self.OUTPUT_TYPE == "generate_until" else {}
        self._config = TaskConfig(task=name, output_type=self.OUTPUT_TYPE, num_fewshot=0, **generation)
        self._filters = [build_filter_ensemble("none", [("take_first", None)])]
        self._instances: list[Instance] | None = None

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[Doc]:
        return self.docs

    def doc_to_text(self, doc: Doc) -> str:
        return doc["prompt"]

    def doc_to_target(self, doc: Doc) -> str:
        return doc["choices"][doc["answer"]] if self.kind in ("choice", "pair") else " | ".join(doc["targets"])

    def doc_to_choice(self, doc: Doc) -> list[str]:
        return doc["choices"]

    def fewshot_context(self, doc: Doc, num_fewshot: int = 0, *_: Any, **options: Any) -> str:
        """The prompt, through the chat template where it is asked for and not done yet."""
        if self.rendered or not options.get("apply_chat_template"):
            return doc["prompt"]
        return options["chat_template"]([{"role": "user", "content": doc["prompt"]}])

    def construct_requests(self, doc: Doc, ctx: str, **options: Any) -> list[Instance]:
        if self.kind == "text":
            arguments: list[tuple[Any, ...]] = [(doc["targets"][0],)]
        elif self.OUTPUT_TYPE == "generate_until":
            arguments = [(ctx, dict(self._config.generation_kwargs or {}))]
        else:
            arguments = [(ctx, choice) for choice in doc["choices"]]
        kind: Any = "loglikelihood" if self.OUTPUT_TYPE == "multiple_choice" else self.OUTPUT_TYPE
        metadata = options["metadata"]
        return [Instance(kind, doc, argument, place, metadata) for place, argument in enumerate(arguments)]

    def process_results(self, doc: Doc, results: Sequence[Any]) -> dict[str, float]:
        if self.kind == "text":
            return {self.metric: -results[0] / math.log(2) / len(doc["targets"][0].encode())}
        if self.OUTPUT_TYPE == "multiple_choice":
            values = [value for value, _ in results]
            by_byte = [value / len(choice.encode()) for value, choice in zip(values, doc["choices"], strict=False)]
            picked, picked_by_byte = (v.index(max(v)) for v in (values, by_byte))
            return {"acc": float(picked == doc["answer"]), "acc_bytes": float(picked_by_byte == doc["answer"])}
        names = dict.fromkeys((self.metric, "exact_match"))
        return {name: scoring.best(name, results[0], doc["targets"], doc.get("choices") or ()) for name in names}

    def aggregation(self) -> dict[str, Callable[[list[float]], float]]:
        return dict.fromkeys(self._metrics(), lambda values: sum(values) / len(values))

    def higher_is_better(self) -> dict[str, bool]:
        return dict.fromkeys(self._metrics(), self.kind != "text")

    def _metrics(self) -> list[str]:
        if self.OUTPUT_TYPE == "multiple_choice":
            return ["acc", "acc_bytes"]
        return [self.metric] if self.kind == "text" else list(dict.fromkeys((self.metric, "exact_match")))


def output_type(kind: str) -> str:
    """lm-eval's word for how items of this kind are asked."""
    return {"choice": "multiple_choice", "pair": "multiple_choice", "text": "loglikelihood_rolling"}.get(kind, "generate_until")


def token_limit(targets: Sequence[str], count: Callable[[str], int] | None = None, least: int = 16) -> int:
    """Tokens to generate at most: a quarter more than the longest answer has. Without a tokenizer a character counts as one."""
    longest = max((count or len)(target) for target in sorted(targets, key=len)[-20:])
    return max(least, min(256, math.ceil(1.25 * longest) + 4))


# --- files -------------------------------------------------------------------------------------------------------


def read_items(path: Path) -> dict[str, list[Doc]]:
    """A JSONL file's items by kind, in order; whatever is wrong stands in one `PlanError`."""
    faults: list[str] = []
    docs: dict[str, list[Doc]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            row = _Row(f"{path.name} line {number}", line, faults)
            if (read := row.read()) is not None:
                docs.setdefault(read[0], []).append(read[1] | {"id": str(row.row.get("id", ""))})
    if not docs and not faults:
        faults.append(f"{path} holds no items; give it at least one")
    if len(faults) > FAULTS_SHOWN:
        faults = [*faults[:FAULTS_SHOWN], f"and {len(faults) - FAULTS_SHOWN:,} more faults in {path.name}"]
    raise_faults(faults)
    if "" in docs:  # answers to generate, no type given: one metric for all of them
        kind = scoring.pick_metric([doc["targets"][0] for doc in docs[""]])
        docs[kind] = [*docs.get(kind, []), *docs.pop("")]
    for found in docs.values():
        _clusters(found)
    return docs


def _clusters(docs: list[Doc]) -> None:
    """Few different names cluster nothing: each item then stands for itself."""
    if len({doc["cluster"] for doc in docs}) < LEAST_CLUSTERS:
        for doc in docs:
            doc["cluster"] = ""


class _Row:
    """Reads one line; what is wrong with it goes to `faults`."""

    def __init__(self, where: str, line: str, faults: list[str]) -> None:
        self.where, self.faults = where, faults
        try:
            self.row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            self.row = {}
            self.fault(f"is not JSON ({error.msg} at place {error.pos + 1}); write one object a line")
            return
        if not isinstance(self.row, dict):
            self.fault(f"is {json_type(self.row)}; write an object with named fields")
            self.row = {}

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.where}: {text}")

    def read(self) -> tuple[str, Doc] | None:
        """(kind, item); the kind is "" where the metric is still to be picked. None where the row has faults."""
        if not self.row:
            return None
        before = len(self.faults)
        kind = self._kind()
        if kind == "text":
            found = {"prompt": "", "targets": [self._text("text")]}
        elif kind in ("choice", "pair"):
            choices = self._choices()
            found = {"prompt": self._prompt(), "choices": choices, "answer": self._index(choices)}
        else:
            found = {"prompt": self._prompt(), "targets": self._targets(), "reasoned": "solution" in self.row}
        names = ("cluster", "subject", "phenomenon")
        cluster = next((str(self.row[name]) for name in names if self.row.get(name)), "")
        kind = TYPES[kind] if kind and kind not in ("choice", "pair", "text") else kind
        return None if len(self.faults) > before else (kind, found | {"cluster": cluster})

    def _kind(self) -> str:
        given = self.row.get("type")
        if given in TYPES:
            return str(given)
        if given is not None:
            self.fault(f"'type' is {given!r}; use one of {', '.join(TYPES)}, or leave it out")
        if "text" in self.row and "question" not in self.row:
            return "text"
        if "choices" not in self.row:
            return ""
        return "choice" if self.row.get("question") else "pair"

    def _prompt(self) -> str:
        question = self._text("question", empty="choices" in self.row)
        context = self._text("context", empty=True) if self.row.get("context") is not None else ""
        return "\n".join(filter(None, (question, context)))

    def _text(self, field: str, empty: bool = False) -> str:
        value = self.row.get(field)
        if not isinstance(value, str):
            fields = ", ".join(f"'{name}'" for name in self.row)
            self.fault(f"'{field}' is {json_type(value)}; write it as text (the row has {fields})")
        elif not value.strip() and not empty:
            self.fault(f"'{field}' is empty; fill it or remove the row")
        else:
            return value
        return ""

    def _choices(self) -> list[str]:
        value = self.row.get("choices")
        texts = isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)
        if not texts or not 2 <= len(value) <= len(LETTERS):
            self.fault(f"'choices' is {json_type(value)}; write a list of 2 to {len(LETTERS)} non-empty texts")
            return []
        return value

    def _index(self, choices: Sequence[str]) -> int:
        """The right choice, given as a letter, an index from 0, or its text."""
        value = self.row.get("answer")
        if isinstance(value, str) and value not in LETTERS[: len(choices)] and choices.count(value) == 1:
            return choices.index(value)
        index = LETTERS.find(value) if isinstance(value, str) and len(value) == 1 else value
        if choices and (type(index) is not int or not 0 <= index < len(choices)):
            last = LETTERS[len(choices) - 1]
            self.fault(f"'answer' is {value!r}; give a letter from A to {last}, an index from 0, or a choice's text")
            return 0
        return index if isinstance(index, int) else 0

    def _targets(self) -> list[str]:
        """The accepted answers, as texts."""
        value = self.row.get("answer")
        values = value if isinstance(value, list) and value else [value]
        good = [str(v) for v in values if isinstance(v, (str, int, float)) and str(v).strip()]
        if len(good) < len(values):
            self.fault(f"'answer' is {json_type(value)}; give a text, a number, or a list of accepted texts")
        return good
