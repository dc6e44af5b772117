"""Scores of one generated answer: pure functions of texts, each in [0, 1].

Chinese and Japanese have no spaces: there a character counts as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

from harness.numbers import is_number, numeric, read_tolerance

CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:[.,]\d+)*")
_ARTICLES = {"a", "an", "the"}
_SIGNED = re.compile(r"(?<![\w.])-(?=\.?\d)")


def is_cjk(character: str) -> bool:
    """Whether it belongs to a script without spaces."""
    return re.match(f"[{CJK}]", character) is not None


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; 1,234.5 is one word, a Chinese character is one too."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """SQuAD's normal form (no case, punctuation or articles), but numbers keep their sign and point."""
    plain = _SIGNED.sub("minus", unicodedata.normalize("NFKC", text))
    kept = [word for word in words(plain) if word not in _ARTICLES]
    return " ".join(kept) or text.strip()


def exact_match(output: str, target: str) -> float:
    """1 where both are equal in normal form."""
    return float(normalise(output) == normalise(target))


def token_f1(output: str, target: str) -> float:
    """SQuAD's F1: harmonic mean of precision and recall over the words both hold, order ignored."""
    found, wanted = normalise(output).split(), normalise(target).split()
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


class _Words:
    """Our words in rouge-score's tokenizer interface, whose own drops everything but a-z."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    return RougeScorer(["rougeL"], tokenizer=_Words())


def rouge_l(output: str, target: str) -> float:
    """ROUGE-L F1: the longest common subsequence of words against both lengths."""
    return float(_rouge().score(target, output)["rougeL"].fmeasure)


# --- choices -----------------------------------------------------------------------------------------------------

_NAMED = r"\**\s*(?i:is|:|：|是|为|应为)?[\s*]*[(（]?([A-Z])(?![A-Za-z])"
_ANSWER, _OPTION = re.compile(f"(?i:answer|答案){_NAMED}"), re.compile(f"(?i:option|choice|选项|选){_NAMED}")
_LEADING = re.compile(r"[\s*]*[(（]?([A-Z])\s*(?:[)）.:：、,，\n*]|$)")


def choice_letter(text: str, choices: Sequence[str] = ()) -> int | None:
    """Index of the choice an answer names: by letter ("B", "(B) ...", "the answer is B") or by its text."""
    for index, choice in enumerate(choices):
        if normalise(text) == normalise(choice):
            return index
    match = _LEADING.match(text) or _ANSWER.search(text) or _OPTION.search(text)
    if match is None:
        return None
    index = ord(match[1]) - ord("A")
    return index if not choices or index < len(choices) else None


def choice(output: str, target: str, choices: Sequence[str] = ()) -> float:
    """1 where output and target name the same choice."""
    wanted = choice_letter(target, choices)
    return float(wanted is not None and choice_letter(output, choices) == wanted)


# --- picking -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
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


def read_metrics(text: str) -> dict[str, Asked]:
    """`exact`, `numeric(1%, USD)`, or for one kind of record `amount=numeric(0.5)`, separated by blanks: {kind or "": metric}.

    Raises ValueError.
    """
    found = {}
    for part in re.findall(r"[^\s(]+(?:\([^)]*\))?", text):
        match = _ASKED.fullmatch(part)
        if match is None or match["name"] not in NAMES or (match["tolerance"] is not None and match["name"] != "numeric"):
            raise ValueError(f"'{part}' is no metric; use {', '.join(NAMES)}, numeric(1%, USD), or kind=metric")
        given = (match["tolerance"] or "").strip()
        tolerance = given if given.endswith("%") else float(given or 0)
        read_tolerance(tolerance)
        found[match["kind"] or ""] = Asked(NAMES[match["name"]], tolerance, (match["unit"] or "").strip())
    return found


METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "numeric": numeric,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "letter": choice,
}
LABEL_WORDS, SHORT_WORDS, LONG_WORDS = 5, 12, 40


def pick_metric(answers: Sequence[str], choices: Sequence[Sequence[str] | None] | None = None) -> str:
    """The metric that fits these reference answers: a name in `METRICS`.

    Choices given, or bare letters: `letter`. Numbers (9 in 10): `numeric`. At most 5 words, or at most 12 that repeat like
    labels do: `exact_match`. At most 40 words: `token_f1`. Longer: `rouge_l`.
    """
    given = choices or [None] * len(answers)
    if all(choice_letter(a, c or ()) is not None and (c or len(a.strip()) == 1) for a, c in zip(answers, given, strict=False)):
        return "letter"
    if sum(map(is_number, answers)) >= 0.9 * len(answers):
        return "numeric"
    length = median(len(words(answer)) for answer in answers)
    repeats = len(set(map(normalise, answers))) <= 0.5 * len(answers)
    if length <= LABEL_WORDS or (length <= SHORT_WORDS and repeats):
        return "exact_match"
    return "token_f1" if length <= LONG_WORDS else "rouge_l"


def best(
    metric: str, output: str, targets: Sequence[str], choices: Sequence[str] = (), measure: Mapping[str, Any] | None = None
) -> float:
    """The best score over all accepted answers; `measure`: a number's {tolerance, unit} where they are declared."""
    if metric == "letter":
        return max(choice(output, target, choices) for target in targets)
    if metric == "numeric" and measure:
        return max(numeric(output, target, **measure) for target in targets)
    return max(METRICS[metric](output, target) for target in targets)
