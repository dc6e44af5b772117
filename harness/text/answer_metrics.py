"""Scores of one generated answer: pure functions of texts, each in [0, 1].

Chinese and Japanese have no spaces: there a character counts as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.text.final_answer import final_answer
from harness.text.numbers import is_number, numeric, read_tolerance

CJK = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:[.,]\d+)*")
_ARTICLES = {"a", "an", "the"}
_SIGNED = re.compile(r"(?<![\w.])-(?=\.?\d)")


def is_cjk(character: str) -> bool:
    """Return whether it belongs to a script without spaces."""
    return re.match(f"[{CJK}]", character) is not None


def words(text: str) -> list[str]:
    """Return the lower-case words without punctuation; 1,234.5 is one word, a Chinese character is one too."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """Return SQuAD's normal form (no case, punctuation or articles), but numbers keep their sign and point."""
    # The sign would go with the punctuation: -5 and 5 are different answers.
    plain = _SIGNED.sub("minus", unicodedata.normalize("NFKC", text))
    kept = [word for word in words(plain) if word not in _ARTICLES]

    # A text of nothing but punctuation or articles is compared as it is.
    return " ".join(kept) or text.strip()


def final(text: str) -> str:
    """Return the answer that a text marks as its final one; a text that marks none as it is."""
    return final_answer(text) or text


def exact_match(output: str, target: str) -> float:
    """Return 1 where both are equal in normal form. Where a text shows its working, its final answer is compared."""
    wanted = {normalise(target), normalise(final(target))}
    return float(normalise(output) in wanted or normalise(final(output)) in wanted)


def token_f1(output: str, target: str) -> float:
    """Return SQuAD's F1: harmonic mean of precision and recall over the words both hold, order ignored."""
    given, wanted = normalise(output).split(), normalise(target).split()
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted)) if common else 0.0


def rouge_l(output: str, target: str) -> float:
    """Return ROUGE-L F1: the longest common subsequence of words against both lengths (Lin 2004)."""
    given, wanted = words(output), words(target)
    common = common_length(given, wanted)
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by whole rows of its table at once (Hyyrö 2004).

    A row is a number with a bit for each place of `one`; a bit of 0 stands where the table grows by one.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & whole
    return len(one) - row.bit_count()


# --- choices -----------------------------------------------------------------------------------------------------

_OPEN = r"[\s*:\"'“”‘’「」『』【】\[\](]*"
"""What may stand between a word and the letter that it announces, full-width forms read as plain ones."""
_LETTER = rf"{_OPEN}([A-Z])(?![A-Za-z])"
_IS = r"(?i:is|应该是|应当是|应是|应为|应选|应该选|就是|即|是|为|為|选择|选)?"
_ANSWER = re.compile(rf"(?:(?i:answer)|(?<!错误)答案){_OPEN}{_IS}{_LETTER}")
_CHOSEN = re.compile(rf"(?<![不非别])(?:选项(?=[\s:]*[是为])|选择的?|选的?(?!项)){_OPEN}[是为]?{_LETTER}")
_RIGHT = re.compile(r"(?<![A-Za-z])([A-Z])\s*(?:选项|项)?\s*(?:是|为)?(?:正确|对)(?:的|$|[^\w])")
_NOT_WRONG = r"(?!\s*(?:是|为)?(?:错|不正确|不对|不符|(?i:is wrong|is incorrect)))"
_OPTION = re.compile(rf"(?:(?i:option|choice)|选项){_OPEN}{_LETTER}{_NOT_WRONG}")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text\w*\s*\{)?\s*[(]?\s*([A-Z])\s*[)]?\s*\}")
"""An answer in a box, as models that were trained to reason write it."""
_LEADING = re.compile(rf"[\s*【「\[]*[(]?([A-Z])\s*(?:[)\].:、,。;】」\n*]|选?项{_NOT_WRONG}|$)")


def choice_letter(text: str, choices: Sequence[str] = ()) -> int | None:
    """Return the choice that an answer names, by letter or by its text: "B", "(B) ...", "the answer is B", "正确答案是B"."""
    # A text that is one of the choices names it, whatever letters stand in it.
    for index, choice in enumerate(choices):
        if normalise(text) == normalise(choice):
            return index
    plain = unicodedata.normalize("NFKC", text)

    # The first way that matches decides: a leading letter before one inside a sentence.
    ways = (_LEADING.match, _BOXED.search, _ANSWER.search, _CHOSEN.search, _RIGHT.search, _OPTION.search)
    match = next((match_of_way for way in ways if (match_of_way := way(plain))), None)
    if match is None:
        return None
    index = ord(match[1]) - ord("A")
    return index if not choices or index < len(choices) else None


def choice(output: str, target: str, choices: Sequence[str] = ()) -> float:
    """Return 1 where output and target name the same choice."""
    wanted = named_choice(target, choices)
    return float(wanted is not None and named_choice(output, choices) == wanted)


def named_choice(text: str, choices: Sequence[str]) -> int | None:
    """Return the choice that the final answer names; if it names none, the one that the whole text names."""
    named = choice_letter(final(text), choices)
    return choice_letter(text, choices) if named is None else named


# --- picking -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestedMetric:
    """A metric that a plan names, with a number's tolerance and unit."""

    metric: str
    tolerance: Any = 0
    unit: str = ""

    @property
    def measure(self) -> dict[str, Any]:
        given = {"tolerance": self.tolerance, "unit": self.unit}
        return {name: value for name, value in given.items() if value}


NAMES = {"exact": "exact_match", "numeric": "numeric", "f1": "token_f1", "rougeL": "rouge_l", "choice": "letter"}
_ASKED = re.compile(r"(?:(?P<kind>[^\s=()]+)=)?(?P<name>\w+)(?:\((?P<tolerance>[^,()]*)(?:,\s*(?P<unit>[^()]*))?\))?")


def read_metrics(text: str) -> dict[str, RequestedMetric]:
    """`exact`, `numeric(1%, USD)`, or for one kind of record `amount=numeric(0.5)`, separated by blanks: {kind or "": metric}.

    Raises ValueError.
    """
    by_kind = {}
    for part in re.findall(r"[^\s(]+(?:\([^)]*\))?", text):
        match = _ASKED.fullmatch(part)
        if match is None or match["name"] not in NAMES or (match["tolerance"] is not None and match["name"] != "numeric"):
            raise ValueError(f"'{part}' is no metric; use {', '.join(NAMES)}, numeric(1%, USD), or kind=metric")
        given = (match["tolerance"] or "").strip()
        tolerance = given if given.endswith("%") else float(given or 0)
        read_tolerance(tolerance)
        by_kind[match["kind"] or ""] = RequestedMetric(NAMES[match["name"]], tolerance, (match["unit"] or "").strip())
    return by_kind


METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "numeric": numeric,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "letter": choice,
}
LABEL_WORDS, SHORT_WORDS, LONG_WORDS = 5, 12, 40


def pick_metric(answers: Sequence[str], choices: Sequence[Sequence[str] | None] | None = None) -> str:
    """Return the metric that fits these reference answers: a name in `METRICS`.

    Choices given, or bare letters: `letter`. Numbers (9 in 10): `numeric`. At most 5 words, or at most 12 that repeat like
    labels do: `exact_match`. At most 40 words: `token_f1`. Longer: `rouge_l`.

    Answers that show their working and mark the final answer (9 in 10) are judged by that one, if it is a choice, a number or
    a label.
    """
    finals = [final_answer(answer) for answer in answers]
    if len(finals) - finals.count(None) >= 0.9 * len(answers):
        picked = _pick([final(answer) for answer in answers], choices)
        if picked in ("letter", "numeric", "exact_match"):
            return picked
    return _pick(answers, choices)


def _pick(answers: Sequence[str], choices: Sequence[Sequence[str] | None] | None) -> str:
    """Return the metric that fits answers as they are."""
    given = choices or [None] * len(answers)
    if all(choice_letter(a, c or ()) is not None and (c or len(a.strip()) == 1) for a, c in zip(answers, given, strict=False)):
        return "letter"

    # One answer in ten may be a word ("none") among numbers.
    if sum(map(is_number, answers)) >= 0.9 * len(answers):
        return "numeric"
    length = median(len(words(answer)) for answer in answers)

    # Labels repeat; free answers of the same length hardly ever do.
    repeats = len(set(map(normalise, answers))) <= 0.5 * len(answers)
    if length <= LABEL_WORDS or (length <= SHORT_WORDS and repeats):
        return "exact_match"
    return "token_f1" if length <= LONG_WORDS else "rouge_l"


def best(
    metric: str, output: str, targets: Sequence[str], choices: Sequence[str] = (), measure: Mapping[str, Any] | None = None
) -> float:
    """Return the best score over all accepted answers; `measure`: a number's {tolerance, unit} where they are declared."""
    if metric == "letter":
        return max(choice(output, target, choices) for target in targets)
    if metric == "numeric" and measure:
        return max(numeric(output, target, **measure) for target in targets)
    return max(METRICS[metric](output, target) for target in targets)
