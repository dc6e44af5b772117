"""TemplateText: a tokenizer's chat template, tried out once, and the text that it makes of a conversation.

Nothing here is about tokens but the names of special ones; harness/tokens/chat_template.py goes on from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from harness.errors import PlanError
from harness.files.turns import Turn
from harness.text.thoughts import THINK, after_prompt, ending_of, is_open, split_thoughts
from harness.tokens.plain_form import PLAIN
from harness.tokens.thought_marks import marks_of_template
from harness.tokens.tokenizer import Tokens
from harness.tokens.tools import PROBE, PROBED, ROLE, split_tools, tools_in_words
from harness.tokens.written import NotLocal, Step, Written, turn_without_thoughts, with_marks

TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro +%}"
"""Put before templates that write today's date: the same prompt on any day (the date Llama 3 falls back to)."""
QUESTION = Turn("user", "Lethe asked, No. 1")
ANSWER = Turn("assistant", 'Lethe\'s "Answer" & <No.> 1')
"""The conversation that a template is tried on."""

NEAR = 8
"""Turns that an answer is rendered behind, in a conversation of more answers than these: a guess at how far templates look."""


class TemplateText:
    """A tokenizer's chat template, checked, or a plain form where it has none."""

    def __init__(self, tokenizer: Any, *, thinking: bool = False):
        """`tokenizer` is a Hugging Face one; `thinking` lets answers begin with thoughts where the template knows of any."""
        self.tokenizer = tokenizer
        self.thinking = thinking
        self._notes: dict[str, None] = {}
        self.eos_id, self.pad_id = self._ends()
        self.tokens = Tokens(tokenizer)
        self._source = self._template()
        thoughts = marks_of_template(tokenizer, self._source, self.tokens.names)
        if thoughts.note:
            self.note(thoughts.note)
        self.marks = thoughts.marks or THINK
        """What the template writes around thoughts."""
        self.knows_thoughts = thoughts.marks is not None or "think" in self._source
        """Whether the template says anything of thoughts."""
        try:
            written = self._render([QUESTION, ANSWER]) + self._render([QUESTION], generate=True)
            self.tokens = Tokens(tokenizer, written, self.marks)
            self.stop_text, self._stop_rendered, self.stop_ids = self._stop()
            self._header = self._missing_header()
        except TemplateError as error:
            cure = "take a tokenizer whose template does, or remove chat_template to ask in the plain form"
            raise PlanError(f"the chat template does not take a question and its answer ({error}); {cure}") from error
        self._system_first = self._takes_system()
        self._writes_tools = self._takes_tools()
        self._check_history()

    @property
    def notes(self) -> list[str]:
        """Sentences the report must show: about the template, and about each set of records encoded so far."""
        return list(self._notes)

    def note(self, text: str) -> None:
        """Say something in the report, once."""
        self._notes[text] = None

    @property
    def drops_thoughts(self) -> bool:
        """Whether answers are trained without the thoughts that they have in the data."""
        return self.knows_thoughts and not self.thinking

    @property
    def opens_thoughts(self) -> bool:
        """Whether answers begin inside a thought."""
        return self.knows_thoughts and is_open(ending_of(self._prompt([QUESTION]), self.marks), self.marks)

    def steps(self, messages: Sequence[Turn]) -> list[Step]:
        """Return every answer of a conversation in its place, and the prompt at its end where nobody answers."""
        turns = self._fitting(messages)
        answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
        if not answers or answers[-1] < len(turns) - 1:
            answers.append(len(turns))  # nobody answers the last turn: a prompt with no answer
        if len(answers) > NEAR:
            try:
                return self._cut(self._chained(turns, answers))
            except (NotLocal, TemplateError):
                pass  # the whole conversation says it
        return self._cut(self._written(turns, index) for index in answers)

    def _cut(self, answers: Iterable[Written]) -> list[Step]:
        """Return the steps of a conversation whose answers are written so, in order."""
        steps: list[Step] = []
        pieces: list[str] = []
        before = ""
        stable = True
        for written in answers:
            # once a prompt does not begin with what was said so far, no later one is cut into pieces
            stable = stable and written.prompt.startswith(before)
            lead = [*pieces, written.prompt[len(before) :]] if stable else list(written.cut or (written.prompt,))
            steps.append(Step(lead, written.answer, stable, written.foreign))
            pieces = [*lead, written.answer, self.stop_text]
            before = written.whole
            stable = stable and self._stop_rendered
        return steps

    # -- what the template is like -------------------------------------------------------------------------------------

    def _ends(self) -> tuple[int, int]:
        """Return the end and padding tokens; both must be known before anything is generated or batched."""
        eos = self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        if eos is None:
            raise PlanError("the tokenizer has no end token (eos_token is null); set it in tokenizer_config.json")
        if pad is None:
            self.note(f"The tokenizer has no padding token: its end token {self.tokenizer.eos_token} pads, masked.")
            pad = eos
        return int(eos), int(pad)

    def _template(self) -> str:
        """Return the template's source: the tokenizer's default one, with the date held still, or the plain form."""
        source = self.tokenizer.chat_template
        if isinstance(source, dict):
            named = ", ".join(source)
            source = source.get("default")
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
        """Return whether a system message is accepted and shown."""
        try:
            return "lethe-system" in self._render([Turn("system", "lethe-system"), QUESTION], generate=True)
        except TemplateError:
            return False

    def _takes_tools(self) -> bool:
        """Return whether the template has a form of its own for tools."""
        try:
            return PROBED in self._render([PROBE, QUESTION], generate=True)
        except TemplateError:
            return False

    def _check_history(self) -> None:
        """Note a template that shows no turn but the last."""
        try:
            if QUESTION.content not in self._render([QUESTION, ANSWER, Turn("user", "And again?")], generate=True):
                self.note("The chat template shows the last question only: prompts have no earlier turns.")
        except TemplateError:
            return  # records of several turns are refused one by one

    def _stop(self) -> tuple[str, bool, list[int]]:
        """Return what closes an answer: its text, whether the template writes it, and the ids that end a generation."""
        _, answer, closing = self._render([QUESTION, ANSWER]).rpartition(ANSWER.content)
        if not answer:
            cure = "take a tokenizer whose template leaves answers alone, or remove chat_template to ask in the plain form"
            raise PlanError(f"the chat template does not write an answer as it stands ('{ANSWER.content}'); {cure}")
        self._closing = closing
        name = self.tokens.names.search(closing)
        if name:
            # the end token stops a generation too, since base models were trained with it
            ids = dict.fromkeys([self.tokens.control[name[0]], self.eos_id])
            return closing[: name.end()], True, list(ids)
        self.note(f"The chat template closes answers with no special token: {self.tokenizer.eos_token} is added.")
        return str(self.tokenizer.eos_token), False, [self.eos_id]

    def _missing_header(self) -> str:
        """Return what the template writes before an answer and leaves out of its prompts: it belongs to them. Mostly nothing.

        Thoughts that are skipped stand in prompts likewise, unless answers are to begin with thoughts. Blanks at the
        header's end belong to the answer.
        """
        prompt = self._render([QUESTION], generate=True)
        whole = self._render([QUESTION, ANSWER])
        if not whole.startswith(prompt) or is_open(ending_of(prompt, self.marks), self.marks):
            return ""
        header = whole[len(prompt) :].partition(ANSWER.content)[0]
        if self.thinking:
            header = header.partition(self.marks.answer or self.marks.open)[0]
        header = header.rstrip(" ")
        if not header.strip():
            return ""
        self.note(f"The chat template's prompts leave out {header.strip()!r}, which it writes before answers: it is added.")
        return header

    # -- from a conversation to text -----------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Turn], generate: bool = False) -> str:
        """Return the template's text for these messages. Raises TemplateError for whatever the template cannot do."""
        tools, turns = split_tools([replace(turn, content=self.tokens.spell(turn.content)) for turn in messages])
        spelled = [{"role": turn.role, "content": turn.content} for turn in turns]
        names: dict[str, Any] = {"start": self.tokens.start_text, "enable_thinking": self.thinking}
        names |= {"thinking": self.thinking, "add_generation_prompt": generate}
        if tools:
            names["tools"] = tools
        try:
            return self.tokenizer.apply_chat_template(spelled, chat_template=self._source, tokenize=False, **names)
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # a template given texts it is not made for
            raise TemplateError(str(error)) from error

    def _fitting(self, messages: Sequence[Turn]) -> list[Turn]:
        """Return the messages as the template takes them: without thoughts that are skipped.

        Tools go into the system text if the template has no form for them. A system text it has no place for goes before
        the first user's.
        """
        turns = list(messages)
        if turns and turns[0].role == ROLE:
            if self._writes_tools:
                return [turns[0], *self._fitting(turns[1:])]
            self.note("The chat template has no form for tools: they are described in the system message.")
            turns = tools_in_words(turns)
        if self.drops_thoughts:
            turns = [turn_without_thoughts(turn) for turn in turns]
        elif self.knows_thoughts:
            turns = [with_marks(turn, self.marks) for turn in turns]
        if self._system_first or not turns or turns[0].role != "system":
            return turns
        self.note("The chat template takes no system message: system texts stand in front of the first user message.")
        system, *others = turns
        users = [index for index, turn in enumerate(others) if turn.role == "user"]
        if not users:
            return [Turn("user", system.content), *others]
        first = users[0]
        others[first] = Turn("user", f"{system.content}\n\n{others[first].content}")
        return others

    def _prompt(self, turns: Sequence[Turn]) -> str:
        """Return all before an answer, with guards. A thought that the template opens is closed where none is wanted."""
        text = self._render(turns, generate=True) + self._header
        if not self.drops_thoughts:
            return text
        ending = ending_of(text, self.marks)
        return text[: len(text) - len(ending)] + self.marks.skipped if is_open(ending, self.marks) else text

    def _chained(self, turns: Sequence[Turn], answers: Sequence[int]) -> Iterator[Written]:
        """Yield the answers of a long conversation, each rendered behind the few turns before it: linear in turns.

        What a turn adds to the text before it is taken from there. Raises NotLocal where that is not what the template
        writes of the whole conversation, tried in its middle and at its end.
        """
        head = [turn for turn in turns[:1] if turn.role == "system"]
        for index in answers[:NEAR]:
            yield self._written(turns, index)
        history = self._render(turns[: answers[NEAR - 1]])
        cut = [history]
        tried = (answers[len(answers) // 2], answers[-1])
        for before, index in pairwise(answers[NEAR - 1 :]):
            begin = before - NEAR
            while turns[begin].role != "user":
                begin -= 1
            window = [*head, *turns[begin : index + 1]]
            stop = len(head) + index - begin
            shorter = self._render(window[: stop - (index - before)])
            longer = self._render(window[:stop])
            local = self._written(window, stop)
            if not (longer.startswith(shorter) and local.prompt.startswith(longer)):
                raise NotLocal
            history += longer[len(shorter) :]
            cut.append(longer[len(shorter) :])
            rest = local.prompt[len(longer) :]
            prompt = history + rest
            whole = prompt + local.whole[len(local.prompt) :] if local.whole else ""
            written = replace(local, prompt=prompt, whole=whole, cut=(*cut, rest))
            if index in tried and written != self._written(turns, index):
                raise NotLocal
            yield written

    def _written(self, turns: Sequence[Turn], index: int) -> Written:
        """Return the answer at `index` as the template writes it behind its prompt; an empty one where nobody answers."""
        prompt = self._prompt(turns[:index])
        if index == len(turns):
            return Written(prompt, "", "")
        ending = ending_of(prompt, self.marks) if self.knows_thoughts else ""
        stem = prompt[: len(prompt) - len(ending)]
        text = self._render(turns[: index + 1])
        # a turn that begins or closes in another way cannot be cut: then the answer is the record's own text
        foreign = not (text.startswith(stem) and text.endswith(self._closing))
        answer = text[len(stem) : len(text) - len(self._closing)]
        if foreign:
            answer = self.tokens.spell(turns[index].content)
        if self.knows_thoughts:
            thoughts, _ = split_thoughts(turns[index].content)
            answer = after_prompt(ending, answer, self.tokens.spell(thoughts or ""), self.thinking, self.marks)
        stop = self.stop_text if self._stop_rendered or foreign else ""
        return Written(prompt, answer, prompt + answer + stop, foreign)
