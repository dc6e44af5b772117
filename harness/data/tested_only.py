"""The data of a comparison that trains nothing: test records alone, or none at all."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from harness.data.groups import Groups
from harness.data.split import Dataset, duplicates, fingerprint, tested_in
from harness.data.test_files import read_held_out
from harness.store.opening import stem_of, test_files

NAME = "no domain"
"""Name of the domain where there is none."""


def dataset_of_tests(test: str | None, accept: str = "chat") -> Dataset:
    """Return the test files as a data set with nothing to train on. Raises PlanError where they cannot be read."""
    if not test:
        return Dataset(NAME, "", (), (), (), (), fingerprint((), (), ()), {})
    notes: list[str] = []
    files = read_held_out(test, accept, notes)

    # Nothing is trained, so nothing can leak; clusters still resample together.
    records = list(chain.from_iterable(file.records for file in files))
    clusters = Groups(records).clusters()
    lines = [
        f"{tested_in(test)}: {len(records):,} test records; nothing is trained.",
        *notes,
        *duplicates(records, clusters),
    ]
    name = "+".join(stem_of(Path(file)) for file in test_files(test))
    return Dataset(name, test, (), (), tuple(records), tuple(lines), fingerprint((), (), records), clusters, tuple(files))
