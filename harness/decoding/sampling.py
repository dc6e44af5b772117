"""Sampling: texts of a model as training examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from harness.contract import Example
from harness.decoding.capabilities import continuations
from harness.decoding.generate import Prompt, sampled
from harness.decoding.prefix_tree import Ids
from harness.files.turns import Turn
from harness.tokens.chat_template import ChatTemplate

ROOM = 16_384
"""Tokens that the key-value cache holds at least: a guess that fits small devices."""


class Speaker:
    """Samples from a model with the global random generators, each text to a stop token or a limit."""

    def __init__(self, model: Any, tokenizer: Any, *, longest: int, temperature: float, micro_tokens: int):
        """`longest`: the model's context; `micro_tokens`: of one forward pass."""
        template = ChatTemplate(tokenizer)
        self.tokens = template.tokens
        self.model = model
        self.longest = longest
        self.micro_tokens = micro_tokens
        self.choose = sampled(temperature)
        self.stops = template.stops(model)
        self.start: int = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id

        # What two questions have in common around their texts is the template.
        first = template.encode_prompt((Turn("user", "x"),))
        second = template.encode_prompt((Turn("user", "y"),))
        self.asking = tuple(token for token in _common(first, second) if token != self.start)
        """What opens a question in the chat template, and what stands between it and its answer."""
        self.answering = _common(first[::-1], second[::-1])[::-1]

    def prompt_with(self, prompt: Ids, answer: Ids, words: str) -> Ids:
        """Return the prompt with words at the end of its question; `{answer}` in them is the answer's text."""
        text = self.tokens.spell(words.replace("{answer}", self.tokens.decode(answer).strip()))
        inserted = tuple(self.tokens.encode([text])[0])
        closed = bool(self.answering) and prompt[-len(self.answering) :] == self.answering

        # The words stand at the question's end, before what the template puts between question and
        # answer.
        end = len(prompt) - (len(self.answering) if closed else 0)
        whole = (*prompt[:end], *inserted, *prompt[end:])

        # The other half of the context is for what is said next.
        return whole[-(self.longest - self.longest // 2) :]

    def texts(self, prompts: Sequence[Sequence[int]], limit: int) -> list[Example]:
        """Return a text each, of at most `limit` sampled tokens; an empty prompt is BOS alone.

        From BOS a model that knows conversations often asks something first, and stops there. Such
        a question is answered.
        """
        trains = self.model.training
        self.model.eval()  # without dropout
        try:
            return self._examples(prompts, limit)
        finally:
            self.model.train(trains)

    def _examples(self, prompts: Sequence[Sequence[int]], limit: int) -> list[Example]:
        # Half of the context is left to what comes before.
        limit = min(limit, self.longest // 2)
        begun = [tuple(prompt)[-(self.longest - limit) :] or (self.start,) for prompt in prompts]
        whole = self._continued(begun, [limit] * len(begun))

        # From BOS alone the model may have asked a question: it is answered in turn.
        opened = [number for number, prompt in enumerate(prompts) if not prompt and self._is_question(whole[number], limit)]
        questions = [whole[number][:-1] + self.answering for number in opened]
        answers = self._continued(questions, [limit + 1 - len(question) for question in questions])
        for number, answered in zip(opened, answers, strict=True):
            whole[number] = answered

        # Only what the model said is trained.
        examples = []
        for number, (prompt, text) in enumerate(zip(begun, whole, strict=True)):
            supervised = (False,) * len(prompt) + (True,) * (len(text) - len(prompt))
            examples.append(Example(f"generated {number}", text, supervised, "generated"))
        return examples

    def _is_question(self, text: Ids, limit: int) -> bool:
        """Return whether a text from BOS is one whole question, and there is room to answer it."""
        # A text that runs into its limit in the middle of a question cannot be answered.
        opens = bool(self.asking and self.answering) and text[1 : 1 + len(self.asking)] == self.asking
        return opens and text[-1] == self.answering[0] and len(text) + len(self.answering) <= limit

    def _continued(self, begun: Sequence[Ids], limits: Sequence[int]) -> list[Ids]:
        """Return the texts with what the model says next."""
        prompts = [Prompt(tokens, limit, lambda _: False) for tokens, limit in zip(begun, limits, strict=True)]
        room = max(self.micro_tokens, ROOM)
        continued = continuations(self.model, prompts, self.stops, self.micro_tokens, room, self.choose)
        return [(*text, *more) for text, more in zip(begun, continued, strict=True)]


class Speakers:
    """Makes speakers of models that share a tokenizer, a context and a size of pass."""

    def __init__(self, tokenizer: Any, longest: int, micro_tokens: int):
        """`longest`: the model's context; `micro_tokens`: of one forward pass."""
        self._tokenizer = tokenizer
        self._longest = longest
        self._micro_tokens = micro_tokens
        self._kept: dict[float, Speaker] = {}

    def of(self, model: Any, temperature: float) -> Speaker:
        """Return the sampler of this model."""
        return Speaker(
            model,
            self._tokenizer,
            longest=self._longest,
            temperature=temperature,
            micro_tokens=self._micro_tokens,
        )

    def of_trained(self, model: Any, temperature: float) -> Speaker:
        """Return the sampler of the model in training. One is kept per temperature, since reading the chat template is slow."""
        if temperature not in self._kept:
            self._kept[temperature] = self.of(model, temperature)
        return self._kept[temperature]

    @cached_property
    def silent(self) -> Speaker:
        """A speaker without a model: it only reads and writes prompts."""
        return self.of(None, 1.0)


def _common(first: Sequence[int], second: Sequence[int]) -> Ids:
    """Return the tokens that both begin with."""
    return tuple(token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
