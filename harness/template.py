"""ChatTemplate: conversations into tokens, the same for training as for generation.

The tokenizer's own template is rendered once and tokenised without adding special tokens: a BOS stands only where the
template writes one, as in `apply_chat_template(tokenize=True)`. Supervised are the assistant's answers and the token that
closes each of them, nothing after it.

A conversation is cut into pieces where a generation would begin and end: prompt, answer, what leads to the next answer,
and so on. Each piece is tokenised on its own and the tokens are joined, so that the prompt's tokens are exactly those a
generation would start from: an answer's first letters never merge into the prompt's last token. (The left neighbour is
shown to tokenizers that mark where words begin, or they would write such a mark in mid-text.)

A template is prefix-stable on a conversation when rendering a shorter part of it gives a prefix of the whole. Then the
whole is one example, all answers supervised. Where it is not (templates that drop the thoughts of earlier turns), every
answer is an example of its own, behind the prompt the model would see for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from harness.contract import Example
from harness.errors import PlanError, raise_faults
from harness.records import Record, Turn

PLAIN = (
    "{{ bos }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""For tokenizers without a template: system, user and an empty line after each, then the answer and the end token."""
TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro +%}"
"""Put before templates that write today's date: the same prompt on any day (the date Llama 3 falls back to)."""


Piece = tuple[str, bool]
"""A stretch of a conversation, and whether it is supervised: an answer, with its stop token, of a turn that is trained."""


class ChatTemplate:
    """A tokenizer's chat template, checked, or a plain form where it has none."""

    def __init__(self, tokenizer: Any, *, thinking: bool = False):
        """`tokenizer` is a Hugging Face one; `thinking` lets a template that can open answers with thoughts do so."""
        self.tokenizer, self._thinking = tokenizer, thinking
        self._notes: dict[str, None] = {}
        self.eos_id, self.pad_id = self._ends()
        self._special = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._bos = ""
        self._source = self._template()
        self._system_first = self._takes_system()
        self._stop_text, self._stop_rendered, self.stop_ids = self._stop()

    @property
    def notes(self) -> list[str]:
        """What the report must say: about the template, and about each set of records encoded so far."""
        return list(self._notes)

    def prompt(self, messages: Iterable[Turn]) -> str:
        """The text a generation starts from."""
        return self._render(self._fitting(list(messages)), generate=True)

    def encode_prompt(self, messages: Iterable[Turn]) -> list[int]:
        """The tokens a generation starts from."""
        return self._tokens([self.prompt(messages)])[0]

    def encode(self, record: Record, source: str = "domain", *, max_length: int) -> list[Example]:
        """One record's examples; for many, `encode_all` is faster and notes what it cut."""
        return self.encode_all([record], source, max_length=max_length)

    def encode_all(self, records: Sequence[Record], source: str = "domain", *, max_length: int) -> list[Example]:
        """The examples of all records, in order. What was cut or unusual is counted in `notes`."""
        if max_length < 8:
            raise PlanError(f"max_length {max_length} leaves no room for prompt and answer; give at least 8 tokens")
        seen: Counter[str] = Counter()
        faults: list[str] = []
        sequences: list[tuple[str, list[Piece]]] = []
        for record in records:
            try:
                sequences += self._sequences(record, seen)
            except TemplateError as error:
                faults.append(f"{record.origin}: the chat template refuses it ({error}); mend its turns or remove it")
        if len(faults) > 20:
            faults[20:] = [f"and {len(faults) - 20:,} more records the chat template refuses"]
        raise_faults(faults)
        joined = self._join([pieces for _, pieces in sequences])
        examples = []
        for (name, _), (tokens, supervised) in zip(sequences, joined, strict=True):
            tokens, supervised = fit(tokens, supervised, max_length, self.tokenizer.bos_token_id, seen)
            examples.append(Example(name, tuple(tokens), tuple(supervised), source))
        self._count(seen, len(records), len(examples), source, max_length)
        return examples

    # -- what the tokenizer is like ------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _ends(self) -> tuple[int, int]:
        """The end and padding tokens; both must be known before anything is generated or batched."""
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        if eos is None:
            raise PlanError("the tokenizer has no end token (eos_token is null); set it in tokenizer_config.json")
        if pad is None:
            self._note(f"The tokenizer has no padding token: its end token {self.tokenizer.eos_token} pads, masked.")
        return int(eos), int(eos if pad is None else pad)

    def _template(self) -> str:
        """The template's source: the tokenizer's default one, with the date held still, or the plain form."""
        source = self.tokenizer.chat_template
        if isinstance(source, dict):
            source = source.get("default")
        if not source:
            self._note("The tokenizer has no chat template: texts stand plain, an empty line between them.")
            if self.tokenizer.bos_token_id in self.tokenizer("a")["input_ids"][:1]:
                self._bos = self.tokenizer.bos_token
            return PLAIN
        if "enable_thinking" in source and not self._thinking:
            self._note("The chat template can open answers with thoughts: these are switched off.")
        if "strftime_now" in source:
            self._note("The chat template writes today's date: 26 Jul 2024 is written instead, on every day.")
            return TODAY + source
        return source

    def _takes_system(self) -> bool:
        """Whether a system message is accepted and shown."""
        probe = [Turn("system", "lethe-system"), Turn("user", "lethe-user")]
        try:
            return "lethe-system" in self._render(probe, generate=True)
        except TemplateError:
            return False

    def _stop(self) -> tuple[str, bool, list[int]]:
        """What closes an answer: its text, whether the template writes it, and the ids that end a generation."""
        text = self._render([Turn("user", "lethe-user"), Turn("assistant", "lethe-answer")])
        closing = text.rpartition("lethe-answer")[2]
        if found := self._special_text.search(closing):
            ids = dict.fromkeys([self._special[found[0]], self.eos_id])
            return closing[: found.end()], True, list(ids)
        self._note(f"The chat template closes answers with no special token: {self.tokenizer.eos_token} is added.")
        return str(self.tokenizer.eos_token), False, [self.eos_id]

    def _render(self, messages: list[Turn], generate: bool = False) -> str:
        said = [{"role": m.role, "content": m.content} for m in messages]
        names = {"bos": self._bos, "enable_thinking": self._thinking, "add_generation_prompt": generate}
        return self.tokenizer.apply_chat_template(said, chat_template=self._source, tokenize=False, **names)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    # -- from a record to pieces ---------------------------------------------------------------------------------------

    def _fitting(self, messages: list[Turn]) -> list[Turn]:
        """The messages as the template takes them: a system text it has no place for goes before the first user's."""
        if self._system_first or messages[0].role != "system":
            return messages
        self._note("The chat template takes no system message: system texts stand in front of the first user message.")
        system, rest = messages[0].content, messages[1:]
        first = next(i for i, m in enumerate(rest) if m.role == "user")
        return [*rest[:first], Turn("user", f"{system}\n\n{rest[first].content}"), *rest[first + 1 :]]

    def _sequences(self, record: Record, seen: Counter[str]) -> list[tuple[str, list[Piece]]]:
        """The record's id and pieces: one sequence where the template is prefix-stable on it, else one an answer."""
        messages = self._fitting(list(record.messages))
        seen["special"] += any(self._special_text.search(m.content) for m in messages)
        seen["unanswered"] += messages[-1].role != "assistant"
        whole, apart, before, stable = list[Piece](), [], "", True
        for place in (i for i, m in enumerate(messages) if m.role == "assistant"):
            prompt = self._render(messages[:place], generate=True)
            body, rendered = self._answer(prompt, messages, place)
            seen["foreign"] += rendered is None
            stable = stable and prompt.startswith(before)
            answer = (body + self._stop_text, messages[place].trained)
            whole += [(prompt[len(before) :], False), answer]
            if messages[place].trained:
                apart.append((record.id, [(prompt, False), answer]))
            before = rendered or prompt + body + self._stop_text
        if stable:
            return [(record.id, whole)]
        seen["unstable"] += 1
        return apart

    def _answer(self, prompt: str, messages: list[Turn], place: int) -> tuple[str, str | None]:
        """The answer as the template writes it, without its stop, and all that is written so far.

        Where that does not begin with the prompt it is None, and the answer is as it stands in the record.
        """
        text = self._render(messages[: place + 1])
        if not text.startswith(prompt):
            return messages[place].content, None
        answer = text[len(prompt) :]
        end = answer.rfind(self._stop_text) if self._stop_rendered else -1
        if end >= 0:
            return answer[:end], prompt + answer[: end + len(self._stop_text)]
        return answer.rstrip("\n"), prompt + answer.rstrip("\n")

    # -- from pieces to tokens -----------------------------------------------------------------------------------------

    def _join(self, sequences: list[list[Piece]]) -> list[tuple[list[int], list[bool]]]:
        """Token ids and which are supervised. Batched: every piece alone, and every piece behind its left neighbour."""
        alone = [text for pieces in sequences for text, _ in pieces]
        behind = [one + two for pieces in sequences for (one, _), (two, _) in pairwise(pieces)]
        texts = dict.fromkeys(alone + behind)
        ids = dict(zip(texts, self._tokens(list(texts)), strict=True))
        joined = []
        for pieces in sequences:
            tokens, supervised, left = list[int](), list[bool](), ""
            for text, answer in pieces:
                new = self._behind(left, text, ids)
                tokens += new
                supervised += [answer] * len(new)
                left = text
            joined.append((tokens, supervised))
        return joined

    def _behind(self, left: str, text: str, ids: dict[str, list[int]]) -> list[int]:
        """The tokens of a text that follows `left`, whose tokens are already fixed.

        Where the two merge across the seam, a line break stands in for `left`: text after it is in mid-text too.
        """
        for anchor in (left, "\n") if left else ():
            missing = [t for t in (anchor, anchor + text) if t not in ids]
            ids.update(zip(missing, self._tokens(missing), strict=True))
            if ids[anchor + text][: len(ids[anchor])] == ids[anchor]:
                return ids[anchor + text][len(ids[anchor]) :]
        return ids[text]

    def _count(self, seen: Counter[str], n: int, examples: int, source: str, room: int) -> None:
        """Turn the counters of one call into notes."""
        of = f"of {n:,} {source} records"
        cut = f"of {examples:,} {source} examples" if seen["unstable"] else of
        apart = f"are one example an answer ({examples:,} examples in all): the chat template changes earlier turns"
        foreign = f"answers in {n:,} {source} records do not begin as the chat template begins one: written as they stand"
        ends = f"were longer than {room:,} tokens: their ends were cut (at most {seen['ends most']:,} tokens lost)"
        prompts = f"had prompts too long for {room:,} tokens: cut from the left (at most {seen['prompts most']:,} lost)"
        for what, text in {
            "unstable": f"{of} {apart}",
            "foreign": foreign,
            "special": f"{of} spell out a special token in their text: it is read as that token",
            "unanswered": f"{of} end in turns that nobody answers: these are not trained",
            "prompts": f"{cut} {prompts}",
            "ends": f"{cut} {ends}",
        }.items():
            if seen[what]:
                self._note(f"{seen[what]:,} {text}.")


def fit(
    tokens: list[int], supervised: list[bool], room: int, bos: int | None, seen: Counter[str]
) -> tuple[list[int], list[bool]]:
    """At most `room` tokens that keep the first answer, or as much of it as fits half the room.

    What is too long loses its end (the stop token with it: a cut answer never learns to stop). Only where the prompt
    leaves the first answer no such place does the prompt lose its beginning, a BOS excepted.
    """
    start = supervised.index(True)
    answer = next((i for i, s in enumerate(supervised[start:]) if not s), len(supervised) - start)
    left = start + min(answer, room // 2) - room
    if left > 0:
        keep = int(tokens[0] == bos)
        tokens, supervised = tokens[:keep] + tokens[left + keep :], supervised[:keep] + supervised[left + keep :]
        seen["prompts"] += 1
        seen["prompts most"] = max(seen["prompts most"], left)
    if len(tokens) > room:
        last = max(i for i in range(room) if supervised[i]) + 1
        seen["ends"] += 1
        seen["ends most"] = max(seen["ends most"], len(tokens) - last)
        tokens, supervised = tokens[:last], supervised[:last]
    return tokens, supervised
