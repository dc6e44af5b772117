"""Shared by tests of fields: records and items as files, read, and what is said of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from harness.errors import PlanError
from harness.files.item_file import read_item_file
from harness.files.records import Record, read_record, read_records

ALPACA = {"instruction": "Add.", "output": "3"}
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ASK = {"question": "Which?", "answer": "B"}


def save(folder: Path, *rows, name: str = "d.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, *rows) -> list[Record]:
    return read_records(str(save(folder, *rows)))


def said(record: Record) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in record.messages]


def data_faults(*rows) -> list[str]:
    faults: list[str] = []
    for number, row in enumerate(rows, 1):
        read_record(f"record {number}", row, faults, Counter())
    return faults


def suite_faults(folder: Path, *rows) -> list[str]:
    try:
        read_item_file(save(folder, *rows))
    except PlanError as error:
        return error.faults
    return []
