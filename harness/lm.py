"""Our lm-eval model: one loaded Hugging Face model, scored as lm-eval's own HFLM would score it, but faster.

Equal to HFLM item by item (tests/test_lm.py), except for BOS where HFLM would differ from training: text scored as a whole
never has it twice, a plain prompt to a model whose template begins with BOS has it where the tokenizer adds none, and a
chat prompt has it where the template writes it and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness import decode, likelihood
from harness.capabilities import capabilities_of, continuations
from harness.decode import Prompt
from harness.journal import Journal
from harness.likelihood import Continuation
from harness.loading import context_length
from harness.placing import token_budget_of, while_memory_runs_out
from harness.records import Turn
from harness.shared import Ids, device_of

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


class Codec:
    """Text to tokens and back, remembered: every run of a comparison is asked the same texts."""

    def __init__(self, tokenizer: Any, template: Any) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.stops = frozenset(template.stop_ids) | {tokenizer.eos_token_id}
        bos = tokenizer.bos_token_id
        self.prefix: int = tokenizer.eos_token_id if bos is None else bos
        """What stands before a text that has no prompt."""
        self._prefix_text = tokenizer.decode([self.prefix])
        opening = template.encode_prompt((Turn("user", "x"),))[0]
        self._openings = {self._prefix_text, tokenizer.decode([opening])} - {"", "x"}
        """What a text begins with that needs no BOS: it has one, or the template's prompts have none."""
        self._adds_bos = opening == bos and tokenizer("x")["input_ids"][:1] != [bos]
        self._known: dict[tuple[str, bool], Ids] = {}
        self._enders: dict[tuple[str, ...], Callable[[list[int]], bool]] = {}
        self._pieces: list[str] = []

    def encode(self, texts: Sequence[str], whole: bool = True) -> list[Ids]:
        """Token ids of each text. `whole`: it begins a sequence, so BOS belongs in front, once."""
        new = list(dict.fromkeys(text for text in texts if (text, whole) not in self._known))
        opened = {text: not whole or text.startswith(tuple(self._openings)) for text in new}
        for special in (False, True):
            part = [text for text in new if opened[text] is not special]
            if part:
                for text, ids in zip(
                    part, self.tokenizer(part, add_special_tokens=special, verbose=False)["input_ids"], strict=False
                ):
                    lead = (self.prefix,) if special and self._adds_bos else ()
                    self._known[text, whole] = (*lead, *ids)
        return [self._known[text, whole] for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def ender(self, until: tuple[str, ...]) -> Callable[[list[int]], bool]:
        """Tells, after each new token, whether one of the `until` texts is complete."""
        if until not in self._enders:
            self._enders[until] = self._make_ender(until)
        return self._enders[until]

    def endings(self, until: Sequence[str]) -> tuple[set[int], list[str]]:
        """`until` as tokens, where it names special ones (decoding leaves them out), and as the texts that remain."""
        special = {token.content: number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return {special[text] for text in until if text in special}, [text for text in until if text and text not in special]

    def _make_ender(self, until: tuple[str, ...]) -> Callable[[list[int]], bool]:
        ids, texts = self.endings(until)
        if not texts:
            return lambda tokens: tokens[-1] in ids
        # decoding is slow, so it waits for a token that could end a text: one with its last character, or half a character
        self._pieces = self._pieces or self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        ends = {text[-1] for text in texts} | {"\ufffd"}
        suspects = {i for i, piece in enumerate(self._pieces) if not piece.strip() or not ends.isdisjoint(piece)}

        def ended(tokens: list[int]) -> bool:
            if tokens[-1] in ids:
                return True
            if tokens[-1] not in suspects:
                return False
            text = self.decode(tokens)
            return any(stop in text for stop in texts)

        return ended


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
        return render(self.codec.template, chat_history, add_generation_prompt)

    # --- likelihood ---

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(nats, would greedy decoding say it) of each (context, continuation)."""
        asked: list[Any] = [request.args for request in requests]
        pairs = encode_pairs(self.codec, asked)
        return self._score([self.fitted(*pair) for pair in pairs])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts, in disjoint windows as long as the context."""
        owners, asked = [], []
        for owner, ids in enumerate(self.codec.encode([request.args[0] for request in requests], whole=False)):
            windows = get_rolling_token_windows(list(ids), self.codec.prefix, self.max_length, 1)
            for context, continuation in map(make_disjoint_window, windows):
                owners.append(owner)
                asked.append(Continuation(tuple(context), tuple(continuation)))
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._score(asked), strict=False):
            totals[owner] += value
        return totals

    def fitted(self, context: Ids, continuation: Ids) -> Continuation:
        """Cut on the left to what the context holds."""
        kept = (context + continuation)[-(self.max_length + 1) :]
        size = min(len(continuation), len(kept) - 1)
        return Continuation(kept[: len(kept) - size], kept[len(kept) - size :])

    def _score(self, asked: Sequence[Continuation]) -> list[tuple[float, bool]]:
        scorable = [one for one in asked if one.tokens]
        scored = iter(likelihood.score(self.model, scorable, self.token_budget, self._longest, self.journal))
        return [next(scored) if one.tokens else (0.0, True) for one in asked]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        return self._score([self.fitted(tuple(context), tuple(tokens)) for _, context, tokens in requests])

    # --- generation ---

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The greedy answer to each prompt, cut at its first stop token or `until` text."""
        asked: list[Any] = [request.args for request in requests]
        plans = [self.plan(settings) for _, settings in asked]
        contexts = self.codec.encode([context for context, _ in asked])
        prompts = [
            Prompt(ids[-(self.max_length - limit) :], limit, self.codec.ender(until))
            for ids, (limit, until) in zip(contexts, plans, strict=False)
        ]
        outputs = self._continued(prompts, plans)
        return [self._text(outputs[number], prompts[number], until) for number, (_, until) in enumerate(plans)]

    def _continued(self, prompts: Sequence[Prompt], plans: Sequence[tuple[int, tuple[str, ...]]]) -> dict[int, list[int]]:
        """The tokens said to each prompt, by its number."""

        def said(budget: int) -> dict[int, list[int]]:
            self.token_budget = budget
            return self._said(prompts, plans)

        return while_memory_runs_out(said, self.token_budget)

    def _said(self, prompts: Sequence[Prompt], plans: Sequence[tuple[int, tuple[str, ...]]]) -> dict[int, list[int]]:
        """Part by part, so that the journal can keep what is done."""
        fixed = self.codec.stops, self.token_budget, self.room
        said: dict[int, list[int]] = {}
        for part in decode.parts(prompts, self.room):
            asking = [prompts[number] for number in part]
            named = ["generation", sorted(fixed[0]), *fixed[1:], [[prompts[n].tokens, *plans[n]] for n in part]]
            answers = self.journal.once(named, lambda asking=asking: continuations(self.model, asking, *fixed))
            said |= zip(part, answers, strict=True)
        return said

    def plan(self, settings: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
        """(tokens to generate at most, texts that end an answer) of a task's generation settings."""
        given: dict[str, Any] = dict(normalize_gen_kwargs(settings, MAX_NEW_TOKENS))
        until = given.get("until") or []
        limit = min(int(given["max_gen_toks"]), self.max_length // 2)
        return limit, tuple([until] if isinstance(until, str) else until)

    def _text(self, output: list[int], prompt: Prompt, until: tuple[str, ...]) -> Generated:
        stopped = output[-1] in self.codec.stops or prompt.ended(output)
        special = self.codec.stops.union(self.codec.tokenizer.all_special_ids)
        tokens = tuple(output[:-1] if stopped and output[-1] in special else output)
        text = postprocess_generated_text(self.codec.decode(tokens), list(until), None)
        return Generated(text, tokens, stopped)


def encode_pairs(codec: Codec, pairs: Iterable[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
    """Tokens of each (context, continuation), cut where the context's own tokens end; blanks move to the continuation."""
    moved = []
    for context, continuation in pairs:
        bare = context.rstrip()
        moved.append((bare, context[len(bare) :] + continuation))
    contexts = iter(codec.encode([context for context, _ in moved if context]))
    wholes = iter(codec.encode([context + continuation for context, continuation in moved if context]))
    alone = iter(codec.encode([continuation for context, continuation in moved if not context], whole=False))
    found = []
    for context, _ in moved:
        if context:
            ids = next(contexts)
            found.append((ids, next(wholes)[len(ids) :]))
        else:
            ids = next(alone)
            doubled = ids[:1] == (codec.prefix,)
            found.append(((codec.prefix,), ids[1:] if doubled else ids))
    return found


def render(template: Any, chat: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A chat as the model is prompted with it; without a generation prompt the last message is left open, to be continued."""
    if add_generation_prompt:
        return template.prompt(tuple(Turn(m["role"], m["content"]) for m in chat))
    settings = {"add_generation_prompt": False, "continue_final_message": True}
    return template.tokenizer.apply_chat_template(chat, tokenize=False, **settings)
