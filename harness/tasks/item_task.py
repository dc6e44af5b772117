"""Evaluation items held in memory as lm-eval tasks: plain JSONL files without code, and the user's own test records.

harness/files/item_file.py reads the files and says what the kinds are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from harness.files import instructions
from harness.files.item_row import Doc
from harness.files.sidecar import Scorer
from harness.text import answer_metrics
from harness.text.rules import broken, parse_rules

METRICS = {
    "choice": ("acc", "acc_bytes"),
    "pair": ("acc", "acc_bytes"),
    "text": ("bits_per_byte",),
    "continuation": ("acc", "bits_per_byte"),
    "instructions": instructions.METRICS,
    "rules": ("compliance",),
}
"""Kind -> its metrics, the primary one first. Other kinds are metrics of generated answers (`scoring.METRICS`), or python."""
OUTPUT_TYPES = {
    "choice": "multiple_choice",
    "pair": "multiple_choice",
    "text": "loglikelihood_rolling",
    "continuation": "loglikelihood",
}
WITHOUT_CHAT = ("pair", "text", "continuation")
LOWER_BETTER = ("bits_per_byte",)


class HeldTask(Task):
    """A task whose documents are held in memory, all of them for the test."""

    VERSION = 1
    docs: list[Any]

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[Any]:
        return self.docs


class ItemTask(HeldTask):
    """A task over items: {id, cluster, prompt, targets, choices, answer (index)}, already checked.

    A `rendered` prompt already went through the chat template; `limit` is the number of tokens to generate at most, and
    `until` are texts that end an answer. `shots` gives the examples that stand before an item.
    """

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        kind: str,
        docs: Sequence[Doc],
        *,
        rendered: bool = False,
        limit: int = 0,
        until: Sequence[str] = (),
        shots: Callable[[Doc], Sequence[Doc]] | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self.docs = list(docs)
        self.kind = kind
        self.rendered = rendered
        self.shots = shots
        self.scorer = scorer
        self.metrics = tuple(self.docs[0]["metrics"]) if kind == "python" else METRICS.get(kind) or _generated(kind)
        self.metric = self.metrics[0]
        self.OUTPUT_TYPE: Any = output_type(kind)
        settings = {"until": list(until), "max_gen_toks": limit, "do_sample": False}
        generation: dict[str, Any] = {"generation_kwargs": settings} if self.OUTPUT_TYPE == "generate_until" else {}
        self._config = TaskConfig(task=name, output_type=self.OUTPUT_TYPE, num_fewshot=0, **generation)
        self._filters = [build_filter_ensemble("none", [("take_first", None)])]
        self._instances: list[Instance] | None = None

    def doc_to_text(self, doc: Doc) -> str:
        return doc["prompt"]

    def doc_to_target(self, doc: Doc) -> str:
        return doc["choices"][doc["answer"]] if self.kind in ("choice", "pair") else " | ".join(doc["targets"])

    def doc_to_choice(self, doc: Doc) -> list[str]:
        return doc["choices"]

    def fewshot_context(self, doc: Doc, num_fewshot: int = 0, *_: Any, **options: Any) -> str:
        """Return examples and prompt: turns of a chat where the template is asked for, else texts between empty lines."""
        # Rendered prompts hold their examples already.
        shots = self.shots(doc) if self.shots else ()
        examples = [(shot["prompt"], shot.get("solution") or shot["targets"][0]) for shot in shots]
        if self.rendered:
            return doc["prompt"]
        if not options.get("apply_chat_template"):
            shown = [f"{question}{_gap(question, answer)}{answer}\n\n" for question, answer in examples]
            return "".join(shown) + doc["prompt"]
        turns = []
        for question, answer in examples:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

        # Tools and system turns open a conversation; examples stand between them and what went before the question.
        earlier = [{"role": role, "content": text} for role, text in doc.get("before", ())]
        first = [turn for turn in earlier if turn["role"] in ("tools", "system")]
        history = [turn for turn in earlier if turn["role"] not in ("tools", "system")]
        return options["chat_template"]([*first, *turns, *history, {"role": "user", "content": doc["prompt"]}])

    def construct_requests(self, doc: Doc, ctx: str, **options: Any) -> list[Instance]:
        # A text by itself is read from its first token; everything else behind a prompt.
        if self.kind == "text":
            arguments: list[tuple[Any, ...]] = [(doc["targets"][0],)]
        elif self.OUTPUT_TYPE == "generate_until":
            arguments = [(ctx, dict(self._config.generation_kwargs or {}))]
        elif self.kind == "continuation":
            arguments = [(ctx, _gap(ctx, doc["targets"][0]) + doc["targets"][0])]
        else:
            arguments = [(ctx, choice) for choice in doc["choices"]]
        kind: Any = "loglikelihood" if self.OUTPUT_TYPE == "multiple_choice" else self.OUTPUT_TYPE
        metadata = options["metadata"]
        return [Instance(kind, doc, argument, number, metadata) for number, argument in enumerate(arguments)]

    def process_results(self, doc: Doc, results: Sequence[Any]) -> Mapping[str, float]:
        if self.OUTPUT_TYPE == "generate_until":
            return self._judged(doc, results[0])
        if self.kind == "text":
            return {self.metric: _bits_per_byte(results[0], doc["targets"][0])}
        if self.kind == "continuation":
            value, greedy = results[0]
            return {"acc": float(greedy), "bits_per_byte": _bits_per_byte(value, doc["targets"][0])}

        # Long choices are less likely for their length alone, so that the likeliest byte by byte is told too.
        values = [value for value, _ in results]
        by_byte = [value / len(choice.encode()) for value, choice in zip(values, doc["choices"], strict=False)]
        picked = values.index(max(values))
        picked_by_byte = by_byte.index(max(by_byte))
        return {"acc": float(picked == doc["answer"]), "acc_bytes": float(picked_by_byte == doc["answer"])}

    def _judged(self, doc: Doc, output: str) -> Mapping[str, float]:
        """Return scores of a generated answer."""
        if self.kind == "instructions":
            return instructions.scores(doc, output)
        if self.kind == "rules":
            return {self.metric: float(not broken(parse_rules(doc["rules"]), output, doc["prompt"]))}
        if self.scorer:
            return self.scorer.scores(output, doc["row"] | doc.get("told", {}))

        # A number's tolerance and unit stand in the item.
        measure = {name: doc[name] for name in ("tolerance", "unit") if name in doc}
        return {
            name: answer_metrics.best(name, output, doc["targets"], doc.get("choices") or (), measure) for name in self.metrics
        }

    def aggregation(self) -> dict[str, Callable[[list[float]], float]]:
        return dict.fromkeys(self.metrics, lambda values: sum(values) / len(values))

    def higher_is_better(self) -> dict[str, Any]:
        """Return metric -> whether higher is better, None for neither."""
        directions: dict[str, Any] = {metric: metric not in LOWER_BETTER for metric in self.metrics}
        if self.scorer:
            directions |= {metric: way for metric, way in self.scorer.directions.items() if metric in directions}
        return directions


def _generated(metric: str) -> tuple[str, ...]:
    """Return a generated answer's metrics: its own, and exact match beside."""
    return tuple(dict.fromkeys((metric, "exact_match")))


def _bits_per_byte(nats: float, text: str) -> float:
    return -nats / math.log(2) / len(text.encode())


def _gap(before: str, after: str) -> str:
    """Return what stands between a text and its continuation: a blank, or nothing in scripts without blanks."""
    # A blank would be a mistake in Chinese, and its absence one in English.
    joined = not before or before[-1].isspace() or answer_metrics.is_cjk(before[-1]) or answer_metrics.is_cjk(after[0])
    return "" if joined else " "


def output_type(kind: str) -> str:
    """Return lm-eval's word for how items of this kind are asked."""
    return OUTPUT_TYPES.get(kind, "generate_until")


def token_limit(targets: Sequence[str], count: Callable[[str], int] | None = None, least: int = 16) -> int:
    """Return tokens to generate at most: a quarter more than the longest answer has.

    Without a tokenizer a character counts as one.
    """
    # The longest in tokens is among the longest in characters, so only these are counted.
    longest = max((count or len)(target) for target in sorted(targets, key=len)[-20:])
    return max(least, min(256, math.ceil(1.25 * longest) + 4))
