"""What `lethe data` writes reads back equal but for what was asked, in every form that files have."""

from __future__ import annotations

import codecs
import json
import random
from pathlib import Path

import pytest

from harness.files.formats import READERS
from harness.files.records import read_records
from harness.files.writers import rewrite

ROWS = [
    {"instruction": f'Say "{i}", é; then\t{i}', "output": f"{i},\n5", "input": "" if i % 3 else f"in {i}"} for i in range(9)
]


def csv_text(delimiter: str, end: str, short: bool) -> str:
    lines = [delimiter.join(("instruction", "output", "input"))]
    for row in ROWS:
        cells = [row["instruction"], row["output"], row["input"]]
        cells = cells[:2] if short and not cells[2] else cells
        lines.append(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells))
    return end.join(lines)


OBJECTS = [json.dumps(row, ensure_ascii=False) for row in ROWS]
FILES = {
    "list.json": "[" + ", ".join(OBJECTS) + "]",
    "wrapped.json": '{"version": "1", "data": [' + ",\n".join(OBJECTS) + '], "end": {}}',
    "lines.json": "\n".join(OBJECTS),
    "d.jsonl": "\n\n".join(OBJECTS),
    "cr.jsonl": "\r\n".join(OBJECTS) + "\r\n",
    "d.ndjson": "\n".join(OBJECTS) + "\n",
} | {
    f"{number}{'s' if short else ''}.csv": csv_text(delimiter, end, short)
    for number, (delimiter, end) in enumerate([(",", "\n"), (";", "\r\n"), ("\t", "\r"), (",", "\r")])
    for short in (False, True)
}


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "bom"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_written_reads_back_equal(name, mark, tmp_path):
    source, target, scored = tmp_path / name, tmp_path / f"out-{name}", tmp_path / f"scored-{name}"
    source.write_bytes(mark + FILES[name].encode())
    before = read_records(str(source))
    places = random.Random(name).sample(range(len(ROWS)), 6)
    rewrite(str(source), str(target), places)
    assert [record.messages for record in read_records(str(target))] == [before[place].messages for place in places]
    more = [{"lethe_loss": place + 0.5, "lethe_flag": "hard" if place % 2 else ""} for place in places]
    rewrite(str(source), str(scored), places, more)
    notes: list[str] = []
    again = read_records(str(scored), notes=notes)
    assert [record.messages for record in again] == [before[place].messages for place in places]
    assert len(notes) == 1 and "lethe_loss (6 records)" in notes[0] and "input" not in notes[0]


def test_a_short_row_keeps_its_gap(tmp_path):
    (tmp_path / "d.csv").write_text("prompt,completion,note\na,b\nc,d,e\n")
    rewrite(str(tmp_path / "d.csv"), str(Path(tmp_path / "o.csv")), [0, 1], [{"lethe_loss": 1.5}, {"lethe_loss": 2.5}])
    assert (tmp_path / "o.csv").read_text() == "prompt,completion,note,lethe_loss\na,b,,1.5\nc,d,e,2.5\n"


ENDS = ("\n", "\r\n", "\r")
WORDS = (
    "a",
    "é",
    "x y",
    " lead",
    "trail ",
    "two\nlines",
    "two\r\nlines",
    'say "so"',
    "1,5",
    "a;b",
    "a\tb",
    "{}",
    "[1]",
    "\u2028",
    "=1+1",
    "",
)


def any_cell(rng: random.Random, delimiter: str) -> str:
    text = rng.choice(WORDS)
    if rng.random() < 0.5 or any(letter in text for letter in f'{delimiter}"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def any_csv(rng: random.Random, suffix: str) -> str:
    """A table as other programs may write it: short rows, blank lines, quoting here and there, no end at the end."""
    delimiter = "\t" if suffix == "tsv" else rng.choice(",;\t")
    end = rng.choice(ENDS)
    fields = ["prompt", "completion", *(f"more {number}" for number in range(rng.randrange(3)))]
    lines = [delimiter.join(fields)]
    for number in range(rng.randrange(1, 6)):
        cells = [f"q{number}", f'"a{number}, b"', *(any_cell(rng, delimiter) for _ in fields[2:])]
        lines.append(delimiter.join(cells[: rng.randrange(2, len(cells) + 1)]))
        if rng.random() < 0.2:
            lines.append("")
    return end.join(lines) + rng.choice(("", end, end + end))


def any_objects(rng: random.Random) -> list[str]:
    """Records as JSON of every spacing, with fields that nobody reads."""
    records = []
    for number in range(rng.randrange(1, 6)):
        record: dict = {"prompt": f"q{number} {rng.choice(WORDS)}", "completion": f"a{number}"}
        for extra in range(rng.randrange(3)):
            record[f"more {extra}"] = rng.choice([None, 1.50, -0.0, [], {}, {"data": [1]}, "]", "}, {", rng.choice(WORDS)])
        text = json.dumps(record, ensure_ascii=rng.random() < 0.5, separators=rng.choice([(",", ":"), (" ,\t", " : ")]))
        records.append(text)
    return records


def any_file(rng: random.Random) -> tuple[str, bytes]:
    """(ending, content) of a data file in any form that can be rewritten."""
    suffix = rng.choice(("csv", "tsv", "json", "jsonl", "ndjson"))
    if suffix in ("csv", "tsv"):
        text = any_csv(rng, suffix)
    elif suffix == "json":
        blank = rng.choice(("", " ", "\n", "\r\n\t"))
        joined = f"{blank},{blank}".join(any_objects(rng))
        text = rng.choice(
            ("[{}]", '{{"version": [1, "]"], "data": [{}]}}', ' {{"data" :[{}] , "more": {{"data": []}}}} ')
        ).format(joined)
    else:
        text = rng.choice(("\n", "\r\n", "\n\n", "\n  \n")).join(any_objects(rng)) + rng.choice(("", "\n"))
    encoding = rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le"))
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    return suffix, mark + text.encode(encoding)


@pytest.mark.parametrize("seed", range(6))
def test_any_file_that_can_be_read_can_be_written_again(seed, tmp_path):
    """Whatever its form: what is written reads back equal but for the order and the fields that were asked for."""
    rng = random.Random(seed)
    for number in range(60):
        suffix, content = any_file(rng)
        source, target, again = (tmp_path / f"{name}-{number}.{suffix}" for name in ("in", "out", "same"))
        source.write_bytes(content)
        before = read_records(str(source))
        places = rng.sample(range(len(before)), rng.randrange(1, len(before) + 1))
        more = [{"lethe_loss": place + 0.5, "lethe_flag": rng.choice(("", "wrong"))} for place in places]
        rewrite(str(source), str(target), places, more)
        notes: list[str] = []
        after = read_records(str(target), notes=notes)
        assert [record.messages for record in after] == [before[place].messages for place in places], content
        assert f"lethe_loss ({len(places)}" in notes[0], (content, notes)

        # Without what was added it is the file as it was: every field, read or not.
        rewrite(str(source), str(again), list(range(len(before))))
        assert fields_of(again, suffix) == fields_of(source, suffix), content


def fields_of(path: Path, suffix: str) -> list[dict]:
    """All fields of a file's records, as the reader has them before it asks what they mean."""
    faults: list[str] = []
    rows = [dict(row) for _, row in READERS[f".{suffix}"](path, faults, set())]
    assert not faults
    return rows
