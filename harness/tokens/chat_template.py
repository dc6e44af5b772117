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
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

from harness.contract import Example
from harness.errors import PlanError
from harness.files.records import Record
from harness.files.turns import Turn
from harness.text.thoughts import NONE, OPEN, after_prompt, ending_of, is_open, split_thoughts
from harness.tokens.examples import encode_records
from harness.tokens.rendered import Rendered
from harness.tokens.tokenizer import Tokens

PLAIN = (
    "{{ start }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""For tokenizers without a template: system, user and an empty line after each, then the answer and the end token."""
TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro +%}"
"""Put before templates that write today's date: the same prompt on any day (the date Llama 3 falls back to)."""
ASKED, ANSWERED = Turn("user", "Lethe asked, No. 1"), Turn("assistant", 'Lethe\'s "Answer" & <No.> 1')
"""What a template is tried on."""
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """One answer of a conversation as the template writes it. User's texts have guards."""

    prompt: str
    answer: str
    """Without its stop."""
    whole: str
    """All up to and with the stop."""
    foreign: bool = False
    """Whether the template writes the answer's turn otherwise than it begins one: the answer stands as in the record."""


@dataclass(frozen=True)
class Step:
    """An answer, or the prompt for one, and what stands before it: prompt, answer, stop, prompt, and so on to a prompt."""

    lead: list[str]
    answer: str
    stable: bool
    """Whether the answers before it stand in the prompt as they were answered; if not, the lead is one piece."""
    foreign: bool


class ChatTemplate:
    """A tokenizer's chat template, checked, or a plain form where it has none."""

    def __init__(self, tokenizer: Any, *, thinking: bool = False):
        """`tokenizer` is a Hugging Face one; `thinking` lets answers begin with thoughts where the template knows of any."""
        self.tokenizer, self.thinking = tokenizer, thinking
        self._notes: dict[str, None] = {}
        self.eos_id, self.pad_id = self._ends()
        self.tokens = Tokens(tokenizer)
        self._source = self._template()
        self._knows_thoughts = "think" in self._source
        try:
            self.tokens = Tokens(tokenizer, self._render([ASKED, ANSWERED]) + self._render([ASKED], generate=True))
            self.stop_text, self._stop_rendered, self.stop_ids = self._stop()
            self._header = self._missing_header()
        except TemplateError as error:
            cure = "take a tokenizer whose template does, or remove chat_template to ask in the plain form"
            raise PlanError(f"the chat template does not take a question and its answer ({error}); {cure}") from error
        self._system_first = self._takes_system()
        self._check_history()

    @property
    def notes(self) -> list[str]:
        """What the report must say: about the template, and about each set of records encoded so far."""
        return list(self._notes)

    def note(self, text: str) -> None:
        """Say something in the report, once."""
        self._notes[text] = None

    @cached_property
    def skipping(self) -> ChatTemplate:
        """The same template with thoughts skipped: what suites are asked with, whose answers have none."""
        return ChatTemplate(self.tokenizer) if self.thinking else self

    # -- prompts, choices, examples ------------------------------------------------------------------------------------

    def prompt(self, messages: Iterable[Turn], opening: str = "") -> Rendered:
        """The text a generation starts from. `opening`: how the answer begins."""
        turns = tuple(messages)
        try:
            text = self._prompt(self._fitting(turns))
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise PlanError(f"the chat template refuses a prompt of {roles} ({error}); mend its turns or remove it") from error
        return Rendered(self.tokens.plain(text), turns, opening, self.thinking)

    def encode_prompt(self, messages: Iterable[Turn]) -> list[int]:
        """The tokens a generation starts from."""
        return list(self.prompt_tokens([self.prompt(messages)])[0])

    def prompt_tokens(self, prompts: Sequence[Rendered]) -> list[Ids]:
        """The tokens of rendered prompts."""
        pieces = [self._of(prompt).pieces_of(prompt) for prompt in prompts]
        return [_flat(ids) for ids in self.tokens.join(pieces)]

    def choice_tokens(self, pairs: Sequence[tuple[Rendered, str]]) -> list[tuple[Ids, Ids]]:
        """(prompt, answer) of each rendered prompt and answer, as training has them, the stop aside.

        Where a prompt opens its answer, the two are cut behind the last token that they share.
        """
        whole = [self._of(prompt).pieces_of(prompt, answer) for prompt, answer in pairs]
        opened = [prompt for prompt, _ in pairs if prompt.opening]
        begun = iter(self.prompt_tokens(opened))
        found = []
        for (prompt, _), (*lead, answer) in zip(pairs, self.tokens.join(whole), strict=True):
            asked = _flat(lead)
            tokens = (*asked, *answer)
            size = len(_common(next(begun), tokens[:-1])) if prompt.opening else len(asked)
            found.append((tokens[:size], tokens[size:]))
        return found

    def pieces_of(self, prompt: Rendered, answer: str | None = None) -> list[str]:
        """A rendered prompt, with the answer's beginning where it gives one; with `answer`: the whole answer behind it."""
        said = prompt.opening.strip() if answer is None else prompt.opening + answer
        if not said and answer is None:
            return self.steps(prompt.turns)[-1].lead
        step = self.steps([*prompt.turns, Turn("assistant", said)])[-1]
        if answer is not None:
            return [*step.lead, step.answer]
        begun, found, _ = step.answer.rpartition(self.tokens.spell(said))
        return [*step.lead, begun + found]

    def steps(self, messages: Sequence[Turn]) -> list[Step]:
        """Every answer of a conversation in its place, and the prompt at its end where nobody answers."""
        turns = self._fitting(messages)
        places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        if not places or places[-1] < len(turns) - 1:
            places.append(len(turns))
        steps, pieces, before, stable = list[Step](), list[str](), "", True
        for place in places:
            written = self._written(turns, place) if place < len(turns) else Written(self._prompt(turns), "", "")
            stable = stable and written.prompt.startswith(before)
            lead = [*pieces, written.prompt[len(before) :]] if stable else [written.prompt]
            steps.append(Step(lead, written.answer, stable, written.foreign))
            pieces, before = [*lead, written.answer, self.stop_text], written.whole
            stable = stable and self._stop_rendered
        return steps

    def encode(self, record: Record, source: str = "domain", *, max_length: int) -> list[Example]:
        """One record's examples; for many, `encode_all` is faster and notes what it cut."""
        return self.encode_all([record], source, max_length=max_length)

    def encode_all(self, records: Sequence[Record], source: str = "domain", *, max_length: int) -> list[Example]:
        """The examples of all records, in order. What was cut or unusual is counted in `notes`."""
        return encode_records(self, records, source, max_length)

    @property
    def drops_thoughts(self) -> bool:
        """Whether answers are trained without the thoughts that they have in the data."""
        return self._knows_thoughts and not self.thinking

    @property
    def opens_thoughts(self) -> bool:
        """Whether answers begin inside a thought."""
        return self._knows_thoughts and is_open(ending_of(self._prompt([ASKED])))

    def stops(self, model: Any) -> frozenset[int]:
        """The ids that end a generation: the template's, the tokenizer's, and those of the model's generation_config.

        Where there is no generation_config.json, transformers makes one of config.json, whose end token may be a default:
        any token. Of those only tokens that are no text count.
        """
        config = getattr(model, "generation_config", None)
        named = getattr(config, "eos_token_id", None)
        ids = [] if named is None else [named] if isinstance(named, int) else list(named)
        if getattr(config, "_from_model_config", False):
            ids = [one for one in ids if one in self.tokenizer.added_tokens_decoder]
        return frozenset(self.stop_ids).union(ids)

    # -- what the template is like -------------------------------------------------------------------------------------

    def _of(self, prompt: Rendered) -> ChatTemplate:
        """Who rendered a prompt: this template, or the one that skips thoughts."""
        return self if prompt.thinking == self.thinking else self.skipping

    def _ends(self) -> tuple[int, int]:
        """The end and padding tokens; both must be known before anything is generated or batched."""
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        if eos is None:
            raise PlanError("the tokenizer has no end token (eos_token is null); set it in tokenizer_config.json")
        if pad is None:
            self.note(f"The tokenizer has no padding token: its end token {self.tokenizer.eos_token} pads, masked.")
        return int(eos), int(eos if pad is None else pad)

    def _template(self) -> str:
        """The template's source: the tokenizer's default one, with the date held still, or the plain form."""
        source = self.tokenizer.chat_template
        if isinstance(source, dict):
            named, source = ", ".join(source), source.get("default")
            if named and not source:
                cure = "name the one to use 'default' in the tokenizer's files"
                raise PlanError(f"the tokenizer has chat templates ({named}), but none is called default; {cure}")
        if not source:
            self.note("The tokenizer has no chat template: texts stand plain, an empty line between them.")
            return PLAIN
        if "enable_thinking" in source and not self.thinking:
            self.note("The chat template can open answers with thoughts: these are switched off.")
        if "strftime_now" in source:
            self.note("The chat template writes today's date: 26 Jul 2024 is written instead, on every day.")
            return TODAY + source
        return source

    def _takes_system(self) -> bool:
        """Whether a system message is accepted and shown."""
        try:
            return "lethe-system" in self._render([Turn("system", "lethe-system"), ASKED], generate=True)
        except TemplateError:
            return False

    def _check_history(self) -> None:
        """Say so where a template shows no turn but the last."""
        try:
            if ASKED.content not in self._render([ASKED, ANSWERED, Turn("user", "And again?")], generate=True):
                self.note("The chat template shows the last question only: prompts have no earlier turns.")
        except TemplateError:
            return  # records of several turns are refused one by one

    def _stop(self) -> tuple[str, bool, list[int]]:
        """What closes an answer: its text, whether the template writes it, and the ids that end a generation."""
        _, found, closing = self._render([ASKED, ANSWERED]).rpartition(ANSWERED.content)
        if not found:
            cure = "take a tokenizer whose template leaves answers alone, or remove chat_template to ask in the plain form"
            raise PlanError(f"the chat template does not write an answer as it stands ('{ANSWERED.content}'); {cure}")
        self._closing = closing
        if name := self.tokens.names.search(closing):
            ids = dict.fromkeys([self.tokens.control[name[0]], self.eos_id])
            return closing[: name.end()], True, list(ids)
        self.note(f"The chat template closes answers with no special token: {self.tokenizer.eos_token} is added.")
        return str(self.tokenizer.eos_token), False, [self.eos_id]

    def _missing_header(self) -> str:
        """What the template writes before an answer and leaves out of its prompts: it belongs to them. Mostly nothing.

        Thoughts that are skipped stand in prompts likewise, unless answers are to begin with thoughts. Blanks at the
        header's end belong to the answer.
        """
        prompt = self._render([ASKED], generate=True)
        whole = self._render([ASKED, ANSWERED])
        if not whole.startswith(prompt) or is_open(ending_of(prompt)):
            return ""
        header = whole[len(prompt) :].partition(ANSWERED.content)[0]
        if self.thinking:
            header = header.partition(OPEN)[0]
        header = header.rstrip(" ")
        if not header.strip():
            return ""
        self.note(f"The chat template's prompts leave out {header.strip()!r}, which it writes before answers: it is added.")
        return header

    # -- from a conversation to text -----------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Turn], generate: bool = False) -> str:
        said = [{"role": m.role, "content": self.tokens.spell(m.content)} for m in messages]
        names = {"start": self.tokens.start_text, "enable_thinking": self.thinking, "add_generation_prompt": generate}
        try:
            return self.tokenizer.apply_chat_template(said, chat_template=self._source, tokenize=False, **names)
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # what a template does with texts it is not made for
            raise TemplateError(str(error)) from error

    def _fitting(self, messages: Sequence[Turn]) -> list[Turn]:
        """The messages as the template takes them: without thoughts that are skipped.

        A system text it has no place for goes before the first user's.
        """
        turns = list(messages)
        if self.drops_thoughts:
            turns = [replace(m, content=split_thoughts(m.content)[1]) if m.role == "assistant" else m for m in turns]
        if self._system_first or not turns or turns[0].role != "system":
            return turns
        self.note("The chat template takes no system message: system texts stand in front of the first user message.")
        system, rest = turns[0].content, turns[1:]
        first = next((i for i, m in enumerate(rest) if m.role == "user"), None)
        if first is None:
            return [Turn("user", system), *rest]
        return [*rest[:first], Turn("user", f"{system}\n\n{rest[first].content}"), *rest[first + 1 :]]

    def _prompt(self, turns: Sequence[Turn]) -> str:
        """All before an answer, with guards. A thought that the template opens is closed again where none is wanted."""
        text = self._render(turns, generate=True) + self._header
        ending = ending_of(text) if self._knows_thoughts and not self.thinking else ""
        return text[: len(text) - len(ending)] + NONE if is_open(ending) else text

    def _written(self, turns: Sequence[Turn], place: int) -> Written:
        """The answer at `place` as the template writes it behind its prompt."""
        prompt = self._prompt(turns[:place])
        ending = ending_of(prompt) if self._knows_thoughts else ""
        stem = prompt[: len(prompt) - len(ending)]
        text = self._render(turns[: place + 1])
        foreign = not (text.startswith(stem) and text.endswith(self._closing))
        answer = text[len(stem) : len(text) - len(self._closing)]
        if foreign:
            answer = self.tokens.spell(turns[place].content)
        if self._knows_thoughts:
            thoughts, _ = split_thoughts(turns[place].content)
            answer = after_prompt(ending, answer, self.tokens.spell(thoughts or ""), self.thinking)
        stop = self.stop_text if self._stop_rendered or foreign else ""
        return Written(prompt, answer, prompt + answer + stop, foreign)


def _flat(pieces: Sequence[Sequence[int]]) -> Ids:
    return tuple(token for piece in pieces for token in piece)


def _common(one: Sequence[int], other: Sequence[int]) -> Ids:
    """What both begin with."""
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def encode_texts(tokenizer: Any, records: Sequence[Record], source: str, room: int) -> list[Example]:
    """Plain texts as examples of at most `room` tokens: a text is cut, never shortened, and ends with the end token.

    A piece begins, unsupervised, with the token before its own (the first with what the evaluation puts before a text: BOS,
    else the end token), so that every token of every text is a target exactly once. Control tokens that a text spells out
    are text.
    """
    before = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    tokens_of = Tokens(tokenizer)
    encoded = tokens_of.encode([tokens_of.spell(record.text) for record in records])
    examples = []
    for record, ids in zip(records, encoded, strict=True):
        tokens = (before, *ids, tokenizer.eos_token_id)
        for piece, start in enumerate(range(0, len(tokens) - 1, room - 1)):
            part = tokens[start : start + room]
            name = f"{record.id}.{piece}" if piece else record.id
            examples.append(Example(name, part, (False, *[True] * (len(part) - 1)), source))
    return examples
