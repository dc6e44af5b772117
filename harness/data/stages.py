"""Several data files trained one after the other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from harness.data.groups import Groups
from harness.data.split import Dataset, check_sizes, fingerprint, load_dataset, without_test
from harness.errors import PlanError, raise_faults
from harness.files.records import Record


def load_stages(sources: Sequence[str], tests: Sequence[str | None], *, accept: str = "chat") -> list[Dataset]:
    """Read the files of a plan that trains on one after the other.

    No file's training or dev records repeat another's test. Raises PlanError with the faults of all files.
    """
    datasets = []
    faults: list[str] = []
    for source, test in zip(sources, tests, strict=True):
        try:
            datasets.append(load_dataset(source, test=test, accept=accept))
        except PlanError as error:
            faults += error.faults

    # Rows of the report are named by the file, so two of one name could not be told apart.
    for name, files in sorted(Counter(dataset.name for dataset in datasets).items()):
        if files > 1:
            faults.append(f"two data files are named {name}; rename one")
    raise_faults(faults)

    # Every stage is tested at the end, so none may train on what another tests.
    stages = []
    for dataset in datasets:
        others = [other for other in datasets if other is not dataset]
        stages.append(_without_tests_of(dataset, others))
    return stages


def _without_tests_of(dataset: Dataset, others: Sequence[Dataset]) -> Dataset:
    """Return the data set without the training and dev records that occur in others' tests, with a note on them."""
    notes = [*dataset.notes]
    for other in others:
        tested = list(other.test)
        kept = {}
        for part in ("train", "dev"):
            records = list(getattr(dataset, part))
            part_notes: list[str] = []
            groups = Groups([*records, *tested])
            kept[part] = tuple(without_test(records, tested, groups, f"{other.name}'s test", part_notes))
            notes += [f"{dataset.name}, {part}: {note}" for note in part_notes]
        dataset = replace(dataset, **kept, fingerprint=fingerprint(kept["train"], kept["dev"], dataset.test))

    # A stage may have lost too much to train on.
    check_sizes(dataset.path, None, {part: list(getattr(dataset, part)) for part in ("train", "dev", "test")})
    return replace(dataset, notes=tuple(notes))


def joined(stages: Sequence[Dataset]) -> Dataset:
    """Return all files as one: training records in turn, dev and test records alternately. A single file is itself."""
    # One file is no sequence of stages.
    if len(stages) == 1:
        return stages[0]
    clusters: dict[str, str] = {}
    for stage in stages:
        clusters |= stage.cluster_of

    # Order is part of the fingerprint: trained in another order it is another comparison.
    fingerprints = " ".join(stage.fingerprint for stage in stages)
    return Dataset(
        name="+".join(stage.name for stage in stages),
        path=",".join(stage.path for stage in stages),
        train=tuple(chain.from_iterable(stage.train for stage in stages)),
        dev=tuple(_alternating([stage.dev for stage in stages])),
        test=tuple(_alternating([stage.test for stage in stages])),
        notes=tuple(chain.from_iterable(stage.notes for stage in stages)),
        fingerprint=hashlib.sha256(fingerprints.encode()).hexdigest()[:16],
        cluster_of=clusters,
    )


def _alternating(parts: Sequence[Sequence[Record]]) -> Iterator[Record]:
    """Yield the first record of each part, then the second of each, and so on."""
    for records in zip_longest(*parts):
        yield from (record for record in records if record is not None)
