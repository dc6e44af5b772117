"""What a scorer is told of an answer beside its text: the text with its thoughts, and how fluent the base finds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkpoints.loading import context_length
from harness.decoding import likelihood
from harness.decoding.likelihood import Continuation
from harness.decoding.prefix_tree import Ids
from harness.evaluation.codec import Codec
from harness.evaluation.drift import Base
from harness.models.placement import token_budget_of


def base_bits_per_byte(base: Base, codec: Codec, prompts: Sequence[Ids], answers: Sequence[Sequence[int]]) -> list[float]:
    """Return how the base reads each answer behind its prompt, in bits per byte; NaN for an empty answer."""
    # Per byte, because tokens of different tokenizers cannot be compared.
    sizes = [len(codec.decode(list(answer)).encode()) for answer in answers]
    answered = [number for number, size in enumerate(sizes) if size]
    continuations = [Continuation(prompts[number], tuple(answers[number])) for number in answered]
    model = base()
    nats = likelihood.score(model, continuations, token_budget_of(model)) if continuations else []
    bits = [math.nan] * len(answers)
    for number, (value, _) in zip(answered, nats, strict=True):
        bits[number] = -value / math.log(2) / sizes[number]
    return bits


class AnswerFacts:
    """Tells a task's scorer of each answer `raw` (the answer with its thoughts) and, if asked, `base_bits_per_byte`."""

    def __init__(self, codec: Codec, base: Base | None, max_length: int | None) -> None:
        """`base`: None where the scorer is not told of fluency. `max_length`: the context, read from the base if None."""
        self.codec, self.base, self.max_length = codec, base, max_length

    def __call__(self, instances: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Return what is told of each answered request."""
        answers = [instance.resps[0] for instance in instances]
        contexts = [instance.args[0] for instance in instances]
        facts_of_answers: list[dict[str, Any]] = [{"raw": self.codec.decode(list(answer.tokens))} for answer in answers]
        # The base's reading is a forward pass per answer, so it is paid for only where a scorer
        # asks for it.
        if self.base is None:
            return list(facts_of_answers)
        length = self.max_length or context_length(self.base().config, self.codec.tokenizer)
        prompts = []
        # The end of the prompt is kept: the answer stands right behind it.
        for ids, answer in zip(self.codec.encode(contexts), answers, strict=True):
            prompts.append(ids[-(length - len(answer.tokens)) :])
        bits = base_bits_per_byte(self.base, self.codec, prompts, [answer.tokens for answer in answers])
        for facts, value in zip(facts_of_answers, bits, strict=True):
            facts["base_bits_per_byte"] = value
        return list(facts_of_answers)
