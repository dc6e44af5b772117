"""Where rows come from: a file by its ending, or a hub data set. Read one after another, never all at once. No torch here."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from harness.doing import counted
from harness.errors import PlanError
from harness.fields.refusals import changes
from harness.fields.table import KNOWN
from harness.store.opening import PACKED, check_file, exists, opened, opened_text, suffix_of
from harness.text.json_reader import TOO_DEEP, JsonText, Repeated, Unreadable, parse

Rows = Iterator[tuple[str, Any]]
"""(where it stands, the row); the number counts from 1."""
Wanted = Collection[str] | None
"""The fields whose values are needed; None: all."""
NOT_DATA = {".md", ".xlsx", ".xls", ".zip", ".tar", ".arrow", ".feather", ".xml", ".yaml", ".yml", ".toml", ".pdf", ".bin"}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
NAMES_SHOWN = 8
LARGE = 5_000_000
"""Bytes of a file from which on reading it is worth a line of progress."""
BATCH = 1000
"""Rows of a parquet file that are converted at once."""


def read_rows(source: str, faults: list[str], wanted: Wanted = KNOWN) -> Rows:
    """Yield the rows of a file or hub data set, in order; faults of single rows are added to `faults`.

    Raises PlanError where the whole cannot be read. Columns of parquet that are not `wanted` are only said to be there.
    """
    path = Path(source).expanduser()
    suffix = suffix_of(path)
    if names_hub_data(source):
        yield from read_hub(source)
        return
    # In this order: is it there, is its form known, does it hold anything.
    check_file(path, source)
    if suffix not in READERS:
        packed = f", also packed ({', '.join(PACKED)})"
        raise PlanError(f"{source} ends in '{suffix}'; known endings are {', '.join(READERS)}{packed}: convert it or rename it")
    if path.stat().st_size == 0:
        raise PlanError(f"{path.name} is empty; give it at least one record")

    # A line of progress only where reading takes a while.
    rows = READERS[suffix](path, faults, wanted)
    large = path.stat().st_size > LARGE
    yield from counted(rows, f"reading {path.name}, records") if large else rows


def names_hub_data(source: str) -> bool:
    """Return whether a source is to be looked for on the hub: it is no file, and neither written nor ending like one."""
    # A typing error in a file's name must not be looked for on the hub.
    path = Path(source).expanduser()
    suffix = suffix_of(path)
    like_a_file = suffix in READERS or suffix in NOT_DATA
    return not exists(path) and not like_a_file and HUB_ID.fullmatch(source) is not None


def read_json(path: Path, faults: list[str], wanted: Wanted) -> Rows:
    """Yield a list of records, an object whose `data` is one, or one object after another."""
    with opened_text(path) as stream:
        text = JsonText(path.name, stream)
        for number, row in enumerate(_json_values(path, text), 1):
            yield f"{path.name} record {number}", row
        if text.peek():
            raise text.fault("extra data after the list of records", text.at)


def _json_values(path: Path, text: JsonText) -> Iterator[Any]:
    first = text.peek()
    if not first:
        raise PlanError(f"{path.name} is empty; give it at least one record")
    if first == "[":
        yield from text.values()
        return
    if first != "{":
        text.value()
        raise PlanError(f"{path.name} holds a single value; write a list of records, or an object whose 'data' is one")

    # An object: around the list of records, or a record itself with others after it.
    record: dict[str, Any] = {}
    is_object_list = False
    for key in text.fields():
        if key == "data" and text.peek() == "[":
            is_object_list = True
            yield from text.values()
        else:
            value = text.value()
            record = _joined(record, key, value)
    if is_object_list:
        return

    # One object that is no record: the user's mistake is named by the fields that it has.
    if not text.peek():
        names = ", ".join(list(record)[:NAMES_SHOWN]) or "nothing"
        raise PlanError(f"{path.name} holds an object with {names}; write a list of records, or an object whose 'data' is one")
    yield record
    while text.peek():
        yield text.value()


def _joined(record: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return the record with one more field; a key that it has is remembered as a fault."""
    if key in record and not isinstance(record, Repeated):
        record = Repeated(record)
        record.twice = key
    record[key] = value
    return record


def read_jsonl(path: Path, faults: list[str], wanted: Wanted) -> Rows:
    """Yield one JSON object a line; blank lines do not count."""
    record = 0
    with opened_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue

            # Records are counted, not lines, so that numbers agree with the report's.
            record += 1
            # The first line of a pretty-printed list; each further line would be a fault of its own.
            if record == 1 and line.strip() == "[":
                raise PlanError(f"{path.name} is a JSON list over many lines; rename it to .json")
            where = f"{path.name} record {record} (line {number})"
            try:
                yield where, parse(line)
            except ValueError as error:
                what, _, position = str(error).partition(": line ")
                column = f" at column {position.split()[2]}" if position else ""
                cure = "" if what == TOO_DEEP else "; write one JSON object a line"
                faults.append(f"{where}: {what}{column}{cure}")

    # A file of blank lines alone.
    if not record:
        raise PlanError(f"{path.name} is empty; give it at least one record")


def read_txt(path: Path, faults: list[str], wanted: Wanted) -> Rows:
    """Yield plain text: what stands between empty lines is one document."""
    number = 0
    with opened_text(path) as stream:
        for text in _paragraphs(stream):
            number += 1
            yield f"{path.name} text {number}", {"text": text}


def _paragraphs(lines: Iterator[str] | Any) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield _trimmed(held)
            held = []
    if held:
        yield _trimmed(held)


def _trimmed(lines: list[str]) -> str:
    """Return a document less the line end that it stands before."""
    return "".join(lines).removesuffix("\n")


def read_csv(path: Path, faults: list[str], wanted: Wanted) -> Rows:
    """Yield a header and one record a row; all cells are text, and an empty cell or NaN is a missing field."""
    csv.field_size_limit(sys.maxsize)
    with opened_text(path, newline="") as stream:
        first = stream.readline()
        reader = csv.reader(chain([first], stream), delimiter=delimiter_of(first, path), strict=True)
        try:
            header = next((row for row in reader if row), [])
            check_header(path, header)
            record = 0
            for cells in reader:
                if not cells:
                    continue
                record += 1
                where = f"{path.name} record {record}"
                # More cells than names: a comma in a cell that is not quoted.
                if len(cells) > len(header):
                    faults.append(f"{where} (line {reader.line_num}): has more cells than the header; quote cells with commas")
                    continue
                row = zip(header, cells, strict=False)
                yield where, {name: cell for name, cell in row if cell not in ("", "NaN", "nan")}
        except csv.Error as error:
            raise PlanError(f"{path.name} line {reader.line_num}: {error}; mend the quoting there") from None


def delimiter_of(header: str, path: Path) -> str:
    """Return what separates the cells of a csv file: what gives the header most known names, else most names; tabs in .tsv."""
    if suffix_of(path) == ".tsv":
        return "\t"

    def names(delimiter: str) -> tuple[int, int, bool]:
        cells = next(csv.reader(io.StringIO(header), delimiter=delimiter), [])
        # The comma wins a draw.
        return sum(cell.strip().casefold() in KNOWN for cell in cells), len(cells), delimiter == ","

    return max(",;\t|", key=names)


def check_header(path: Path, names: list[str]) -> None:
    """Refuse columns that stand twice: nobody knows which one is meant."""
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise PlanError(f"{path.name} has the column '{twice[0]}' twice; rename or drop one")


def read_parquet(path: Path, faults: list[str], wanted: Wanted) -> Rows:
    """Yield one record a row."""
    import pyarrow
    from pyarrow import parquet

    record = 0
    try:
        with opened(path) as stream:
            file = parquet.ParquetFile(stream if path.suffix.lower() == ".parquet" else io.BytesIO(stream.read()))
            names = list(file.schema_arrow.names)
            check_header(path, names)
            # A batch at a time: a file may be larger than the memory.
            for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
                columns = [_column(batch.column(index), name, wanted) for index, name in enumerate(names)]
                for cells in zip(*columns, strict=True):
                    record += 1
                    row = zip(names, cells, strict=True)
                    yield f"{path.name} record {record}", {name: cell for name, cell in row if cell is not None}
    except (pyarrow.ArrowException, OSError) as error:
        raise PlanError(f"{path.name} is not a whole parquet file ({first_line(error)}); write it again") from None


def _column(array: Any, name: str, wanted: Wanted) -> list[Any]:
    """Return a column's values; of one that nobody reads only whether there is a value."""
    # Columns that nobody reads are not converted: they may be the larger part of a file.
    if wanted is not None and name not in wanted and not changes(name) and not _nested(array.type):
        return [True if is_valid else None for is_valid in array.is_valid().to_pylist()]
    try:
        return array.to_pylist()
    except Exception:  # a single value that Python cannot have: bytes that are no text, a far date
        return [_cell(value) for value in array]


def _nested(kind: Any) -> bool:
    """Return whether a column may hold conversations: lists of lists or of objects."""
    from pyarrow import types

    listed = types.is_list(kind) or types.is_large_list(kind)
    return listed and types.is_nested(kind.value_type)


def _cell(value: Any) -> Any:
    try:
        return value.as_py()
    except Exception as error:
        return Unreadable(first_line(error))


def read_hub(source: str) -> Rows:
    """Yield the `train` split of a hub data set, `name` or `name:config`."""
    try:
        import datasets
    except ImportError:
        raise PlanError(f"{source} is no file, and hub data sets need `datasets`; run `pip install datasets`") from None
    name, _, config = source.partition(":")
    try:
        rows = iter(datasets.load_dataset(name, config or None, split="train"))
        for number, row in enumerate(rows, 1):
            yield f"{name} record {number}", row
    except Exception as error:  # offline, unknown, gated, no such split, a column that cannot be decoded: a dozen classes
        cure = "check the name, or download it where there is a network and name the file"
        raise PlanError(
            f"{source} is no file here, and the hub's train split of {name} could not be loaded "
            f"({type(error).__name__}: {first_line(error)}); {cure}"
        ) from None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]


READERS: dict[str, Callable[[Path, list[str], Wanted], Rows]] = {
    ".json": read_json, ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".tsv": read_csv,
    ".parquet": read_parquet, ".txt": read_txt,
}  # fmt: skip
"""File ending -> reader."""
