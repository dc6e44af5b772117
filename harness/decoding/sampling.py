"""What a model says by itself: sampled texts as training examples."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.model, self.longest, self.micro_tokens = model, longest, micro_tokens
        self.choose = sampled(temperature)
        self.stops = template.stops(model)
        self.start: int = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id

        # What two questions have in common around their texts is the template.
        one, other = (template.encode_prompt((Turn("user", text),)) for text in ("x", "y"))
        self.asking = tuple(token for token in _common(one, other) if token != self.start)
        """What opens a question in the chat template, and what stands between it and its answer."""
        self.answering = _common(one[::-1], other[::-1])[::-1]

    def prompt_with(self, prompt: Ids, answer: Ids, words: str) -> Ids:
        """Return the prompt with words at the end of its question; `{answer}` in them is the answer's text."""
        text = self.tokens.spell(words.replace("{answer}", self.tokens.decode(answer).strip()))
        inserted = tuple(self.tokens.encode([text])[0])
        closed = bool(self.answering) and prompt[-len(self.answering) :] == self.answering
        place = len(prompt) - (len(self.answering) if closed else 0)
        whole = (*prompt[:place], *inserted, *prompt[place:])
        return whole[-(self.longest - self.longest // 2) :]  # the other half is for what is said next

    def texts(self, prompts: Sequence[Sequence[int]], limit: int) -> list[Example]:
        """A text each, of at most `limit` sampled tokens; an empty prompt is BOS alone.

        From BOS a model that knows conversations often asks something first, and stops there. Such a question is answered.
        """
        # Half of the context is left to what comes before.
        limit = min(limit, self.longest // 2)
        begun = [tuple(prompt)[-(self.longest - limit) :] or (self.start,) for prompt in prompts]
        whole = self._continued(begun, [limit] * len(begun))

        # From BOS alone the model may have asked a question: it is answered in turn.
        asked = [place for place, prompt in enumerate(prompts) if not prompt and self._is_question(whole[place], limit)]
        questions = [whole[place][:-1] + self.answering for place in asked]
        answers = self._continued(questions, [limit + 1 - len(question) for question in questions])
        whole = [dict(zip(asked, answers, strict=True)).get(place, text) for place, text in enumerate(whole)]
        return [
            Example(f"generated {place}", text, (False,) * len(one) + (True,) * (len(text) - len(one)), "generated")
            for place, (one, text) in enumerate(zip(begun, whole, strict=True))
        ]

    def _is_question(self, text: Ids, limit: int) -> bool:
        """Whether a text from BOS is one whole question, and there is room to answer it."""
        opens = bool(self.asking and self.answering) and text[1 : 1 + len(self.asking)] == self.asking
        return opens and text[-1] == self.answering[0] and len(text) + len(self.answering) <= limit

    def _continued(self, begun: Sequence[Ids], limits: Sequence[int]) -> list[Ids]:
        """The texts with what the model says next."""
        prompts = [Prompt(tokens, limit, lambda _: False) for tokens, limit in zip(begun, limits, strict=True)]
        room = max(self.micro_tokens, ROOM)
        said = continuations(self.model, prompts, self.stops, self.micro_tokens, room, self.choose)
        return [(*one, *two) for one, two in zip(begun, said, strict=True)]


def _common(one: Sequence[int], other: Sequence[int]) -> Ids:
    """What both begin with."""
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
