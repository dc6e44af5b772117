"""What `lethe data` writes reads back equal but for what was asked, in every form that files have."""

from __future__ import annotations

import codecs
import json
import random
from pathlib import Path

import pytest

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
