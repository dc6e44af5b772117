"""Our lm-eval model: one loaded Hugging Face model, scored as lm-eval's own HFLM would score it, but faster.

On plain texts it equals HFLM item by item (tests/evaluation/test_lm.py), except for BOS and EOS where HFLM would differ
from training: a text never has BOS twice, has it where the model's template begins so though the tokenizer adds none, and
has no EOS that the tokenizer would add. Chats have the tokens of training, whatever HFLM would make of their text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness.checkpoints.loading import context_length
from harness.decoding import generate, likelihood
from harness.decoding.capabilities import capabilities_of, continuations
from harness.decoding.generate import Prompt
from harness.decoding.likelihood import Continuation
from harness.decoding.prefix_tree import Ids
from harness.evaluation.codec import Codec, encode_pairs
from harness.files.turns import Turn
from harness.models.forward import device_of
from harness.models.placement import token_budget_of, while_memory_runs_out
from harness.store.journal import Journal
from harness.tokens.rendered import Rendered

CACHE_PASSES = {"cpu": 12}
"""Forward passes' worth of tokens the cache holds while decoding: a core decodes about 100 short rows fastest."""
MAX_NEW_TOKENS = 256
"""What lm-eval generates at most where a task doesn't say."""


class Generated(str):
    """A generated text that knows its tokens."""

    tokens: Ids
    """Without the stop token."""
    stopped: bool
    """False where it ran into the limit."""

    def __new__(cls, text: str, tokens: Ids = (), stopped: bool = True) -> Generated:
        new = super().__new__(cls, text)
        new.tokens, new.stopped = tokens, stopped
        return new


class EvaluatedModel(TemplateLM):
    """A loaded model as lm-eval asks it."""

    backend = "causal"

    def __init__(
        self,
        model: Any,
        codec: Codec,
        *,
        token_budget: int | None = None,
        max_length: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        """`journal`: has the answers of an evaluation that was killed, and takes those of this one."""
        super().__init__()
        self.model = model
        self.codec = codec
        self.stops: frozenset[int] = codec.stops | codec.template.stops(model)
        self.journal = journal or Journal()
        self._device = device_of(model)
        self.token_budget = token_budget or token_budget_of(model)
        self.max_length = max_length or context_length(model.config, codec.tokenizer)

    @property
    def room(self) -> int:
        """Tokens the cache holds while decoding."""
        return self.token_budget * CACHE_PASSES.get(self._device.type, 1)

    @cached_property
    def _longest(self) -> int:
        return capabilities_of(self.model).longest_shared

    @property
    def eot_token_id(self) -> int:
        return self.codec.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        return self.codec.prefix

    @property
    def tokenizer_name(self) -> str:
        return self.codec.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return list(self.codec.encode([string], whole=add_special_tokens is not False)[0])

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return render(self.codec.template.skipping, chat_history, add_generation_prompt)

    # --- likelihood ---

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return (nats, would greedy decoding say it) of each (context, continuation)."""
        pairs: list[Any] = [request.args for request in requests]
        return self._score([self.fitted(*pair) for pair in encode_pairs(self.codec, pairs)])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the nats of whole texts, in disjoint windows as long as the context."""
        owners: list[int] = []
        parts: list[Continuation] = []
        # Each window is scored for tokens that no earlier one scored, so nothing counts twice.
        for owner, ids in enumerate(self.codec.encode([request.args[0] for request in requests], whole=False)):
            windows = get_rolling_token_windows(list(ids), self.codec.prefix, self.max_length, 1)
            for context, continuation in map(make_disjoint_window, windows):
                owners.append(owner)
                parts.append(Continuation(tuple(context), tuple(continuation)))

        # A text's likelihood is that of its windows together.
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._score(parts), strict=False):
            totals[owner] += value
        return totals

    def fitted(self, context: Ids, continuation: Ids) -> Continuation:
        """Cut on the left to what the context holds."""
        # One token more than the context: the last one is only predicted, never read.
        kept = (context + continuation)[-(self.max_length + 1) :]
        size = min(len(continuation), len(kept) - 1)
        return Continuation(kept[: len(kept) - size], kept[len(kept) - size :])

    def _score(self, continuations: Sequence[Continuation]) -> list[tuple[float, bool]]:
        # Nothing said is certain: an empty continuation needs no model.
        scorable = [continuation for continuation in continuations if continuation.tokens]
        scored = iter(likelihood.score(self.model, scorable, self.token_budget, self._longest, self.journal))
        return [next(scored) if continuation.tokens else (0.0, True) for continuation in continuations]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        return self._score([self.fitted(tuple(context), tuple(tokens)) for _, context, tokens in requests])

    # --- generation ---

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the greedy answer to each prompt, cut at its first stop token or `until` text."""
        pairs: list[Any] = [request.args for request in requests]
        contexts = [context for context, _ in pairs]
        plans = [self.plan(settings) for _, settings in pairs]

        # A prompt loses its beginning where the context would leave no room for an answer.
        prompts = [
            Prompt(ids[-(self.max_length - limit) :], limit, self.codec.ender(until, self.codec.inside(context)))
            for context, ids, (limit, until) in zip(contexts, self.codec.encode(contexts), plans, strict=True)
        ]
        outputs = self.continued(prompts, plans)
        return [
            self._text(outputs[number], prompts[number], until, context)
            for number, (context, (_, until)) in enumerate(zip(contexts, plans, strict=True))
        ]

    def continued(self, prompts: Sequence[Prompt], plans: Sequence[tuple[int, tuple[str, ...]]]) -> dict[int, list[int]]:
        """Return the tokens said to each prompt, by its number."""

        def decode(budget: int) -> dict[int, list[int]]:
            self.token_budget = budget
            return self._decode(prompts, plans)

        return while_memory_runs_out(decode, self.token_budget)

    def _decode(self, prompts: Sequence[Prompt], plans: Sequence[tuple[int, tuple[str, ...]]]) -> dict[int, list[int]]:
        """Decode part by part, so that the journal can keep what is done."""
        answers: dict[int, list[int]] = {}
        # Parts are journalled one by one: a long generation that is killed loses one part.
        for numbers in generate.parts(prompts, self.room):
            part = [prompts[number] for number in numbers]

            # A part is named by all that its answers depend on, budgets included: shapes may move bits.
            questions = [[prompts[number].tokens, *plans[number]] for number in numbers]
            name = ["generation", sorted(self.stops), self.token_budget, self.room, questions]
            outputs = self.journal.once(
                name, lambda part=part: continuations(self.model, part, self.stops, self.token_budget, self.room)
            )
            answers |= zip(numbers, outputs, strict=True)
        return answers

    def plan(self, settings: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
        """Return (tokens to generate at most, texts that end an answer) of a task's generation settings."""
        # Half of the context stays for the prompt, however much a task asks for.
        options: dict[str, Any] = dict(normalize_gen_kwargs(settings, MAX_NEW_TOKENS))
        until = options.get("until") or []
        limit = min(int(options["max_gen_toks"]), self.max_length // 2)
        return limit, tuple([until] if isinstance(until, str) else until)

    def _text(self, output: list[int], prompt: Prompt, until: tuple[str, ...], context: str) -> Generated:
        stopped = output[-1] in self.stops or prompt.ended(output)

        # A last token that is text, not a special one, belongs to the answer: it ended with a text of `until`.
        special = self.stops.union(self.codec.tokenizer.all_special_ids)
        tokens = tuple(output[:-1] if stopped and output[-1] in special else output)
        text = postprocess_generated_text(self.codec.read(tokens, context), list(until), None)
        return Generated(text, tokens, stopped)


def render(template: Any, chat: list[dict[str, str]], add_generation_prompt: bool = True) -> Rendered:
    """Return a suite's chat as the model is prompted with it by this template.

    Without a generation prompt the last message is how the answer begins.
    """
    # A chat whose last turn is the assistant's begins the answer, which the model goes on with.
    turns = [Turn(message["role"], message["content"]) for message in chat]
    if add_generation_prompt:
        return template.prompt(turns)
    return template.prompt(turns[:-1], opening=turns[-1].content)
