"""Where rows come from: a file by its ending, or a hub data set. No torch here."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import PlanError

Rows = list[tuple[str, Any]]
"""(where it stands, the row); the number counts from 1."""
NOT_DATA = {
    ".md",
    ".tsv",
    ".xlsx",
    ".xls",
    ".zip",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
    ".arrow",
    ".xml",
    ".yaml",
    ".yml",
}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


def read_rows(source: str, faults: list[str]) -> Rows:
    """The rows of a file or hub data set; faults of single lines are added to `faults`."""
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir():
        raise PlanError(f"{source} is a folder; name a file in it ({', '.join(READERS)}) or a hub data set")
    if not path.exists():
        if suffix not in READERS and suffix not in NOT_DATA and HUB_ID.fullmatch(source):
            return read_hub(source)
        raise PlanError(absent(path, source))
    if suffix not in READERS:
        raise PlanError(f"{source} ends in '{suffix}'; known endings are {', '.join(READERS)}: convert it or rename it")
    return READERS[suffix](path, faults)


def absent(path: Path, source: str) -> str:
    """Says that a file is not there, with the names that come close."""
    if not path.parent.is_dir():
        return f"{source} does not exist, nor does its folder {path.parent}; check the path"
    near = difflib.get_close_matches(path.name, (p.name for p in path.parent.iterdir()), cutoff=0.5)
    return f"{source} does not exist; " + (f"did you mean {' or '.join(near)}?" if near else "check the path")


def read_text(path: Path) -> str:
    """The file as UTF-8 text, with or without a byte-order mark."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        wrong = f"byte {error.start + 1:,} (line {line:,}) is not UTF-8"
        raise PlanError(f"{path.name}: {wrong}; save the file as UTF-8") from None


def read_json(path: Path, faults: list[str]) -> Rows:
    """A list of records, or an object whose `data` is one."""
    text = read_text(path)
    if not text.strip():
        raise PlanError(f"{path.name} is empty; give it at least one record")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        cure = "one object a line is .jsonl: rename it" if error.msg == "Extra data" else "mend the syntax there"
        raise PlanError(f"{path.name} line {error.lineno:,} column {error.colno}: {error.msg}; {cure}") from None
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        found = f"an object with {', '.join(list(value)[:8]) or 'nothing'}" if isinstance(value, dict) else "a single value"
        raise PlanError(f"{path.name} holds {found}; write a list of records, or an object whose 'data' is one")
    return [(f"{path.name} record {number}", row) for number, row in enumerate(rows, 1)]


def read_jsonl(path: Path, faults: list[str]) -> Rows:
    """One JSON object a line; blank lines do not count."""
    rows: Rows = []
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    for record, (number, line) in enumerate(lines, 1):
        where = f"{path.name} record {record} (line {number})"
        try:
            rows.append((where, json.loads(line)))
        except json.JSONDecodeError as error:
            faults.append(f"{where}: {error.msg} at column {error.colno}; write one JSON object a line")
    return rows


def read_txt(path: Path, faults: list[str]) -> Rows:
    """Plain text: what stands between empty lines is one document."""
    texts = re.split(r"\n\s*\n", read_text(path).strip())
    return [(f"{path.name} text {number}", {"text": text}) for number, text in enumerate(texts, 1) if text]


def read_csv(path: Path, faults: list[str]) -> Rows:
    """A header and one record a row; all cells are text, and an empty cell or NaN is a missing field."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: Rows = []
    try:
        for record, row in enumerate(reader, 1):
            where = f"{path.name} record {record}"
            if None in row:
                faults.append(f"{where} (line {reader.line_num}): has more cells than the header; quote cells with commas")
            else:
                rows.append((where, {k: v for k, v in row.items() if v not in (None, "", "NaN", "nan")}))
    except csv.Error as error:
        faults.append(f"{path.name} line {reader.line_num}: {error}; mend the quoting there")
    return rows


def read_parquet(path: Path, faults: list[str]) -> Rows:
    """One record a row."""
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise PlanError(f"{path.name} is not a whole parquet file ({first_line(error)}); write it again") from None
    return [(f"{path.name} record {number}", row) for number, row in enumerate(rows, 1)]


def read_hub(source: str) -> Rows:
    """The `train` split of a hub data set, `name` or `name:config`."""
    try:
        import datasets
    except ImportError:
        raise PlanError(f"{source} is no file, and hub data sets need `datasets`; run `pip install datasets`") from None
    name, _, config = source.partition(":")
    try:
        rows = list(datasets.load_dataset(name, config or None, split="train"))
    except Exception as error:  # offline, unknown, gated, no such split: a dozen classes
        cure = "check the name, or download it where there is a network and name the file"
        raise PlanError(
            f"{source} is no file here, and the hub's train split of {name} could not be loaded "
            f"({type(error).__name__}: {first_line(error)}); {cure}"
        ) from None
    return [(f"{name} record {number}", row) for number, row in enumerate(rows, 1)]


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]


READERS: dict[str, Callable[[Path, list[str]], Rows]] = {
    ".json": read_json, ".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet, ".txt": read_txt,
}  # fmt: skip
"""File ending -> reader."""
