"""Near-duplicates: texts whose word 5-grams have a Jaccard similarity of at least 0.85, for splits, methods and tools.

Candidates (harness/alike/grams.py) are verified exactly. Texts that are already known to belong together are not compared
again, so a large cluster costs as many comparisons as it has texts. No torch here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.alike.grams import SIMILAR, GramSets, Ints, buckets, gram_sets, words


def components_of(sets: GramSets, similar: float = SIMILAR) -> list[list[int]]:
    """Return lists of two or more sets that near-duplicates connect. `similar` is 0.85 or more, where candidates begin."""
    forest = Forest(len(sets))
    for group in buckets(sets):
        left = group
        while len(left) > 1:
            # What is in the first one's component already needs no comparison, now or later.
            pivot = int(left[0])
            others = _apart(forest, pivot, left[1:])
            if len(others):
                for other in others[sets.alike(pivot, others, similar)]:
                    forest.join(pivot, int(other))
            left = _apart(forest, pivot, others)
    return forest.groups()


def _apart(forest: Forest, pivot: int, others: Ints) -> Ints:
    """Return those of the others that are in another component than the pivot."""
    root = forest.root(pivot)
    return np.array([other for other in others if forest.root(int(other)) != root], np.int64)


def near_to(sets: GramSets, chosen: Collection[int], similar: float = SIMILAR) -> set[int]:
    """Return the sets that are near-duplicates of one of the chosen ones, and these."""
    near = set(chosen)
    # Against the chosen sets only: what is alike among the others is not asked.
    for group in buckets(sets):
        others = np.array([index for index in group if index not in near], np.int64)
        for pivot in group:
            if len(others) and int(pivot) in chosen:
                alike = sets.alike(int(pivot), others, similar)
                near.update(others[alike].tolist())
                others = others[~alike]
    return near


class Forest:
    """A partition of the numbers below `size` into components that grow together."""

    def __init__(self, size: int):
        self.parent = list(range(size))

    def root(self, member: int) -> int:
        """Return the smallest number of a member's component."""
        parent = self.parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]  # shortens the way for the next time
            member = parent[member]
        return member

    def join(self, member: int, other: int) -> None:
        """Make the components of two members one."""
        # The smaller number is the root, so that a component's name does not depend on the order of
        # joining.
        low, high = sorted((self.root(member), self.root(other)))
        self.parent[high] = low

    def groups(self) -> list[list[int]]:
        """Return all components of two or more."""
        members: dict[int, list[int]] = defaultdict(list)
        for member in range(len(self.parent)):
            members[self.root(member)].append(member)
        return [group for group in members.values() if len(group) > 1]


def components(names: Iterable[str], links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return name -> the smallest name that it is connected to. A link is a list of names that belong together."""
    names = list(names)
    ordered = sorted(names)
    # Numbers in the order of names, so that a root is its component's smallest name.
    number = {name: index for index, name in enumerate(ordered)}
    forest = Forest(len(ordered))
    for linked in links:
        for other in linked[1:]:
            forest.join(number[linked[0]], number[other])
    return {name: ordered[forest.root(number[name])] for name in names}


def near_clusters(texts: Mapping[str, str], similar: float = SIMILAR) -> dict[str, str]:
    """Return name -> the smallest name in its cluster of near-duplicates. Texts of the same words are always one cluster."""
    # Texts of the same words are one without any comparison.
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in texts.items():
        same[tuple(words(text)) or (name,)].append(name)
    sets = gram_sets((names[0], texts[names[0]]) for names in same.values())
    near = []
    for group in components_of(sets, similar):
        near.append([sets.names[index][0] for index in group])
    return components(texts, [*same.values(), *sets.names, *near])


def first_alike(examples: Sequence[Any], tokenizer: Any, similar: float = SIMILAR) -> list[int]:
    """Return for each tokenised example the index of the first one whose record it nearly repeats, its own if there is none.

    A record's examples (answers trained apart share its id) stay or go together; a `similar` above 1 finds nothing alike.
    """
    if similar > 1:
        return list(range(len(examples)))

    # A record's different examples, each with its index; records are numbered in the order of their first example.
    examples_of: dict[str, dict[tuple[int, ...], int]] = defaultdict(dict)
    for index, example in enumerate(examples):
        examples_of[example.id].setdefault(example.tokens, index)
    records = list(examples_of)

    # The smallest name of a cluster is the first record's, since names sort as numbers do.
    special = set(tokenizer.all_special_ids)
    names = {record: f"{number:09d}" for number, record in enumerate(records)}
    texts = {}
    for record, parts in examples_of.items():
        texts[names[record]] = "\n".join(text_between(tokens, tokenizer, special) for tokens in parts)
    clusters = near_clusters(texts, similar)

    firsts = []
    for example in examples:
        leader = records[int(clusters[names[example.id]])]
        if leader == example.id:
            firsts.append(examples_of[example.id][example.tokens])
        else:
            firsts.append(min(examples_of[leader].values()))
    return firsts


def text_between(tokens: Sequence[int], tokenizer: Any, special: set[int]) -> str:
    """Return the text between special tokens, one line for each stretch."""
    lines: list[list[int]] = [[]]
    for token in tokens:
        if token in special:
            lines.append([])
        else:
            lines[-1].append(token)
    return "\n".join(tokenizer.batch_decode([line for line in lines if line]))
