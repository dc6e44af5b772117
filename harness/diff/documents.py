"""The documents of a run, and which of them another run asked too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.diff.lm_eval_run import Sample


@dataclass(frozen=True)
class Document:
    """A document of one run, and where it stands there."""

    doc_id: int
    words: str

    def __str__(self) -> str:
        return f"{self.doc_id} ({self.words})" if self.words else str(self.doc_id)


Key = tuple[str, int]
"""A document's content, and which of equal documents."""


@dataclass(frozen=True)
class Side:
    """The samples of one run under one filter, in the order of `doc_id`."""

    samples: list[Sample]
    places: dict[Key, int]
    """Document -> which of the samples is its."""


@dataclass(frozen=True)
class Match:
    """The documents that both runs have under one filter: (n,) which samples of A, which of B, which documents of the task."""

    before: np.ndarray
    after: np.ndarray
    documents: np.ndarray


def shared_documents(a: dict[str, Side], b: dict[str, Side]) -> dict[Key, int]:
    """Return the documents that both runs asked under the same filter, each with its number among them."""
    shared: dict[Key, int] = {}
    for chosen in a:
        if chosen in b:
            for key in a[chosen].places:
                if key in b[chosen].places:
                    shared.setdefault(key, len(shared))
    return shared


def match_of(a: Side, b: Side, shared: dict[Key, int]) -> Match:
    """Return which samples of two runs are of the same documents, under one filter."""
    keys = [key for key in a.places if key in b.places]
    columns = [[numbers[key] for key in keys] for numbers in (a.places, b.places, shared)]
    return Match(*(np.array(column, dtype=int) for column in columns))


def sides_of(samples: Sequence[Sample]) -> dict[str, Side]:
    """Return the samples of each filter, with what tells equal documents apart: how many come before."""
    sides: dict[str, Side] = {}
    before: Counter[tuple[str, str]] = Counter()
    for sample in sorted(samples, key=lambda sample: sample.doc_id):
        side = sides.setdefault(sample.filter, Side([], {}))
        pair = (sample.filter, sample.content)
        side.places[sample.content, before[pair]] = len(side.samples)
        side.samples.append(sample)
        before[pair] += 1
    return sides


def documents_of(sides: dict[str, Side]) -> dict[Key, Document]:
    """Return the documents of a run, each once."""
    documents: dict[Key, Document] = {}
    for side in sides.values():
        for key, index in side.places.items():
            if key not in documents:
                sample = side.samples[index]
                documents[key] = Document(sample.doc_id, sample.words)
    return documents
