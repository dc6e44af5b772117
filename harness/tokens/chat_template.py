"""ChatTemplate: the one way from conversations to tokens, for training, prompts, choices and generations.

The tokenizer's own template is rendered and cut where a generation would begin and end: prompt, answer, stop, what leads to
the next answer, and so on. Each piece becomes tokens behind its left neighbour (harness/tokens/tokenizer.py), so that for every
conversation, as training, evaluation and decoding read it,

    trained tokens = prompt tokens + answer tokens + stop,    tokens of a choice = tokens of that answer.

No special tokens are added: BOS stands where the template writes it, as in `apply_chat_template(tokenize=True)`. Supervised
are the assistant's answers and the token that closes each of them, nothing after it.

A template is prefix-stable on a conversation when rendering a shorter part of it gives a prefix of the whole. Then the
whole is one example, all answers supervised. Where it is not (templates that drop the thoughts of earlier turns), every
answer is an example of its own, behind the prompt the model would see for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, takewhile
from typing import Any

from jinja2 import TemplateError

from harness.contract import Example
from harness.errors import PlanError
from harness.files.records import Record
from harness.files.turns import Turn
from harness.tokens.examples import encode_records
from harness.tokens.rendered import Rendered
from harness.tokens.template_text import TemplateText

Ids = tuple[int, ...]


class ChatTemplate(TemplateText):
    """A tokenizer's chat template, from conversations to tokens."""

    @cached_property
    def skipping(self) -> ChatTemplate:
        """The same template with thoughts skipped: what suites are asked with, whose answers have none."""
        return ChatTemplate(self.tokenizer) if self.thinking else self

    @cached_property
    def thoughtful(self) -> ChatTemplate:
        """The same template with thoughts: what suites that ask for thoughts are asked with."""
        return self if self.thinking else ChatTemplate(self.tokenizer, thinking=True)

    def prompt(self, messages: Iterable[Turn], opening: str = "") -> Rendered:
        """Return the text a generation starts from. `opening`: how the answer begins."""
        turns = tuple(messages)
        try:
            text = self._prompt(self._fitting(turns))
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise PlanError(f"the chat template refuses a prompt of {roles} ({error}); mend its turns or remove it") from error
        return Rendered(self.tokens.plain(text), turns, opening, self.thinking)

    def encode_prompt(self, messages: Iterable[Turn]) -> list[int]:
        """Return the tokens a generation starts from."""
        return list(self.prompt_tokens([self.prompt(messages)])[0])

    def prompt_tokens(self, prompts: Sequence[Rendered]) -> list[Ids]:
        """Return the tokens of rendered prompts."""
        pieces = [self._of(prompt).pieces_of(prompt) for prompt in prompts]
        return [_flat(ids) for ids in self.tokens.join(pieces)]

    def choice_tokens(self, pairs: Sequence[tuple[Rendered, str]]) -> list[tuple[Ids, Ids]]:
        """Return (prompt, answer) of each rendered prompt and answer, as training has them, the stop aside.

        Where a prompt opens its answer, the two are cut behind the last token that they share.
        """
        # The same pieces as in training, so that a choice has the tokens it would be trained with.
        pieces = [self._of(prompt).pieces_of(prompt, answer) for prompt, answer in pairs]
        opened = [prompt for prompt, _ in pairs if prompt.opening]
        opened_tokens = iter(self.prompt_tokens(opened))
        choices = []
        for (prompt, _), (*lead, answer) in zip(pairs, self.tokens.join(pieces), strict=True):
            lead_tokens = _flat(lead)
            tokens = (*lead_tokens, *answer)
            size = len(lead_tokens)
            if prompt.opening:
                size = len(_common(next(opened_tokens), tokens[:-1]))
            choices.append((tokens[:size], tokens[size:]))
        return choices

    def pieces_of(self, prompt: Rendered, answer: str | None = None) -> list[str]:
        """Return a rendered prompt's text, with the answer's beginning if it gives one.

        With `answer`: the prompt, and the whole answer behind it.
        """
        # A prompt that nothing opens ends where the template asks for the answer.
        spoken = prompt.opening.strip() if answer is None else prompt.opening + answer
        if not spoken and answer is None:
            return self.steps(prompt.turns)[-1].lead
        step = self.steps([*prompt.turns, Turn("assistant", spoken)])[-1]
        if answer is not None:
            return [*step.lead, step.answer]
        # the template may write something before the opening (a header), and nothing after it belongs to the prompt
        begun, opening, _ = step.answer.rpartition(self.tokens.spell(spoken))
        return [*step.lead, begun + opening]

    def encode(self, record: Record, source: str = "domain", *, max_length: int) -> list[Example]:
        """Return one record's examples; for many, `encode_all` is faster and notes what it cut."""
        return self.encode_all([record], source, max_length=max_length)

    def encode_all(self, records: Sequence[Record], source: str = "domain", *, max_length: int) -> list[Example]:
        """Return the examples of all records, in order. What was cut or unusual is counted in `notes`."""
        return encode_records(self, records, source, max_length)

    def stops(self, model: Any) -> frozenset[int]:
        """Return the ids that end a generation: the template's, the tokenizer's, and the model's generation_config's.

        Where there is no generation_config.json, transformers makes one of config.json, whose end token may be a default:
        any token. Of those only tokens that are no text count.
        """
        config = getattr(model, "generation_config", None)
        configured = getattr(config, "eos_token_id", None)
        if configured is None:
            configured = []
        elif isinstance(configured, int):
            configured = [configured]
        # A default id may be that of an ordinary token, which would end every answer that says it.
        if getattr(config, "_from_model_config", False):
            configured = [token for token in configured if token in self.tokenizer.added_tokens_decoder]
        return frozenset(self.stop_ids).union(configured)

    def _of(self, prompt: Rendered) -> ChatTemplate:
        """Return who rendered a prompt: the template with thoughts, or the one that skips them."""
        return self.thoughtful if prompt.thinking else self.skipping


def _flat(pieces: Sequence[Sequence[int]]) -> Ids:
    return tuple(chain.from_iterable(pieces))


def _common(first: Sequence[int], second: Sequence[int]) -> Ids:
    """Return what both begin with."""
    pairs = zip(first, second, strict=False)
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
