"""Data: records split into train, dev and test so that no test record, nor one almost like it, is ever trained on.

A record's side is decided by a hash of its content, so it stays where it is when unrelated records come or go. The shares
follow the number of records in steps of two; only where that doubles or halves may records change sides.

Records are one cluster when they ask the same (the system prompt aside), share an answered beginning, or are
near-duplicates (harness/text/near_duplicates.py). A cluster is never divided.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from harness.data.test_files import HeldOut, read_held_out
from harness.errors import PlanError, raise_faults
from harness.files.records import Record, read_records
from harness.store.opening import stem_of, test_files
from harness.text.near_duplicates import components, components_of, near_to, telling_sets

LEAST_TRAIN = 10
FEW_TEST = 200


@dataclass(frozen=True)
class Dataset:
    """The records of one comparison, split."""

    name: str
    """The file's stem, or the hub data set's last name."""
    path: str
    """The source as given."""
    train: tuple[Record, ...]
    dev: tuple[Record, ...]
    test: tuple[Record, ...]
    notes: tuple[str, ...]
    """Sentences the report must show: counts, duplicates, what was left out."""
    fingerprint: str
    """Hash of all three parts, their order and content; file names do not count."""
    cluster_of: dict[str, str]
    """Record id -> its cluster (the smallest id in it): records of one cluster resample together."""
    tests: tuple[HeldOut, ...] = ()
    """The test files, where any are named: how their records are asked."""


def load_dataset(
    source: str, *, test: str | None = None, accept: str = "chat", dev_share: float = 0.05, test_share: float = 0.2
) -> Dataset:
    """Read a file or hub data set and split it; with an explicit test file, test is that file and nothing like it is trained.

    Shares are of the records: dev at least about 50 and at most 500, test at least about 100 and at most 2,000, and never
    more than a sixth and a third.
    """
    notes: list[str] = []
    unread: list[str] = []
    records, tests = read_all(source, test, accept, unread)
    held_out = [record for file in tests for record in file.records]
    groups = Groups([*records, *held_out])
    if test:
        records = without_test(records, held_out, groups, tested_in(test), notes)
    cluster_of = groups.clusters()
    wanted_test = 0.0 if test else share(len(records), test_share, 100, 2000, 1 / 3)
    wanted_dev = share(len(records), dev_share, 50, 500, 1 / 6)
    sides = split({cluster_of[r.id] for r in records}, wanted_dev, wanted_test)
    parts: dict[str, list[Record]] = {"train": [], "dev": [], "test": [*held_out]}
    for record in records:
        parts[sides[cluster_of[record.id]]].append(record)
    check_sizes(source, test, parts)
    notes[:0] = counts(source, test, parts)
    notes += unread
    notes += duplicates([*records, *held_out], cluster_of)
    train, dev, tested = (tuple(parts[side]) for side in ("train", "dev", "test"))
    name = stem_of(Path(source)) if Path(source).suffix else re.split("[/:]", source.rstrip("/"))[-1]
    marks = fingerprint(train, dev, tested)
    return Dataset(name, source, train, dev, tested, tuple(notes), marks, cluster_of, tuple(tests))


def load_stages(sources: Sequence[str], tests: Sequence[str | None], *, accept: str = "chat") -> list[Dataset]:
    """The files of a plan that trains on one after the other; no file's training or dev records repeat another's test.

    A single one is `load_dataset`'s. Raises PlanError with the faults of all.
    """
    found, faults = [], list[str]()
    for source, test in zip(sources, tests, strict=True):
        try:
            found.append(load_dataset(source, test=test, accept=accept))
        except PlanError as error:
            faults += error.faults
    names = [dataset.name for dataset in found]
    faults += [f"two data files are named {name}; rename one" for name in sorted(set(names)) if names.count(name) > 1]
    raise_faults(faults)
    return [_less_tests_of(dataset, [d for d in found if d is not dataset]) for dataset in found]


def _less_tests_of(dataset: Dataset, others: Sequence[Dataset]) -> Dataset:
    """The data set without the training and dev records that stand in others' tests; noted."""
    notes = [*dataset.notes]
    for other in others:
        kept = {}
        for part in ("train", "dev"):
            records, tested = list(getattr(dataset, part)), list(other.test)
            found: list[str] = []
            kept[part] = tuple(without_test(records, tested, Groups([*records, *tested]), f"{other.name}'s test", found))
            notes += [f"{dataset.name}, {part}: {note}" for note in found]
        dataset = replace(dataset, **kept, fingerprint=fingerprint(kept["train"], kept["dev"], dataset.test))
    check_sizes(dataset.path, None, {part: list(getattr(dataset, part)) for part in ("train", "dev", "test")})
    return replace(dataset, notes=tuple(notes))


def joined(stages: Sequence[Dataset]) -> Dataset:
    """All files as one: training records in turn, dev and test records dealt alternately; a single file is itself."""
    if len(stages) == 1:
        return stages[0]
    train = tuple(record for stage in stages for record in stage.train)
    dev, test = (tuple(_dealt([getattr(stage, part) for stage in stages])) for part in ("dev", "test"))
    clusters = {record: cluster for stage in stages for record, cluster in stage.cluster_of.items()}
    name, path = "+".join(stage.name for stage in stages), ",".join(stage.path for stage in stages)
    notes = tuple(note for stage in stages for note in stage.notes)
    print_ = hashlib.sha256(" ".join(stage.fingerprint for stage in stages).encode()).hexdigest()[:16]
    return Dataset(name, path, train, dev, test, notes, print_, clusters)


def _dealt(parts: Sequence[Sequence[Record]]) -> Iterator[Record]:
    for records in zip_longest(*parts):
        yield from (record for record in records if record is not None)


def read_all(source: str, test: str | None, accept: str, notes: list[str]) -> tuple[list[Record], list[HeldOut]]:
    """The records of a source and its test files, none for None; the faults of all together. Notes go to `notes`."""
    records: list[Record] = []
    tests: list[HeldOut] = []
    faults: list[str] = []
    try:
        records = read_records(source, accept, notes)
    except PlanError as error:
        faults += error.faults
    try:
        tests = read_held_out(test, accept, notes) if test else []
    except PlanError as error:
        faults += error.faults
    raise_faults(faults)
    return records, tests


def tested_in(test: str) -> str:
    """The names of the test files, as a sentence has them."""
    return " and ".join(Path(file).name for file in test_files(test))


def fingerprint(*parts: Sequence[Record]) -> str:
    """16 hex digits over the parts' records, in order, with every character of their content."""
    digest = hashlib.sha256()
    for place, part in enumerate(parts):
        for record in part:
            turns = [(m.role, m.content) if m.trained else (m.role, m.content, "untrained") for m in record.messages]
            digest.update(repr((place, record.id, turns)).encode())
    return digest.hexdigest()[:16]


def share(n: int, wanted: float, least: int, most: int, ceiling: float) -> float:
    """The share of n records to take: between `least` and `most` of them, the same for all n between two powers of two."""
    floor = 2 ** (max(n, 1).bit_length() - 1)
    return min(max(wanted, least / floor), most / (2 * floor), ceiling)


def split(clusters: Iterable[str], dev: float, test: float) -> dict[str, str]:
    """Cluster -> "train", "dev" or "test", by a hash of its name; each wanted part gets at least one where there are three."""
    place = {c: int(hashlib.sha256(f"split {c}".encode()).hexdigest()[:16], 16) / 2**64 for c in clusters}
    order = sorted(place, key=place.__getitem__)
    sides = {c: "test" if place[c] < test else "dev" if place[c] >= 1 - dev else "train" for c in order}
    if len(order) >= 3:
        sides |= ({order[0]: "test"} if test else {}) | {order[-1]: "dev"}
    return sides


def check_sizes(source: str, test: str | None, parts: dict[str, list[Record]]) -> None:
    """Refuse what cannot be trained on or measured."""
    n = {side: len(part) for side, part in parts.items()}
    left = f"{n['train']:,} to train, {n['dev']:,} dev, {n['test']:,} test"
    if not all(n.values()) and n["train"] + n["dev"]:
        cure = "add records that differ" if test else "add records that differ, or give a test file (TEST=)"
        raise PlanError(f"{source} leaves {left}, because nearly all its records are alike; {cure}")
    if n["train"] < LEAST_TRAIN:
        why = f" after what {test} also holds was left out" if test else ""
        raise PlanError(f"{source} leaves {left}{why}; at least {LEAST_TRAIN} training records are needed: add records")


def counts(source: str, test: str | None, parts: dict[str, list[Record]]) -> list[str]:
    """How many records went where, and what a small test set means."""
    train, dev, tested = (len(parts[side]) for side in ("train", "dev", "test"))
    where = f"all of {tested_in(test)}" if test else "split by a hash of their content"
    notes = [f"{Path(source).name}: {train:,} records to train, {dev:,} dev; {tested:,} test, {where}."]
    if tested < FEW_TEST:
        notes.append(f"Only {tested:,} test records: the smallest gain that can be told from chance will be large.")
    return notes


def duplicates(records: Sequence[Record], cluster_of: dict[str, str]) -> list[str]:
    """What repeats in the records; everything is kept."""
    ids = Counter(r.id for r in records)
    copies = len(records) - len(ids)
    sizes = Counter(cluster_of[i] for i in ids)
    alike = {c: n for c, n in sizes.items() if n > 1}
    notes = []
    if copies:
        notes.append(f"{copies:,} records are exact copies of others: kept, each on one side with what it copies.")
    if alike:
        kept = "no cluster is divided between train, dev and test"
        notes.append(
            f"{sum(alike.values()):,} records ask the same or are near-duplicates, in {len(alike):,} clusters: {kept}."
        )
    if max(sizes.values()) > 0.1 * len(ids):
        part = f"{max(sizes.values()):,} of {len(ids):,} different records"
        notes.append(f"The largest cluster of like records holds {part}: the parts' sizes may be far from their shares.")
    return notes


def without_test(records: list[Record], held_out: list[Record], groups: Groups, test: str, notes: list[str]) -> list[Record]:
    """The records that repeat nothing in the test file; the others are counted in a note."""
    ids = {r.id for r in held_out}
    answered = {key for r in held_out for key in said_keys(r)[0]}
    near = groups.near(ids)
    exact = [r for r in records if r.id in ids]
    same = [r for r in records if r.id not in ids and not answered.isdisjoint(said_keys(r)[0])]
    dropped = ids | {r.id for r in same}
    alike = [r for r in records if r.id in near and r.id not in dropped]
    gone = dropped | {r.id for r in alike}
    if exact or same or alike:
        how = f"{len(exact):,} exactly, {len(same):,} with the same question and answer, {len(alike):,} nearly"
        total = len(exact) + len(same) + len(alike)
        notes.append(f"{total:,} records also stand in {test} ({how}): left out of training.")
    return [r for r in records if r.id not in gone]


def said_keys(record: Record) -> tuple[list[bytes], list[bytes]]:
    """(a key for each assistant turn: the conversation up to and with it; one for what is asked: all before the last answer).

    What is said counts, whatever its case and spacing; the system prompt does not. A plain text asks nothing.
    """
    digest = hashlib.sha256()
    answered: list[bytes] = []
    asked: list[bytes] = []
    last = record.answer
    for place, turn in enumerate(record.messages):
        if place == last:
            asked.append(b"asks" + digest.digest()[:8])
        if turn.role != "system":
            digest.update(repr((turn.role, " ".join(turn.content.casefold().split()))).encode())
        if turn.role == "assistant":
            answered.append(digest.digest()[:8])
    return answered, asked


class Groups:
    """Which records are alike. Records of equal id count once."""

    def __init__(self, records: Sequence[Record]):
        self.records = list({r.id: r for r in records}.values())
        self.sets = telling_sets((r.id, "\n".join(m.content for m in r.messages)) for r in self.records)

    def near(self, ids: set[str]) -> set[str]:
        """The records whose text is almost that of one of these, these included."""
        chosen = {place for place, names in enumerate(self.sets.names) if not ids.isdisjoint(names)}
        return ids.union(*(self.sets.names[place] for place in near_to(self.sets, chosen)))

    def clusters(self) -> dict[str, str]:
        """Record id -> the smallest id of its cluster."""
        return components((r.id for r in self.records), self.links())

    def links(self) -> Iterator[list[str]]:
        """Lists of records that belong together."""
        first: dict[bytes, str] = {}
        for record in self.records:
            answered, asked = said_keys(record)
            for key in {*asked, *answered}:
                other = first.setdefault(key, record.id)
                if other != record.id:
                    yield [other, record.id]
        yield from self.sets.names
        for group in components_of(self.sets):
            yield [self.sets.names[place][0] for place in group]
