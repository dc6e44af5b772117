"""Thoughts: what a model writes before its answer, between marks such as <think> and </think>.

They are trained where the data has them, and never scored: a scorer reads the answer after them. Models mark them in many
ways. `PAIRS` has the known ones: every shape of a mark with every name. What looks like a mark and is none of them is read as
the answer, counted, and said (`unknown_mark`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """The marks around a thought."""

    open: str
    close: str
    bare: bool = True
    """Whether the closing mark counts where the opening one is missing: a prompt may end with it. Not where other texts than
    models' have such a tag."""
    tight: bool = False
    """Whether thoughts follow their mark at once, without line breaks."""
    answer: str = ""
    """What opens the answer itself, where the closing mark ends with it."""
    words: bool = False
    """Whether the marks are words that any text may have: they count only as a pair."""

    @property
    def skipped(self) -> str:
        """Thoughts that are skipped, as Qwen 3 writes them."""
        return self.around("")

    def around(self, thoughts: str) -> str:
        """Return thoughts between their marks, up to where the answer begins."""
        if self.tight:
            return f"{self.open}{thoughts}{self.close}"
        return f"{self.open}\n{thoughts}\n{self.close}\n\n"


SHAPES = (
    ("<{}>", "</{}>"),
    ("[{}]", "[/{}]"),
    ("<|{}|>", "<|/{}|>"),
    ("<|begin_of_{}|>", "<|end_of_{}|>"),
    ("<|start_{}|>", "<|end_{}|>"),
    ("<|{}_start|>", "<|{}_end|>"),
    ("<seed:{}>", "</seed:{}>"),
    ("◁{}▷", "◁/{}▷"),
)
NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "reason")
PROMPTED = ("scratchpad", "thought_process", "thinking_process", "reasoning_process", "chain_of_thought", "cot")
PROMPTED += ("inner_monologue", "internal_monologue", "redacted_thinking", "longcat_think")
"""Tags that prompts ask models for, and whose answers then stand in data."""
THINK = Marks("<think>", "</think>")
CHANNELS = Marks(
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    bare=False,
    tight=True,
    answer="<|channel|>final<|message|>",
)
"""Marks of gpt-oss, whose answers stand in a channel of their own."""
GEMMA = Marks("<|channel>thought\n", "<channel|>", tight=True)
"""Marks of Gemma 4."""
OTHERS = (
    GEMMA,
    Marks("<unused94>thought\n", "<unused95>", tight=True),  # MedGemma 1.5
    Marks("<|inner_prefix|>", "<|inner_suffix|>", tight=True),  # Apertus
    Marks("[unused16]", "[unused17]", tight=True),  # openPangu
    Marks("Here is my thought process:", "Here is my response:", bare=False, words=True),  # Granite 3.2
    Marks("Here's my thought process:", "Here's my response:", bare=False, words=True),
)
"""Marks of no common shape."""


def _pairs() -> tuple[Marks, ...]:
    """Return the known pairs, <think> first. Capitals do not matter in texts; tokenizers have their own spelling."""
    pairs = [THINK]
    for opening, closing in SHAPES:
        for name in NAMES:
            tag = opening == "<{}>"
            pair = Marks(opening.format(name), closing.format(name), bare=not tag, tight=not tag)
            if pair.open != THINK.open:
                pairs.append(pair)
    pairs += [Marks(f"<{name}>", f"</{name}>", bare=False) for name in PROMPTED]
    return (*pairs, *OTHERS)


PAIRS = _pairs()
_BY_OPENING = {pair.open.strip().lower(): pair for pair in PAIRS}
_TOKEN = re.compile(r"<[^<>]*>")


def _mark_names() -> frozenset[str]:
    """Return all marks that are no plain words, and the tokens that they are made of."""
    names: list[str] = []
    for pair in PAIRS:
        if not pair.words:
            names += [pair.open, *_TOKEN.findall(pair.open), pair.close, *_TOKEN.findall(pair.close)]
    return frozenset(names)


_MARKS = _mark_names()
_CHANNEL = r"(?:<\|start\|>assistant)?<\|channel\|>"
_OPENING = re.compile(
    r"\s*(?:" + "|".join(re.escape(pair.open.strip()) for pair in PAIRS) + rf"|{_CHANNEL}(?:analysis|commentary)<\|message\|>)",
    re.IGNORECASE,
)
_BARE = re.compile("|".join(re.escape(pair.close) for pair in PAIRS if pair.bare), re.IGNORECASE)
_CLOSINGS = {pair: re.compile(re.escape(pair.close), re.IGNORECASE) for pair in PAIRS}
_CLOSINGS[CHANNELS] = re.compile(rf"(?:<\|end\|>)?{_CHANNEL}final<\|message\|>", re.IGNORECASE)
_ANSWER_MARK = re.compile(rf"\s*(?:{_CHANNEL}final<\|message\|>|<\|begin_of_solution\|>|<\|start_response\|>)", re.IGNORECASE)
"""What opens the answer itself, in models that mark it too."""
_ANSWER_END = re.compile(r"\s*(?:<\|return\|>|<\|end\|>|<\|end_of_solution\|>|<\|end_response\|>)\s*\Z", re.IGNORECASE)
_LOOK = re.compile(
    r"<\|?/?[\w:-]*(?:think|thought|reason|reflect|scratchpad|rationale|ponder|monologue|analysis)[\w:-]*\|?>"
    r"|\[/?\w*(?:think|thought|reasoning|scratchpad|monologue)\w*\]"
    r"|<\|channel\|>"
    r"|◁/?\w+▷",
    re.IGNORECASE,
)
"""What looks like a mark of thoughts."""


def split_thoughts(answer: str) -> tuple[str | None, str]:
    """Return (thoughts, the answer after them); None where it has none. Blocks that follow each other count as one.

    The opening mark may be missing: where a prompt ends with it, answers begin inside.
    """
    thoughts: list[str] = []
    rest = answer
    marked = False
    while True:
        mark = _ANSWER_MARK.match(rest)
        if mark:
            marked = True
            rest = rest[mark.end() :].lstrip()
        # Blocks of thoughts may follow each other, each after a mark of the answer or none.
        block = _first_block(rest)
        if block is None:
            break
        inner, rest = block
        thoughts.append(inner)
    if not (thoughts or marked):
        return None, answer
    return "\n".join(filter(None, thoughts)), _ANSWER_END.sub("", rest)


def _first_block(text: str) -> tuple[str, str] | None:
    """Return the thoughts that a text begins with and what comes after them; None where it does not begin with any."""
    # Where the opening mark is missing, the prompt may have ended with it: the closing one is enough.
    opening = _OPENING.match(text)
    if opening:
        begin = opening.end()
        closing = _closing(opening[0].strip()).search(text, begin)
    else:
        begin = 0
        closing = _BARE.search(text)
    if closing is None:
        return None
    return text[begin : closing.start()].strip(), text[closing.end() :].lstrip()


def _closing(opening: str) -> re.Pattern[str]:
    """Return what closes a thought that was opened so."""
    pair = _BY_OPENING.get(opening.strip().lower(), CHANNELS)
    return _CLOSINGS[pair]


def without_thoughts(output: str, inside: bool = False) -> str:
    """Return what a scorer reads of an output: nothing while a thought is open. `inside`: the prompt opened one."""
    thoughts, answer = split_thoughts(output)
    if opens(answer) or (inside and thoughts is None):
        return ""
    return answer


def opens(text: str) -> bool:
    """Return whether a text begins with the opening mark of a thought."""
    opening = _OPENING.match(text)
    if opening is None:
        return False
    pair = _BY_OPENING.get(opening[0].strip().lower())
    return pair is None or not pair.words


def unknown_mark(answer: str) -> str:
    """Return a likely mark of thoughts within the part of an answer that scorers read; "" if there is none."""
    match = _LOOK.search(split_thoughts(answer)[1])
    return match[0] if match else ""


def marks_of(source: str) -> Marks | None:
    """Return the marks that a chat template writes or looks for; None where it names none."""
    if "<|channel|>analysis" in source:
        return CHANNELS
    if GEMMA.close in source:
        return GEMMA
    folded = source.lower()

    # A pair of which the template names both marks is surer than one of which it names one.
    for whole in (True, False):
        for pair in PAIRS:
            present = (pair.open.lower() in folded, pair.close.lower() in folded)
            if all(present) if whole else any(present):
                position = folded.index((pair.open if present[0] else pair.close).lower())
                return _spelled(pair, source, position)
    return None


def in_known_marks(text: str, marks: Marks) -> str:
    """Return a text whose thoughts stand in marks that a template alone has, with them in <think>; another text as it is."""
    if marks in PAIRS or marks == CHANNELS:
        return text
    if text.lstrip().startswith(marks.open):
        text = text.replace(marks.open, THINK.open, 1)
    return text.replace(marks.close, THINK.close, 1)


def _spelled(pair: Marks, source: str, position: int) -> Marks:
    """Return a pair as a template spells it: [THINK] is another token than [think]."""
    size = len(pair.open if source[position : position + len(pair.open)].lower() == pair.open else pair.close)
    if pair.words or source[position : position + size] in (pair.open, pair.close):
        return pair
    return Marks(pair.open.upper(), pair.close.upper(), pair.bare, pair.tight)


def is_mark(name: str) -> bool:
    """Return whether a token's name is a mark of thoughts."""
    return name.lower() in _MARKS


def ending_of(prompt: str, marks: Marks = THINK) -> str:
    """Return the thoughts, open or skipped, that a prompt ends with; "" for none."""
    opening = marks.open.rstrip()
    bare = prompt.rstrip()
    if bare.endswith(marks.close):
        before = bare.removesuffix(marks.close).rstrip()
        return prompt[len(before) - len(opening) :] if before.endswith(opening) else ""
    return prompt[len(bare) - len(opening) :] if bare.endswith(opening) else ""


def is_open(ending: str, marks: Marks = THINK) -> bool:
    """Return whether a prompt's ending leaves a thought open."""
    return ending.rstrip().endswith(marks.open.rstrip())


def after_prompt(ending: str, answer: str, thoughts: str, thinking: bool, marks: Marks = THINK) -> str:
    """Return the answer as it follows a prompt with this ending, its thoughts written once.

    `answer` is what a template writes behind the prompt less the ending: it may have left out the record's `thoughts`, have
    put empty ones before them, or have left them in the marks of another model.
    """
    own_thoughts, answer_proper = split_thoughts(in_known_marks(answer, marks))
    once = len(_OPENING.findall(answer)) <= 1
    # What the template wrote is right where it wrote the thoughts once.
    if answer.startswith(ending) and once and (own_thoughts or not thoughts or not thinking):
        return answer[len(ending) :]
    # Else they are written here: behind the opening mark where the prompt ends with it.
    kept = (own_thoughts or thoughts) if thinking else ""
    if is_open(ending, marks):
        return marks.around(kept).removeprefix(marks.open).removeprefix("" if marks.tight else "\n") + answer_proper
    if ending or not kept:
        return answer_proper
    return marks.around(kept) + answer_proper


def marked(answer: str, marks: Marks) -> str:
    """Return an answer whose thoughts stand in another model's marks with them in these; another answer as it is."""
    readable = THINK if marks is CHANNELS else marks  # a template with channels takes no text that spells them
    thoughts, answer_proper = split_thoughts(answer)
    if thoughts is None or answer.lstrip().startswith(readable.open):
        return answer
    if not (_OPENING.match(answer) or _ANSWER_MARK.match(answer)):
        return answer
    return readable.around(thoughts) + answer_proper if thoughts else answer_proper
