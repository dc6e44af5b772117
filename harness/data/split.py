"""Data: records split into train, dev and test so that no test record, nor one almost like it, is ever trained on.

A hash of a record's content decides its side, so it stays where it is when unrelated records are added or removed. The shares
depend on the number of records in powers of two; records may change sides only where that number doubles or halves.

Records are one cluster if they ask the same (without the system prompt), share an answered beginning, or are near-duplicates
(harness/alike/clusters.py). A cluster is never divided.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from harness.data.groups import Groups, turn_keys
from harness.data.test_files import HeldOut, read_held_out
from harness.errors import PlanError, raise_faults
from harness.files.records import Record, read_records
from harness.store.opening import stem_of, test_files

LEAST_TRAIN = 10
"""Training records that a data set must leave."""
FEW_TEST = 200
"""Test records below which a note says how little they can show."""


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
    """Read a file or hub data set and split it.

    With a test file, test is that file, and nothing like it is trained on. Shares are of the records: dev at least about 50
    and at most 500, test at least about 100 and at most 2,000, and never more than a sixth and a third.
    """
    notes: list[str] = []
    unread: list[str] = []
    records, tests = read_all(source, test, accept, unread)
    held_out = list(chain.from_iterable(file.records for file in tests))

    # What the test file contains is left out before anything is split.
    groups = Groups([*records, *held_out])
    if test:
        records = without_test(records, held_out, groups, tested_in(test), notes)

    cluster_of = groups.clusters()
    # Enough of each part to measure a small data set, and not most of a large one.
    wanted_test = 0.0 if test else share(len(records), test_share, 100, 2000, 1 / 3)
    wanted_dev = share(len(records), dev_share, 50, 500, 1 / 6)
    sides = split({cluster_of[r.id] for r in records}, wanted_dev, wanted_test)
    parts: dict[str, list[Record]] = {"train": [], "dev": [], "test": [*held_out]}
    for record in records:
        parts[sides[cluster_of[record.id]]].append(record)
    check_sizes(source, test, parts)

    repeated = duplicates([*records, *held_out], cluster_of)
    return Dataset(
        name=_name_of(source),
        path=source,
        train=tuple(parts["train"]),
        dev=tuple(parts["dev"]),
        test=tuple(parts["test"]),
        notes=(*counts(source, test, parts), *notes, *unread, *repeated),
        fingerprint=fingerprint(parts["train"], parts["dev"], parts["test"]),
        cluster_of=cluster_of,
        tests=tuple(tests),
    )


def _name_of(source: str) -> str:
    """Return the stem of a file, or the last name of a hub data set."""
    # Neither folder nor ending, which say nothing of the data.
    if Path(source).suffix:
        return stem_of(Path(source))
    return re.split("[/:]", source.rstrip("/"))[-1]


def read_all(source: str, test: str | None, accept: str, notes: list[str]) -> tuple[list[Record], list[HeldOut]]:
    """Return the records of a source and its test files (none for None), and add notes on them to `notes`.

    Raises PlanError with the faults of all files.
    """
    records: list[Record] = []
    tests: list[HeldOut] = []
    # Both are read before either is refused, so that all faults are told at once.
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
    """Return the names of the test files as part of a sentence."""
    return " and ".join(Path(file).name for file in test_files(test))


def fingerprint(*parts: Sequence[Record]) -> str:
    """Return 16 hex digits that depend on the parts' records, their order, and every character of their content."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        for record in part:
            turns = []
            for turn in record.messages:
                # A trained turn has no mark, so that fingerprints of before there were untrained ones stay.
                mark = () if turn.trained else ("untrained",)
                turns.append((turn.role, turn.content, *mark))
            digest.update(repr((number, record.id, turns)).encode())
    return digest.hexdigest()[:16]


def share(n: int, wanted: float, least: int, most: int, ceiling: float) -> float:
    """Return the share of n records to take: between `least` and `most` of them, and at most `ceiling`.

    It is the same for all n between two powers of two, so that a few records more or less move no others.
    """
    # A power of two, so that the shares stay while a data set grows a little.
    floor = 2 ** (max(n, 1).bit_length() - 1)
    return min(max(wanted, least / floor), most / (2 * floor), ceiling)


def split(clusters: Iterable[str], dev: float, test: float) -> dict[str, str]:
    """Return cluster -> "train", "dev" or "test", by a hash of its name. `dev`, `test`: shares of the clusters.

    Where there are three clusters or more, each wanted part gets at least one.
    """
    # By a hash of the name: a record that is added moves no other one to another side.
    position = {}
    for cluster in clusters:
        digest = hashlib.sha256(f"split {cluster}".encode()).hexdigest()
        position[cluster] = int(digest[:16], 16) / 2**64  # from 0 to below 1
    ordered = sorted(position, key=lambda cluster: position[cluster])

    # Test is taken from the lower end and dev from the upper one.
    sides = {}
    for cluster in ordered:
        if position[cluster] < test:
            sides[cluster] = "test"
        elif position[cluster] >= 1 - dev:
            sides[cluster] = "dev"
        else:
            sides[cluster] = "train"

    # Every part has something, however few clusters there are.
    if len(ordered) >= 3:
        if test:
            sides[ordered[0]] = "test"
        sides[ordered[-1]] = "dev"
    return sides


def check_sizes(source: str, test: str | None, parts: dict[str, list[Record]]) -> None:
    """Raise PlanError where the parts cannot be trained on or measured."""
    # Nearly everything is alike: one cluster cannot be on two sides.
    n = {side: len(part) for side, part in parts.items()}
    left = f"{n['train']:,} to train, {n['dev']:,} dev, {n['test']:,} test"
    if not all(n.values()) and n["train"] + n["dev"]:
        cure = "add records that differ" if test else "add records that differ, or give a test file (TEST=)"
        raise PlanError(f"{source} leaves {left}, because nearly all its records are alike; {cure}")
    if n["train"] < LEAST_TRAIN:
        why = f" after what {test} also holds was left out" if test else ""
        raise PlanError(f"{source} leaves {left}{why}; at least {LEAST_TRAIN} training records are needed: add records")


def counts(source: str, test: str | None, parts: dict[str, list[Record]]) -> list[str]:
    """Return notes on how many records went where, and on what a small test set can show."""
    tested = len(parts["test"])
    sizes = f"{len(parts['train']):,} records to train, {len(parts['dev']):,} dev; {tested:,} test"
    where = f"all of {tested_in(test)}" if test else "split by a hash of their content"
    notes = [f"{Path(source).name}: {sizes}, {where}."]

    # Fewer records show only large differences; the reader must know before the numbers.
    if tested < FEW_TEST:
        notes.append(f"Only {tested:,} test records: the smallest gain that can be told from chance will be large.")
    return notes


def duplicates(records: Sequence[Record], cluster_of: dict[str, str]) -> list[str]:
    """Return notes on records that repeat others. Everything is kept."""
    # An id is a hash of the content, so equal ids are copies.
    ids = {record.id for record in records}
    copies = len(records) - len(ids)
    sizes = Counter(cluster_of[record_id] for record_id in ids)
    alike = {cluster: size for cluster, size in sizes.items() if size > 1}
    notes = []
    if copies:
        notes.append(f"{copies:,} records are exact copies of others: kept, each on one side with what it copies.")
    if alike:
        kept = "no cluster is divided between train, dev and test"
        notes.append(
            f"{sum(alike.values()):,} records ask the same or are near-duplicates, in {len(alike):,} clusters: {kept}."
        )

    # One large cluster goes to one side whole, and may unbalance the parts.
    if max(sizes.values()) > 0.1 * len(ids):
        part = f"{max(sizes.values()):,} of {len(ids):,} different records"
        notes.append(f"The largest cluster of like records holds {part}: the parts' sizes may be far from their shares.")
    return notes


def without_test(records: list[Record], held_out: list[Record], groups: Groups, test: str, notes: list[str]) -> list[Record]:
    """Return the records that repeat nothing in the test file, and add a note that counts the others to `notes`."""
    # A training record that repeats a test question with another answer is no copy of it, so it
    # stays.
    ids = {record.id for record in held_out}
    answered: set[bytes] = set()
    for record in held_out:
        answered.update(turn_keys(record)[0])
    near = groups.near(ids)

    # Each record is counted once, by the closest way in which it repeats.
    kept = []
    counts_of = Counter[str]()
    for record in records:
        if record.id in ids:
            counts_of["exact"] += 1
        elif not answered.isdisjoint(turn_keys(record)[0]):
            counts_of["answered"] += 1
        elif record.id in near:
            counts_of["near"] += 1
        else:
            kept.append(record)
    if counts_of:
        exact = f"{counts_of['exact']:,} exactly"
        same = f"{counts_of['answered']:,} with the same question and answer"
        how = f"{exact}, {same}, {counts_of['near']:,} nearly"
        notes.append(f"{counts_of.total():,} records also stand in {test} ({how}): left out of training.")
    return kept
