"""Test files: records whose last answer is generated, or items, asked and scored as the same file is under SUITES."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.fields.table import CHOICES, LETTERS, RULES
from harness.files.choices import COLUMNS, unlabelled
from harness.files.formats import NOT_DATA, READERS, read_rows
from harness.files.item_file import ItemFile, read_item_file
from harness.files.item_row import TYPES, Doc
from harness.files.records import Record, choice_prompt, read_records, record_id
from harness.files.sidecar import read_sidecar
from harness.files.turns import Turn
from harness.store.opening import stem_of, test_files

SCORED_ALONE = ("rules", "instructions", "python")
"""Kinds whose targets are no answers."""


@dataclass(frozen=True)
class HeldOut:
    """One test file."""

    name: str
    records: tuple[Record, ...]
    """Its conversations: nothing like them is trained, and their held-out loss is measured."""
    items: ItemFile | None = None
    """How it is asked, where it is a file of items."""


def read_held_out(text: str, accept: str, notes: list[str]) -> list[HeldOut]:
    """Return every test file of a domain; the faults of all together. What the report must say of them is added to `notes`."""
    files = test_files(text)
    names = Counter(_name(file) for file in files)
    # Tasks are named by the file, so two of one name could not be told apart.
    faults = [f"test names two files called {name}; rename one" for name, number in names.items() if number > 1 or not name]
    held_out = []
    for file in files:
        try:
            held_out.append(_read(file, accept, notes))
        except PlanError as error:
            faults += error.faults
    raise_faults(faults)
    return held_out


def _name(file: str) -> str:
    return stem_of(Path(file)) if Path(file).suffix else file.rstrip("/").replace(":", "/").rpartition("/")[2]


def _read(file: str, accept: str, notes: list[str]) -> HeldOut:
    path = Path(file).expanduser()
    # Hub data sets and plain records are read as training data is.
    if not path.is_file() or not has_items(path):
        return HeldOut(_name(file), tuple(read_records(file, accept, notes)))

    # Items become conversations too: nothing like them may be trained, and their loss is measured.
    items = read_item_file(path)
    records = []
    for kind, docs in items.kinds.items():
        for doc in docs:
            record = as_record(kind, doc, f"{path.name} item {len(records) + 1}")
            doc["cluster"] = doc["cluster"] or record.id
            records.append(record)
    return HeldOut(_name(file), tuple(records), items)


def has_items(path: Path) -> bool:
    """Return whether a file has what only items have: options, a type of item, rules, several right answers; or a sidecar."""
    # Endings that hold no rows are not opened.
    if path.suffix.lower() in NOT_DATA or not any(ending in path.suffixes for ending in READERS):
        return False
    sidecar = read_sidecar(path)
    if sidecar != type(sidecar)():
        return True
    return any(isinstance(value, dict) and _is_item(value) for _, value in read_rows(str(path), []))


def _is_item(row: Mapping[str, Any]) -> bool:
    # What training records never have.
    if row.get("text") and row.get("type") == "text":
        return True
    if "question" not in row:
        return False
    kind = row.get("type")
    return (
        any(row.get(name) for name in (*CHOICES, *RULES, "instruction_id_list", "tolerance", "unit"))
        or all(row.get(name) for name in COLUMNS[:2])
        or (isinstance(kind, str) and kind in TYPES)
        or isinstance(row.get("answer"), list)
    )


def as_record(kind: str, doc: Doc, origin: str) -> Record:
    """Return what an item says, as a conversation that training could hold: multiple choice by letters, sentences as
    plain text.
    """
    prompt, target = doc["prompt"], doc["targets"][0] if doc["targets"] else ""
    # Sentences and continuations are texts; everything else is a question.
    if not prompt or kind == "continuation":
        turns = [Turn("text", f"{prompt} {target}".strip())]
        return Record(record_id(tuple(turns)), tuple(turns), origin)
    turns = [Turn(role, content) for role, content in doc.get("before", ())]
    choices = None
    if kind == "choice":
        choices = unlabelled(doc["choices"])
        prompt = choice_prompt(prompt, choices)
        target = LETTERS[doc["answer"]]
    turns.append(Turn("user", prompt))

    # A rule has no reference answer: nothing of it could be trained.
    if kind not in SCORED_ALONE:
        turns.append(Turn("assistant", target))
    return Record(record_id(tuple(turns)), tuple(turns), origin, choices)
