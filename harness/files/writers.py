"""Data files written again: records left out, put in another order, or given more fields; each otherwise byte for byte."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import PlanError
from harness.files.formats import delimiter_of
from harness.store.files import write_atomic
from harness.store.opening import read_text
from harness.text.json_reader import DECODER, parse

More = Sequence[Mapping[str, Any]]
"""Fields to add, one mapping for each record written."""


def check_target(source: str, target: str) -> None:
    """Refuse what could not be written, before anything is worked out."""
    old, new = Path(source).expanduser(), Path(target).expanduser()
    if not old.is_file():
        raise PlanError(f"{source} is no file; only files can be written again (download the data set and name its file)")
    if old.suffix.lower() not in WRITERS:
        raise PlanError(f"{source} ends in '{old.suffix}'; files of records can be written again: {', '.join(WRITERS)}")
    if old.suffix.lower() != new.suffix.lower():
        raise PlanError(
            f"{target} ends in '{new.suffix}' and {source} in '{old.suffix}'; the form stays: give it the same ending"
        )
    if new.exists():
        raise PlanError(f"{target} exists; give another name, or remove it first")


def rewrite(source: str, target: str, places: Sequence[int], more: More | None = None) -> None:
    """Write the records at these places of `source`, in this order, to `target`; `more` adds fields to them in turn."""
    path = Path(source).expanduser()
    added = set(more[0]) if more else set()
    data = WRITERS[path.suffix.lower()](path, places, more, added)
    write_atomic(Path(target).expanduser(), data)


def refuse_known(path: Path, added: set[str], fields: set[str]) -> None:
    if taken := sorted(added & fields):
        raise PlanError(f"{path.name} already has the field '{taken[0]}'; take the file it was made from, or rename the field")


def write_json(path: Path, places: Sequence[int], more: More | None, added: set[str]) -> str:
    """Return the file's text with fields added; each record keeps its text, and so does what surrounds the list."""
    text = read_text(path)
    begin = list_start(text)
    spans: list[str] = []
    at = blank(text, max(begin, 0))
    while text[at : at + 1] not in ("]", ""):
        if text[at] == ",":
            at = blank(text, at + 1)
        value, end = DECODER.raw_decode(text, at)
        refuse_known(path, added, set(value))
        spans.append(text[at:end])
        at = blank(text, end)
    records = [with_fields(spans[index], more[i] if more else {}) for i, index in enumerate(places)]
    if begin < 0:
        return "".join(record + "\n" for record in records)
    return text[:begin] + "\n" + ",\n".join(records) + "\n" + text[at:]


def list_start(text: str) -> int:
    """Return the place after the `[` of the list of records, which may be an object's `data`; -1: one object after another."""
    at = blank(text, 0)
    if text[at] == "[":
        return at + 1
    while True:  # a key and its value, until the key is `data`
        at = blank(text, at + 1)
        if text[at] == "}":
            return -1
        key, at = DECODER.raw_decode(text, at)
        at = blank(text, blank(text, at) + 1)  # past the colon
        if key == "data" and text[at] == "[":
            return at + 1
        at = blank(text, DECODER.raw_decode(text, at)[1])
        if text[at] == "}":
            return -1


def blank(text: str, at: int) -> int:
    """Return the first place from here on that holds no white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def with_fields(record: str, fields: Mapping[str, Any]) -> str:
    """Return the text of a JSON object with more fields at its end."""
    if not fields:
        return record
    return record.rstrip()[:-1].rstrip() + ", " + json.dumps(fields, ensure_ascii=False)[1:]


def write_jsonl(path: Path, places: Sequence[int], more: More | None, added: set[str]) -> str:
    lines = [line.rstrip("\r") for line in read_text(path).split("\n") if line.strip()]
    for line in lines if added else []:
        refuse_known(path, added, set(parse(line)))
    return "".join(with_fields(lines[index], more[i] if more else {}) + "\n" for i, index in enumerate(places))


def write_csv(path: Path, places: Sequence[int], more: More | None, new_fields: set[str]) -> str:
    """Return the file's text with columns added at the end; each row keeps its lines, quoting included."""
    lines = list(io.StringIO(read_text(path), newline=""))
    delimiter = delimiter_of(lines[0], path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = []
    begin = 0
    for cells in reader:
        if cells:  # a blank line is no row
            rows.append((cells, "".join(lines[begin : reader.line_num])))
        begin = reader.line_num
    refuse_known(path, new_fields, set(rows[0][0]))

    def extended(index: int, cells: Sequence[Any]) -> str:
        text, row = rows[index]
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, lineterminator="").writerow(cells)
        body = row.rstrip("\r\n")
        # A short row is filled up first, or what is added would stand in the columns that it leaves out.
        added = delimiter * (len(rows[0][0]) - len(text) + 1) + out.getvalue() if cells else ""
        return body + added + (row[len(body) :] or end)

    end = rows[0][1][len(rows[0][1].rstrip("\r\n")) :] or "\n"
    header = extended(0, list(more[0]) if more else [])
    return header + "".join(extended(1 + p, list(more[i].values()) if more else []) for i, p in enumerate(places))


def write_parquet(path: Path, places: Sequence[int], more: More | None, added: set[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(path)
    refuse_known(path, added, set(table.column_names))
    table = table.take(pyarrow.array(list(places), pyarrow.int64()))
    for name in more[0] if more else ():
        table = table.append_column(name, pyarrow.array([fields[name] for fields in more or ()]))
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


WRITERS: dict[str, Callable[[Path, Sequence[int], More | None, set[str]], str | bytes]] = {
    ".json": write_json, ".jsonl": write_jsonl, ".ndjson": write_jsonl, ".csv": write_csv, ".tsv": write_csv,
    ".parquet": write_parquet,
}  # fmt: skip
"""File ending -> writer."""
