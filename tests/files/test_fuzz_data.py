"""Data files that nobody should have written: each is read, or refused in words; none is a traceback, and none hangs."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from harness.errors import PlanError
from harness.files.item_file import read_item_file
from harness.files.records import read_records

GOOD = {"instruction": "Add.", "input": "1 + 2", "output": "3"}
ODD_VALUES = [
    None, True, 0, -1.5, 1e400, float("nan"), 10**30, "", " ", "\0", "\ud800", "é" * 50, "[x]\x1b[31m", [], {}, ["a", 1],
    {"a": {"b": []}}, [["q"]], [["q", "a", "b"]], [[1, 2]], [{"role": "user"}], [{"role": 3, "content": "x"}],
    [{"from": "gpt", "value": None}], {"text": ["a"], "label": ["A", "B"]}, {"A": 1, "B": None}, '["a"', "[1, 2", '{"A": "x"',
    "9" * 5000,
]  # fmt: skip
NAMES = [
    "instruction", "input", "output", "messages", "conversations", "prompt", "completion", "question", "answer", "choices",
    "options", "text", "system", "history", "label", "weight", "type", "id", "\ud800", "[/red]", "", "tolerance", "required",
    "kwargs", "instruction_id_list", "schema", "bounds", "rewrites", "solution", "answer_idx", "subject", "tools",
    "images", "A", "B",
]  # fmt: skip


def outcome(path: Path) -> list[str]:
    """The faults of a file, as data and as a suite; anything but a PlanError gets through."""
    faults: list[str] = []
    for read in (read_records, lambda name: read_records(name, "both"), lambda name: read_item_file(Path(name))):
        try:
            read(str(path))
        except PlanError as error:
            faults += error.faults
    for fault in faults:
        fault.encode()  # can be printed
        assert "\x1b" not in fault
    return faults


VAST = [10**400, -(10**400), float("inf"), "9" * 5000, "1.5e" + "9" * 5000]
"""Numbers that no float and no place in a list can be."""


def test_no_field_that_holds_a_vast_number_ends_in_a_traceback(tmp_path):
    forms = [GOOD, {"question": "q", "answer": "B", "choices": ["a", "b"]}, {"question": "q", "answer": "3", "tolerance": 1}]
    for number, value in enumerate(VAST):
        rows = [form | {name: value} for form in forms for name in NAMES if name != "\ud800"]
        path = tmp_path / f"{number}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert outcome(path)


SEEDS = range(8)


def odd_row(draw: random.Random) -> Any:
    row: dict[str, Any] = dict(draw.choice([GOOD, {}, {"question": "q", "answer": "B"}, {"messages": []}]))
    for name in draw.sample(NAMES, draw.randint(0, 3)):
        row[name] = draw.choice(ODD_VALUES)
    return draw.choice([row, row, row, draw.choice(ODD_VALUES)])


def odd_bytes(draw: random.Random, whole: bytes) -> bytes:
    """A file cut off, with a byte changed, doubled or packed."""
    place = draw.randrange(len(whole) + 1)
    return draw.choice([
        whole, whole, whole[:place], whole[:place] + bytes([draw.randrange(256)]) + whole[place + 1 :], whole + whole,
        b"\xef\xbb\xbf" + whole, whole.decode(errors="replace").encode("utf-16"), whole.replace(b"\n", b"\r"),
        b"\0" * 3 + whole,
    ])  # fmt: skip


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: b"\x28\xb5\x2f\xfd" + data,
}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_file_is_a_traceback(seed, tmp_path):
    draw = random.Random(seed)
    for number in range(50):
        rows = [odd_row(draw) for _ in range(draw.randint(0, 4))]
        suffix = draw.choice([".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet"])
        lines = [json.dumps(row) for row in rows]
        whole = "\n".join(lines) if suffix != ".json" else "[" + ",".join(lines) + "]"
        if suffix in (".csv", ".tsv"):
            whole = "instruction;output\n" + "\n".join(str(row).replace("\n", " ") for row in rows)
        packed = draw.choice(list(PACKERS))
        data = PACKERS[packed](odd_bytes(draw, whole.encode(errors="surrogatepass")))
        path = tmp_path / f"d{number}{suffix}{packed}"
        path.write_bytes(odd_bytes(draw, data) if draw.random() < 0.3 else data)
        outcome(path)


def parquet_file(path: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_odd_columns_that_nobody_reads_are_no_matter(tmp_path):
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff\xfe"], pyarrow.binary()).buffers())
    path = parquet_file(
        tmp_path / "d.parquet",
        prompt=["a"],
        completion=["b"],
        notes=broken,
        date=pyarrow.array([2**62], pyarrow.timestamp("us", tz="Mars/Olympus")),
        day=pyarrow.array([2**30], pyarrow.date32()),
    )
    notes: list[str] = []
    assert len(read_records(str(path), notes=notes)) == 1
    assert notes == ["d.parquet: fields not read: notes (1 records), date (1), day (1)."]


def test_bytes_that_are_no_text_are_named(tmp_path):
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff\xfe"], pyarrow.binary()).buffers())
    (fault,) = outcome(parquet_file(tmp_path / "d.parquet", prompt=["a"], completion=broken))[:1]
    assert "'completion' is a value that cannot be read" in fault


def test_nesting_and_long_numbers_are_refused_in_words(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    for name, text in {
        "a.jsonl": f'{{"meta": {deep}}}\n',
        "b.json": f'[{{"meta": {deep}}}]',
        "c.json": f'{{"meta": {deep}}}\n{{"a": 1}}',
    }.items():
        (tmp_path / name).write_text(text)
        assert "nested too deeply" in outcome(tmp_path / name)[0]
    (tmp_path / "d.jsonl").write_text(json.dumps(GOOD)[:-1] + f', "far": {"9" * 5000}}}\n')
    assert len(read_records(str(tmp_path / "d.jsonl"))) == 1  # nobody reads it
    (tmp_path / "e.jsonl").write_text(f'{{"prompt": {"9" * 5000}, "completion": "x"}}\n')
    assert "a number of 5,000 digits" in outcome(tmp_path / "e.jsonl")[0]


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is a pipe or a device" in outcome(tmp_path / "pipe.jsonl")[0]
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    assert "is a pipe or a device" in outcome(tmp_path / "zero.json")[0]
    (tmp_path / "folder.json").mkdir()
    assert "is a folder" in outcome(tmp_path / "folder.json")[0]
    for path in (Path("x" * 300 + ".json"), Path("a\0b.json")):
        assert outcome(path)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PAR1", "parquet file"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
    ],
)
def test_other_files_are_told_by_their_beginning(start, words, tmp_path):
    for suffix in (".json", ".jsonl"):
        (tmp_path / f"d{suffix}").write_bytes(start)
        assert words in outcome(tmp_path / f"d{suffix}")[0]


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz"])
def test_packed_files_are_read_and_damaged_ones_refused(packed, tmp_path):
    data = PACKERS[packed]("".join(json.dumps(GOOD | {"input": str(i)}) + "\n" for i in range(500)).encode())
    path = tmp_path / f"d.jsonl{packed}"
    path.write_bytes(data)
    assert len(read_records(str(path))) == 500
    path.write_bytes(data[: len(data) // 2])
    assert "damaged or cut off" in outcome(path)[0]
    path.write_bytes(b"no archive at all")
    assert "is not packed" in outcome(path)[0]


def test_zstandard_is_read(tmp_path):
    text = "".join(json.dumps(GOOD | {"input": str(i)}) + "\n" for i in range(500))
    with pyarrow.output_stream(str(tmp_path / "d.jsonl.zst"), compression="zstd") as stream:
        stream.write(text.encode())
    assert len(read_records(str(tmp_path / "d.jsonl.zst"))) == 500
    data = (tmp_path / "d.jsonl.zst").read_bytes()
    (tmp_path / "d.jsonl.zst").write_bytes(data[: len(data) // 2])
    assert outcome(tmp_path / "d.jsonl.zst")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_read(encoding, tmp_path):
    row = GOOD | {"input": "é中"}
    for suffix, text in ((".jsonl", json.dumps(row, ensure_ascii=False)), (".csv", "instruction,input,output\nAdd.,é中,3\n")):
        (tmp_path / f"d{suffix}").write_bytes(text.encode(encoding))
        (record,) = read_records(str(tmp_path / f"d{suffix}"))
        assert record.messages[0].content == "Add.\né中"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_in_every_dialect(delimiter, end, tmp_path):
    rows = [["prompt", "completion"], ["a, b; c", "1,5"], ["d", '"e"']]
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    (tmp_path / "d.csv").write_bytes((end.join(lines) + end).encode())
    records = read_records(str(tmp_path / "d.csv"))
    assert [[turn.content for turn in record.messages] for record in records] == [["a, b; c", "1,5"], ["d", '"e"']]
