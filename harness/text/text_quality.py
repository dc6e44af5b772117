"""Output quality of texts: repetition, diversity, compression, length, whether they ended, what they say. No torch here.

rep-n = 1 - unique / all n-grams (Welleck et al. 2020, arXiv:1908.04319). What a text is too short for is NaN: the share of
valid items can be counted afterwards. Scripts without spaces count by characters. Nothing here needs nltk's data.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from harness.text.answer_metrics import CJK
from harness.text.numbers import agree, numbers

_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
DISTINCT_WORDS = 20
"""Distinct-2 falls with length, so it is taken over this many first words."""
FIRST_WORDS = 10
"""The same over many texts together: those that are shorter stay out."""
LEAST_BYTES = 100
"""Below this gzip's own header is most of what it writes."""
METRICS: dict[str, bool | None] = {
    "rep3_word": False,
    "rep3_token": False,
    "rep4_word": False,
    "distinct2_word": True,
    "compression": True,
    "length_tokens": None,
    "no_stop": False,
}
"""Metric -> whether higher is better (None: neither)."""


def words(text: str) -> list[str]:
    """Return the words, punctuation marks and single Chinese or Japanese characters of a text, in lower case."""
    return _WORD.findall(text.casefold())


def n_grams(units: Sequence[Any], n: int) -> list[tuple[Any, ...]]:
    """Return the n-grams of a sequence, in order; none if there are fewer than n units."""
    return list(zip(*(units[start:] for start in range(n)), strict=False))


def repetition(units: Sequence[object], n: int) -> float:
    """Return the share of n-grams that repeat an earlier one; NaN if there are fewer than n units."""
    grams = n_grams(units, n)
    return 1 - len(set(grams)) / len(grams) if grams else math.nan


def distinct2(units: Sequence[object]) -> float:
    """Return the share of different 2-grams among those of the first 20 units; NaN if there are fewer units."""
    if len(units) < DISTINCT_WORDS:
        return math.nan
    return 1 - repetition(units[:DISTINCT_WORDS], 2)


def compression(text: str) -> float:
    """Return the size that gzip gives a text, per byte of it: low if the text repeats itself. NaN under 100 bytes."""
    raw = text.encode()
    if len(raw) < LEAST_BYTES:
        return math.nan
    return len(gzip.compress(raw, mtime=0)) / len(raw)


def measure(text: str, tokens: Sequence[int], stopped: bool) -> dict[str, float]:
    """Return all quality metrics of one greedy answer."""
    units = words(text)
    return {
        "rep3_word": repetition(units, 3),
        "rep3_token": repetition(tokens, 3),
        "rep4_word": repetition(units, 4),
        "distinct2_word": distinct2(units),
        "compression": compression(text),
        "length_tokens": float(len(tokens)),
        "no_stop": float(not stopped),
    }


# --- how it looks ---------------------------------------------------------------------------------------------------------

FORMATS = {
    "lists": re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)、])[ \t]*\S.*\n+[ \t]*(?:[-*+•]|\d{1,3}[.)、])[ \t]*\S", re.MULTILINE),
    "headings": re.compile(r"^[ \t]*(?:#{1,6}[ \t]+\S|\*\*[^*\n]+\*\*:?[ \t]*$)", re.MULTILINE),
    "fences": re.compile(r"^[ \t]*```", re.MULTILINE),
}
"""Kind of formatting -> what shows it: two list items in a row, a heading in Markdown or a bold line, a fence of code."""


def formatting(text: str) -> dict[str, float]:
    """Return which kinds of formatting a text has, 0 or 1 each."""
    return {name: float(bool(pattern.search(text))) for name, pattern in FORMATS.items()}


# --- content ------------------------------------------------------------------------------------------------------

_FUNCTION_WORDS = """a an the this that these those such some any no every each either neither both all i me my mine you your
yours he him his she her hers it its we us our ours they them their theirs who whom whose which what myself yourself himself
herself itself ourselves themselves one and or but nor so yet if then than because as while although though unless until since
whether of in on at by for with about against between into through during before after above below to from up down out off over
under again further once here there when where why how not only own same too very just also be am is are was were been being
have has had having do does did doing will would shall should can could may might must ought s t d ll m re ve
的 了 是 在 和 与 及 或 也 都 就 而 且 但 不 着 过 吗 呢 吧 啊 之 其 于 以 为 被 把 这 那 有 个 我 你 他 她 它
们 对 从 到 将 会 能 可 要 很"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Closed classes of English and the commonest function characters of Chinese: what is left are content words."""


def content_words(text: str) -> list[str]:
    """Return the words with a letter or a digit that are not function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS and any(map(str.isalnum, word))]


def slots(output: str, reference: str) -> tuple[int, int]:
    """Return (key facts of the reference that the output has, key facts of the reference).

    A key fact is a number, right within the reference's rounding, or another content word; each counts once. (There is no
    standard definition: this is ours, for references without marked facts.)
    """
    targets = numbers(reference)
    given = numbers(output)
    right = 0
    for target in targets:
        right += any(agree(number, target) for number in given)
    terms = {word for word in content_words(reference) if not any(map(str.isdigit, word))}
    terms_given = terms & set(content_words(output))
    return right + len(terms_given), len(targets) + len(terms)


# --- several texts together --------------------------------------------------------------------------------------------

MARKED = 3
"""Words of an n-gram that a template is made of, text ends counted as words."""


def marked(text: str) -> set[tuple[str, ...]]:
    """Return the 3-grams of a text between two end marks, so that its opening, its ending and a one-word text are 3-grams."""
    # The end marks tell a phrase that always opens an answer from one that stands anywhere in it.
    units = ["<", *words(text), ">"]
    return set(n_grams(units, MARKED))


def template(answers: Sequence[str], share: float = 0.01, least: int = 5, most: int = 1000) -> list[tuple[str, ...]]:
    """Return the set phrases of a domain: 3-grams of at least `share` of the answers (and `least` of them), commonest first."""
    counts = Counter(chain.from_iterable(map(marked, answers)))
    enough = max(least, share * len(answers))
    frequent = [gram for gram, count in counts.items() if count >= enough]
    frequent.sort(key=lambda gram: (-counts[gram], gram))
    return frequent[:most]


def distinct(texts: Sequence[str], n: int, first: int = FIRST_WORDS) -> float:
    """Return the share of different n-grams among those of the first words of all texts (Li et al. 2016, arXiv:1510.03055).

    Shorter texts are left out, since the share falls with length; NaN if all are shorter.
    """
    grams: list[tuple[str, ...]] = []
    for text in texts:
        units = words(text)
        if len(units) >= first:
            grams += n_grams(units[:first], n)
    return len(set(grams)) / len(grams) if grams else math.nan


def corpus_compression(texts: Sequence[str]) -> float:
    """Return `compression` of the texts end to end (Shaib et al. 2024, arXiv:2403.00553, inverted): low if they are alike."""
    return compression("\n".join(texts))


def zlib_bits(texts: Sequence[str], tokens: int) -> float:
    """Return the information density: bits that zlib needs for all texts, end to end, per token; NaN without tokens."""
    return 8 * len(zlib.compress("\n".join(texts).encode(), 9)) / tokens if tokens else math.nan


def self_repetition(texts: Sequence[str], n: int = 4) -> list[float]:
    """Return for each text the share of its different n-grams that another text has too; NaN if it has none.

    After Salkar et al. 2022 (AACL; via Shaib et al. 2024), as a share, so that long texts do not score higher for their length.
    """
    grams_of = [set(n_grams(words(text), n)) for text in texts]
    holders = Counter(chain.from_iterable(grams_of))
    shares = []
    for grams in grams_of:
        repeated = sum(holders[gram] > 1 for gram in grams)
        shares.append(repeated / len(grams) if grams else math.nan)
    return shares


def self_bleu(texts: Sequence[str]) -> list[float]:
    """Return for each text its BLEU-4 against all others (Zhu et al. 2018, arXiv:1802.01886); NaN under 4 words.

    Smoothing is nltk's method 1.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    units = [words(text) for text in texts]
    smooth = SmoothingFunction().method1
    scores = []
    for index, text_units in enumerate(units):
        others = [other for number, other in enumerate(units) if number != index and other]
        if len(text_units) < 4 or not others:
            scores.append(math.nan)
            continue
        scores.append(float(sentence_bleu(others, text_units, smoothing_function=smooth)))  # type: ignore[arg-type]
    return scores
