"""Near-duplicates: texts whose word 5-grams have a Jaccard similarity of at least 0.85, for splits, methods and tools.

Candidates come from MinHash LSH (128 permutations, 21 bands of 6), which misses about 1 pair in 20,000 at 0.85 and fewer
above; each is then verified exactly. A 5-gram that more than 1 % of the texts hold is the task's boilerplate (a long
instruction repeated in every record) and tells nothing, so it is left out. No torch here.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from datasketch import MinHash, MinHashLSH

SIMILAR = 0.85
GRAM = 5
PERMUTATIONS = 128
BANDS = (21, 6)
WORD = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|\\w+|[+\\-*/=<>^%$€£¥]")
"""A word: one character of a script without spaces, a run of letters or digits, or a sign that changes what is said."""


def words(text: str) -> list[str]:
    """What is said, whatever its case, spacing and punctuation."""
    return WORD.findall(text.casefold())


def shingles(text: str) -> set[int]:
    """Hashes of the text's word 5-grams; a shorter text is one gram, a text without words none."""
    said = words(text)
    grams = [said[i : i + GRAM] for i in range(max(1, len(said) - GRAM + 1))]
    return {zlib.crc32(" ".join(gram).encode()) for gram in grams if gram}


def telling_sets(texts: Mapping[str, str]) -> dict[frozenset[int], list[str]]:
    """Telling 5-grams -> the names of the texts that have exactly these; a text without any is alike to none."""
    grams = {name: shingles(text) for name, text in texts.items()}
    held = Counter(gram for found in grams.values() for gram in found)
    limit = max(20, len(texts) // 100)
    sets: dict[frozenset[int], list[str]] = defaultdict(list)
    for name, found in grams.items():
        if telling := frozenset(gram for gram in found if held[gram] <= limit):
            sets[telling].append(name)
    return sets


def near_pairs(sets: Sequence[frozenset[int]], similar: float = SIMILAR) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    """The pairs of different sets with at least this Jaccard similarity, which is 0.85 or more: the index is built for it."""
    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS, params=BANDS)
    hashes = MinHash.generator(sets, num_perm=PERMUTATIONS, hashfunc=int)
    for place, (grams, minhash) in enumerate(zip(sets, hashes, strict=True)):
        for found in index.query(minhash):
            other = sets[found]  # pyright: ignore[reportArgumentType, reportCallIssue] - we insert places only
            common = len(grams & other)
            if common >= similar * (len(grams) + len(other) - common):
                yield other, grams
        index.insert(place, minhash, check_duplication=False)


def components(names: Iterable[str], links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name -> the smallest name among all that links, lists of what belongs together, connect it to."""
    parent = {name: name for name in names}

    def root(one: str) -> str:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    for alike in links:
        roots = {root(one) for one in alike}
        parent.update(dict.fromkeys(roots, min(roots)))
    return {one: root(one) for one in parent}


def near_clusters(texts: Mapping[str, str], similar: float = SIMILAR) -> dict[str, str]:
    """Name -> the smallest name in its cluster of near-duplicates; texts of the same words are always one cluster."""
    said: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in texts.items():
        said[tuple(words(text)) or (name,)].append(name)
    sets = telling_sets({names[0]: texts[names[0]] for names in said.values()})
    pairs = ((sets[one][0], sets[other][0]) for one, other in near_pairs(list(sets), similar))
    return components(texts, [*said.values(), *sets.values(), *pairs])


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
