"""Near-duplicates: texts whose word 5-grams have a Jaccard similarity of at least 0.85, for splits, methods and tools.

Candidates come from MinHash LSH (126 permutations, 21 bands of 6), which misses about 1 pair in 20,000 at 0.85 and fewer
above; each is then verified exactly. A 5-gram that more than 1 % of the texts hold is the task's boilerplate (a long
instruction repeated in every record) and tells nothing, so it is left out. No torch here.

Grams are 32-bit hashes in one array for all texts, 4 bytes a word. Texts that are already known to belong together are not
compared again, so a large cluster costs as many comparisons as it has texts.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.doing import counted

SIMILAR = 0.85
GRAM = 5
BANDS, ROWS = 21, 6
BATCH = 1000
"""Texts whose grams are computed at once."""
WORD = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|\\w+|[+\\-*/=<>^%$€£¥]")
"""A word: one character of a script without spaces, a run of letters or digits, or a sign that changes what is said."""
Ints = np.ndarray


def words(text: str) -> list[str]:
    """What is said, whatever its case, spacing and punctuation."""
    return WORD.findall(text.casefold())


class _Hashes(dict[str, int]):
    """Word -> 32 bits that it is hashed to; remembered for the words that come often."""

    MOST = 1 << 20

    def __missing__(self, word: str) -> int:
        if len(self) >= self.MOST:
            self.clear()
        value = self[word] = zlib.crc32(word.encode())
        return value


def _mixed(values: Ints) -> Ints:
    """64-bit values with every bit depending on every other (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class GramSets:
    """Different sets of grams, and whose they are."""

    names: list[list[str]]
    """The texts that have exactly this set."""
    grams: Ints
    """All sets one after the other, each in rising order, uint32."""
    starts: Ints
    """Where each set begins, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.names)

    def one(self, place: int) -> Ints:
        return self.grams[self.starts[place] : self.starts[place + 1]]

    def alike(self, place: int, others: Ints, similar: float) -> Ints:
        """Which of the other sets have at least this Jaccard similarity with one."""
        own = self.one(place)
        sizes = self.starts[others + 1] - self.starts[others]
        grams = np.concatenate([self.one(other) for other in others])
        found = np.minimum(np.searchsorted(own, grams), len(own) - 1)
        common = np.add.reduceat(own[found] == grams, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
        return common >= similar * (len(own) + sizes - common)


def _grams(texts: Sequence[str], hashes: _Hashes) -> tuple[Ints, Ints]:
    """(the grams of all texts, each text's in rising order and once; how many each has). A short text is one gram."""
    said = [list(map(hashes.__getitem__, words(text))) for text in texts]
    sizes = np.array([len(one) for one in said])
    total = int(sizes.sum())
    flat = np.fromiter((value for one in said for value in one), np.uint64, total)
    owner = np.repeat(np.arange(len(texts)), sizes)
    place = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rolling = np.zeros(total, np.uint64)
    for step in range(GRAM):  # a gram begins at each place that has so many words after it, and in a short text at the first
        ahead = np.zeros(total, np.uint64)
        ahead[: max(0, total - step)] = flat[step:] + np.uint64(1)
        ahead[place + step >= np.repeat(sizes, sizes)] = 0
        rolling = _mixed(rolling + ahead)
    begins = (place == 0) | (place + GRAM <= np.repeat(sizes, sizes))
    keyed = (owner[begins].astype(np.uint64) << np.uint64(32)) | (rolling[begins] >> np.uint64(32))
    keyed = np.unique(keyed)
    counts = np.bincount((keyed >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return keyed.astype(np.uint32), counts


def telling_sets(texts: Iterable[tuple[str, str]]) -> GramSets:
    """The sets of telling 5-grams of texts by name; a text without any is alike to none, and in no set."""
    names: list[str] = []
    parts: list[Ints] = []
    counts: list[Ints] = []
    hashes = _Hashes()
    for batch in _batched(counted(texts, "cutting texts into groups of words")):
        names += [name for name, _ in batch]
        grams, sizes = _grams([text for _, text in batch], hashes)
        parts.append(grams)
        counts.append(sizes)
    if not names:
        return GramSets([], np.zeros(0, np.uint32), np.zeros(1, np.int64))
    grams, sizes = np.concatenate(parts), np.concatenate(counts)
    del parts
    grams, sizes = _without_boilerplate(grams, sizes, max(20, len(names) // 100))
    return _different(names, grams, sizes)


def _batched(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for named in texts:
        batch.append(named)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_boilerplate(grams: Ints, sizes: Ints, limit: int) -> tuple[Ints, Ints]:
    """The grams that at most `limit` texts hold."""
    ordered = np.sort(grams)
    often = np.unique(ordered[:-limit][ordered[:-limit] == ordered[limit:]])
    del ordered
    if not len(often):
        return grams, sizes
    found = np.minimum(np.searchsorted(often, grams), len(often) - 1)
    kept = often[found] != grams
    totals = np.concatenate([[0], np.cumsum(kept)])
    ends = np.cumsum(sizes)
    return grams[kept], totals[ends] - totals[ends - sizes]


def _different(names: Sequence[str], grams: Ints, sizes: Ints) -> GramSets:
    """Every set once, in the order of its first text."""
    ends = np.cumsum(sizes)
    members: dict[bytes, list[str]] = {}
    kept: list[int] = []
    for place, name in enumerate(names):
        if sizes[place]:
            key = grams[ends[place] - sizes[place] : ends[place]].tobytes()
            if len(key) > 16:
                key = _digest(key)
            if key not in members:
                kept.append(place)
            members.setdefault(key, []).append(name)
    chosen = np.zeros(len(names), bool)
    chosen[kept] = True
    return GramSets(
        list(members.values()),
        grams[np.repeat(chosen, sizes)],
        np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int64),
    )


def _digest(key: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(key, digest_size=16).digest()


def buckets(sets: GramSets) -> Iterator[Ints]:
    """Groups of sets that may be alike: those that agree in a band of their MinHash signatures."""
    if len(sets) < 2:
        return
    signatures = _signatures(sets)
    for band in range(BANDS):
        key = np.zeros(len(sets), np.uint64)
        for row in range(ROWS):
            key = _mixed(key + signatures[band * ROWS + row])
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        for group in np.split(order, edges) if len(edges) < len(order) - 1 else ():
            if len(group) > 1:
                yield group


def _signatures(sets: GramSets) -> Ints:
    """(BANDS * ROWS, sets): the least value of each set's grams under every permutation."""
    draw = np.random.Generator(np.random.PCG64(1))
    factors = draw.integers(0, 1 << 31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = draw.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)
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


def components_of(sets: GramSets, similar: float = SIMILAR) -> list[list[int]]:
    """Sets that near-duplicates connect, in lists of two or more. `similar` is at least 0.85, where candidates begin."""
    forest = Forest(len(sets))
    for group in buckets(sets):
        left = group
        while len(left) > 1:
            # What is in the first one's component already needs no comparison.
            pivot = int(left[0])
            left = left[1:]
            roots = np.array([forest.root(int(other)) for other in left])
            others = left[roots != forest.root(pivot)]
            if not len(others):
                left = left[roots != forest.root(pivot)]
                continue
            for other in others[sets.alike(pivot, others, similar)]:
                forest.join(pivot, int(other))
            left = left[np.array([forest.root(int(other)) for other in left]) != forest.root(pivot)]
    return forest.groups()


def near_to(sets: GramSets, chosen: Collection[int], similar: float = SIMILAR) -> set[int]:
    """The sets that are near-duplicates of one of the chosen ones, and these."""
    found = set(chosen)
    for group in buckets(sets):
        others = np.array([place for place in group if place not in found], np.int64)
        for pivot in group:
            if len(others) and int(pivot) in chosen:
                near = sets.alike(int(pivot), others, similar)
                found.update(others[near].tolist())
                others = others[~near]
    return found


class Forest:
    """Which of so many things belong together."""

    def __init__(self, size: int):
        self.parent = list(range(size))

    def root(self, one: int) -> int:
        """The smallest of all that belong to one."""
        parent = self.parent
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        self.parent[max(one, other)] = min(one, other)

    def groups(self) -> list[list[int]]:
        """All groups of two or more."""
        members: dict[int, list[int]] = defaultdict(list)
        for one in range(len(self.parent)):
            members[self.root(one)].append(one)
        return [group for group in members.values() if len(group) > 1]


def components(names: Iterable[str], links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name -> the smallest name among all that links, lists of what belongs together, connect it to."""
    names = list(names)
    ordered = sorted(names)
    place = {name: number for number, name in enumerate(ordered)}
    forest = Forest(len(ordered))
    for alike in links:
        first = place[alike[0]]
        for other in alike[1:]:
            forest.join(first, place[other])
    return {name: ordered[forest.root(place[name])] for name in names}


def near_clusters(texts: Mapping[str, str], similar: float = SIMILAR) -> dict[str, str]:
    """Name -> the smallest name in its cluster of near-duplicates; texts of the same words are always one cluster."""
    said: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in texts.items():
        said[tuple(words(text)) or (name,)].append(name)
    sets = telling_sets((names[0], texts[names[0]]) for names in said.values())
    near = [[sets.names[place][0] for place in group] for group in components_of(sets, similar)]
    return components(texts, [*said.values(), *sets.names, *near])


def first_alike(examples: Sequence[Any], tokenizer: Any, similar: float = SIMILAR) -> list[int]:
    """For each tokenised example the place of the first one whose record it nearly repeats: its own where it is the first.

    A record's examples (answers trained apart share its id) stay or go together; a `similar` above 1 finds nothing alike.
    """
    if similar > 1:
        return list(range(len(examples)))
    special = set(tokenizer.all_special_ids)
    owners: dict[str, dict[tuple[int, ...], int]] = defaultdict(dict)
    for place, example in enumerate(examples):
        owners[example.id].setdefault(example.tokens, place)
    order = {name: f"{place:09d}" for place, name in enumerate(owners)}  # the smallest name is the first record
    named = {order[name]: name for name in owners}
    texts = {order[name]: "\n".join(spoken(t, tokenizer, special) for t in parts) for name, parts in owners.items()}
    clusters = near_clusters(texts, similar)
    leaders = [named[clusters[order[example.id]]] for example in examples]
    return [
        owners[example.id][example.tokens] if leader == example.id else min(owners[leader].values())
        for example, leader in zip(examples, leaders, strict=True)
    ]


def spoken(tokens: Sequence[int], tokenizer: Any, special: set[int]) -> str:
    """The text between special tokens, a line each."""
    lines: list[list[int]] = [[]]
    for token in tokens:
        if token in special:
            lines.append([])
        else:
            lines[-1].append(token)
    return "\n".join(tokenizer.batch_decode([line for line in lines if line]))
