"""Records that must stay on one side of a split, because they ask or answer the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from harness.alike.clusters import components, components_of, near_to
from harness.alike.grams import gram_sets
from harness.files.records import Record


def turn_keys(record: Record) -> tuple[list[bytes], list[bytes]]:
    """Return keys of a conversation's beginnings, equal where two records say the same.

    The first list has a key for each assistant turn: of the conversation up to and with it. The second has one for what is
    asked: everything before the last answer. Case and spacing do not count, nor does the system prompt. A plain text asks
    nothing.
    """
    digest = hashlib.sha256()
    answered: list[bytes] = []
    questions: list[bytes] = []
    # Each beginning of a conversation up to an answer: two that share one have asked and answered
    # the same.
    last = record.answer
    for index, turn in enumerate(record.messages):
        if index == last:
            questions.append(b"asks" + digest.digest()[:8])
        if turn.role != "system":
            digest.update(repr((turn.role, " ".join(turn.content.casefold().split()))).encode())
        if turn.role == "assistant":
            answered.append(digest.digest()[:8])
    return answered, questions


class Groups:
    """Which records are alike. Records of equal id count once."""

    def __init__(self, records: Sequence[Record]):
        # One of equal records stands for all.
        self.records = list({record.id: record for record in records}.values())
        texts = ((record.id, "\n".join(turn.content for turn in record.messages)) for record in self.records)
        self.sets = gram_sets(texts)

    def near(self, ids: set[str]) -> set[str]:
        """Return the ids of records whose text is nearly that of one of these, and these."""
        chosen = {index for index, names in enumerate(self.sets.names) if not ids.isdisjoint(names)}
        return ids.union(*(self.sets.names[index] for index in near_to(self.sets, chosen)))

    def clusters(self) -> dict[str, str]:
        """Return record id -> the smallest id of its cluster."""
        return components((record.id for record in self.records), self.links())

    def links(self) -> Iterator[list[str]]:
        """Yield lists of ids that belong together."""
        # Records that ask the same, or have an answered beginning in common.
        first: dict[bytes, str] = {}
        for record in self.records:
            answered, questions = turn_keys(record)
            for key in {*questions, *answered}:
                other = first.setdefault(key, record.id)
                if other != record.id:
                    yield [other, record.id]

        # Records with the same grams, and then near-duplicates, of which one of each set is enough.
        yield from self.sets.names
        for group in components_of(self.sets):
            yield [self.sets.names[index][0] for index in group]
