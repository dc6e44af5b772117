"""Output quality of one generated text: repetition, diversity, compression, length, whether it ended.

rep-n = 1 - unique / all n-grams (Welleck et al. 2020, arXiv:1908.04319). What a text is too short for is NaN: the share of
valid items can be counted afterwards. Scripts without spaces count by characters. Nothing here needs nltk's data.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Sequence

from harness.scoring import CJK

_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
DISTINCT_WORDS = 20
"""Distinct-2 falls with length, so it is taken over this many first words."""
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
    """Words, punctuation marks and single Chinese or Japanese characters, lower-case."""
    return _WORD.findall(text.casefold())


def repetition(units: Sequence[object], n: int) -> float:
    """Share of n-grams that repeat an earlier one; NaN where there are fewer than n units."""
    from nltk.util import ngrams  # slow to import

    grams = list(ngrams(units, n))
    return 1 - len(set(grams)) / len(grams) if grams else math.nan


def distinct2(units: Sequence[object]) -> float:
    """Unique over all 2-grams of the first 20 units; NaN where there are fewer."""
    return 1 - repetition(units[:DISTINCT_WORDS], 2) if len(units) >= DISTINCT_WORDS else math.nan


def compression(text: str) -> float:
    """gzip's size over the text's, in bytes: low where a text repeats itself. NaN under 100 bytes."""
    raw = text.encode()
    return len(gzip.compress(raw, mtime=0)) / len(raw) if len(raw) >= LEAST_BYTES else math.nan


def measure(text: str, tokens: Sequence[int], stopped: bool) -> dict[str, float]:
    """All quality metrics of one greedy answer."""
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
