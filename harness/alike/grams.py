"""Texts as sets of hashed n-grams, by which near duplicates are found.

Candidates come from MinHash LSH (126 permutations, 21 bands of 6), which misses about 1 pair in 20,000 at 0.85 and fewer
above. A 5-gram that more than 1 % of the texts contain is the task's boilerplate (a long instruction repeated in every
record), so it is left out. Grams are 32-bit hashes in one array for all texts, 4 bytes per word.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.doing import counted

Ints = np.ndarray
SIMILAR = 0.85
"""Jaccard similarity from which two texts are near-duplicates."""
GRAM = 5
"""Words of a gram."""
BANDS = 21
ROWS = 6
"""Values of a signature's band: two texts are compared if all values of one band agree."""
BATCH = 1000
"""Texts whose grams are computed at once."""
WORD = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|\\w+|[+\\-*/=<>^%$€£¥]")
"""A word: one character of a script without spaces, a run of letters or digits, or a sign that changes what is said."""


def words(text: str) -> list[str]:
    """Return the words of a text, without its case, spacing and punctuation."""
    return WORD.findall(text.casefold())


class _Hashes(dict[str, int]):
    """Word -> 32 bits of its hash, remembered: few words make up most of a text."""

    MOST = 1 << 20

    def __missing__(self, word: str) -> int:
        # Dropped when full: the words that come next are mostly those of now.
        if len(self) >= self.MOST:
            self.clear()
        value = self[word] = zlib.crc32(word.encode())
        return value


def _mixed(values: Ints) -> Ints:
    """Return 64-bit values in which every bit depends on every other (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class GramSets:
    """The different sets of grams of some texts, and which texts have each."""

    names: list[list[str]]
    """The texts that have exactly this set."""
    grams: Ints
    """All sets one after the other, each in rising order, uint32."""
    starts: Ints
    """The index in `grams` where each set begins, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.names)

    def set_at(self, index: int) -> Ints:
        """Return the grams of one set."""
        return self.grams[self.starts[index] : self.starts[index + 1]]

    def alike(self, index: int, others: Ints, similar: float) -> Ints:
        """Return which of the other sets have at least this Jaccard similarity with one: |A and B| >= s |A or B|."""
        grams = self.set_at(index)
        sizes = self.starts[others + 1] - self.starts[others]
        other_grams = np.concatenate([self.set_at(other) for other in others])

        # The other sets are searched in this one all at once, and the hits counted by set.
        positions = np.minimum(np.searchsorted(grams, other_grams), len(grams) - 1)
        hits = grams[positions] == other_grams
        common = np.add.reduceat(hits, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
        return common >= similar * (len(grams) + sizes - common)


def _grams(texts: Sequence[str], hashes: _Hashes) -> tuple[Ints, Ints]:
    """Return (the grams of all texts, each text's in rising order and once; how many each text has).

    A gram begins at each word that has enough words after it; a text of fewer than 5 words is one gram.
    """
    hashed = [[hashes[word] for word in words(text)] for text in texts]
    sizes = np.array([len(values) for values in hashed])
    total = int(sizes.sum())
    flat = np.fromiter(chain.from_iterable(hashed), np.uint64, total)
    owner = np.repeat(np.arange(len(texts)), sizes)
    position = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    text_size = np.repeat(sizes, sizes)

    # The hash of a gram takes in one word after the other, for all places at once; 0 stands for no word.
    rolling = np.zeros(total, np.uint64)
    for step in range(GRAM):
        ahead = np.zeros(total, np.uint64)
        ahead[: max(0, total - step)] = flat[step:] + np.uint64(1)
        ahead[position + step >= text_size] = 0
        rolling = _mixed(rolling + ahead)
    begins = (position == 0) | (position + GRAM <= text_size)

    # With the text's number in the upper half, one sort orders the grams of each text and drops repeated ones.
    keyed = (owner[begins].astype(np.uint64) << np.uint64(32)) | (rolling[begins] >> np.uint64(32))
    keyed = np.unique(keyed)
    counts = np.bincount((keyed >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return keyed.astype(np.uint32), counts


def gram_sets(texts: Iterable[tuple[str, str]]) -> GramSets:
    """Return the sets of 5-grams of (name, text), boilerplate left out; a text without grams is like no other, in no set."""
    names: list[str] = []
    parts: list[Ints] = []
    counts: list[Ints] = []
    hashes = _Hashes()
    # In batches, so that the words of all texts are never held at once.
    for batch in _batched(counted(texts, "cutting texts into groups of words")):
        names += [name for name, _ in batch]
        grams, sizes = _grams([text for _, text in batch], hashes)
        parts.append(grams)
        counts.append(sizes)
    if not names:
        return GramSets([], np.zeros(0, np.uint32), np.zeros(1, np.int64))
    grams = np.concatenate(parts)
    sizes = np.concatenate(counts)
    del parts  # as large again as `grams`
    grams, sizes = _without_boilerplate(grams, sizes, max(20, len(names) // 100))
    return _different(names, grams, sizes)


def _batched(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield lists of at most `BATCH` texts."""
    batch: list[tuple[str, str]] = []
    for named in texts:
        batch.append(named)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_boilerplate(grams: Ints, sizes: Ints, limit: int) -> tuple[Ints, Ints]:
    """Return the grams that at most `limit` texts contain, and how many of them each text has."""
    # In rising order, a gram that more than `limit` texts contain equals the one `limit` places later.
    ordered = np.sort(grams)
    frequent = np.unique(ordered[:-limit][ordered[:-limit] == ordered[limit:]])
    del ordered
    if not len(frequent):
        return grams, sizes
    # Found by bisection among the frequent ones: their number is small.
    positions = np.minimum(np.searchsorted(frequent, grams), len(frequent) - 1)
    kept = frequent[positions] != grams
    totals = np.concatenate([[0], np.cumsum(kept)])
    ends = np.cumsum(sizes)
    return grams[kept], totals[ends] - totals[ends - sizes]


def _different(names: Sequence[str], grams: Ints, sizes: Ints) -> GramSets:
    """Return every set once, in the order of its first text."""
    ends = np.cumsum(sizes)
    members: dict[bytes, list[str]] = {}
    kept: list[int] = []
    for index, name in enumerate(names):
        if not sizes[index]:
            continue

        # Long keys are shortened: a set of a long text would take as much memory as the text.
        key = grams[ends[index] - sizes[index] : ends[index]].tobytes()
        if len(key) > 16:
            key = _digest(key)
        if key not in members:
            kept.append(index)
        members.setdefault(key, []).append(name)
    chosen = np.zeros(len(names), bool)
    chosen[kept] = True
    return GramSets(
        list(members.values()),
        grams[np.repeat(chosen, sizes)],
        np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int64),
    )


def _digest(key: bytes) -> bytes:
    """Return 16 bytes that stand for a longer key."""
    return hashlib.blake2b(key, digest_size=16).digest()


def buckets(sets: GramSets) -> Iterator[Ints]:
    """Yield groups of sets that may be alike: those that agree in a band of their MinHash signatures."""
    if len(sets) < 2:
        return
    signatures = _signatures(sets)
    for band in range(BANDS):
        key = np.zeros(len(sets), np.uint64)
        for row in range(ROWS):
            key = _mixed(key + signatures[band * ROWS + row])
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1

        # Most sets agree with no other, so only the groups of several are cut out.
        begins = np.concatenate([[0], edges])
        ends = np.concatenate([edges, [len(order)]])
        several = ends - begins > 1
        for begin, end in zip(begins[several], ends[several], strict=True):
            yield order[begin:end]


def _signatures(sets: GramSets) -> Ints:
    """Return (BANDS * ROWS, sets): the least value of each set's grams under every permutation.

    A permutation of 32-bit values is a multiplication by an odd number, a sum, and a mix of upper into lower bits.
    """
    # Permutations by multiplying and adding, with fixed numbers: the same candidates in every run.
    generator = np.random.Generator(np.random.PCG64(1))
    factors = generator.integers(0, 1 << 31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = generator.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)
    signatures = np.empty((BANDS * ROWS, len(sets)), np.uint32)
    for first in counted(range(0, len(sets), BATCH), "comparing texts, in thousands"):
        last = min(first + BATCH, len(sets))
        grams = sets.grams[sets.starts[first] : sets.starts[last]]
        starts = sets.starts[first:last] - sets.starts[first]
        for number in range(BANDS * ROWS):
            values = grams * factors[number]
            values += shifts[number]
            values ^= values >> np.uint32(15)
            signatures[number, first:last] = np.minimum.reduceat(values, starts)
    return signatures
