"""`lethe data`: what it finds, and that files keep every byte of what they keep."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.commands.cli import main
from harness.commands.data import DataFile, contradictions
from harness.files.records import read_records
from harness.files.writers import rewrite
from tests.support.training import make_run

TALE = "the quick brown fox jumps over the lazy dog while seven small birds watch from an old oak tree near our river"
ROWS = [
    {"prompt": f"Tell: {TALE} today", "completion": "Yes, 1.50 \u00e9\u4e2d", "note": 1.10},
    {"prompt": "What is two and two?", "completion": "four"},
    {"prompt": f"Say: {TALE} today", "completion": "Yes, 1.50 \u00e9\u4e2d"},
    {"prompt": "what is  two and two", "completion": "five"},
    {"prompt": "What is two and two?", "completion": "four"},
    {"prompt": "Name a colour, please.", "completion": 'red, "or"\nso'},
]
KEPT = [0, 1, 3, 5]
RAW = [
    '{"prompt": "Tell: TALE today", "completion": "Yes, 1.50 \\u00e9\u4e2d", "note": 1.10}'.replace("TALE", TALE),
    '{ "completion":"four","prompt":"What is two and two?" }',
    json.dumps(ROWS[2]),
    json.dumps(ROWS[3], indent=2),
    '{ "completion":"four","prompt":"What is two and two?" }',
    json.dumps(ROWS[5]),
]
"""The same records as text, in the many ways that JSON allows."""


def write(folder, form: str) -> str:
    path = folder / f"data.{form}"
    if form == "json":
        path.write_text('{"about": [1, {"data": 2}], "data": [' + " ,\n\n".join(RAW) + '], "end": null}', encoding="utf-8")
    elif form == "jsonl":
        path.write_text("\n\n".join(line.replace("\n", " ") for line in RAW), encoding="utf-8")
    elif form == "csv":
        frame = pd.DataFrame(ROWS)
        path.write_bytes(frame.to_csv(index=False, lineterminator="\r\n").encode())
    else:
        pd.DataFrame(ROWS).to_parquet(path)
    return str(path)


def parts(path: str, form: str) -> list[str]:
    """The text of each record, as it stands in the file."""
    text = Path(path).read_bytes().decode() if form != "parquet" else ""
    if form == "json":
        return [raw for raw in dict.fromkeys(RAW) for _ in range(text.count(raw))]
    if form == "jsonl":
        return [line for line in text.split("\n") if line]
    if form == "csv":
        return [repr(row) for row in list(csv.reader(io.StringIO(text, newline="")))[1:]]
    return [repr(row) for row in pd.read_parquet(path).astype(object).where(pd.notna, None).to_dict("records")]


FORMS = ["json", "jsonl", "csv", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_dedup_keeps_every_byte_of_what_it_keeps_and_names_the_rest(form, tmp_path, tiny_path, capsys):
    source, target = write(tmp_path, form), str(tmp_path / f"out.{form}")
    assert main(["data", "dedup", source, target, "--model", tiny_path]) == 0
    before, after = parts(source, form), parts(target, form)
    wanted = [before[i] for i in KEPT] if form != "json" else [RAW[i] for i in KEPT]
    assert sorted(after) == sorted(wanted)
    assert [r.id for r in read_records(target)] == [read_records(source)[i].id for i in KEPT]
    said = capsys.readouterr().out
    assert f"data.{form} record 3" in said and f"repeats data.{form} record 1" in said
    assert "4 of 6 records; 2 left out" in said


def test_what_stands_around_the_list_stays(tmp_path, tiny_path):
    source, target = write(tmp_path, "json"), tmp_path / "out.json"
    rewrite(source, str(target), [5, 0])
    assert target.read_text(encoding="utf-8") == (
        '{"about": [1, {"data": 2}], "data": [\n' + RAW[5] + ",\n" + RAW[0] + '\n], "end": null}'
    )


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_added_and_nothing_else_changes(form, tmp_path, tiny_path):
    source, target = write(tmp_path, form), str(tmp_path / f"out.{form}")
    assert main(["data", "score", source, target, "--model", tiny_path]) == 0
    assert [r.id for r in read_records(target)] == [r.id for r in read_records(source)]
    rows = {"json": lambda t: json.loads(t)["data"], "jsonl": lambda t: [json.loads(line) for line in t.splitlines()]}
    if form in rows:
        found = rows[form](Path(target).read_text(encoding="utf-8"))
        assert all(row[key] == value for row, old in zip(found, ROWS, strict=True) for key, value in old.items())
    else:
        found = (pd.read_csv if form == "csv" else pd.read_parquet)(target).to_dict("records")
    loss = DataFile(source, tiny_path).reading.loss
    assert [row["lethe_loss"] for row in found] == pytest.approx(loss.tolist(), abs=1e-5)
    assert main(["data", "score", target, str(tmp_path / f"again.{form}"), "--model", tiny_path]) == 2


@pytest.mark.parametrize("order", ["easy", "hard", "mixed"])
def test_sort_loses_nothing_and_orders_by_the_base(order, tmp_path, tiny_path):
    source, target = write(tmp_path, "jsonl"), str(tmp_path / "out.jsonl")
    assert main(["data", "sort", source, target, "--model", tiny_path, "--order", order]) == 0
    assert sorted(parts(source, "jsonl")) == sorted(parts(target, "jsonl"))
    loss = DataFile(target, tiny_path).reading.loss.tolist()
    if order != "mixed":
        assert loss == sorted(loss, reverse=order == "hard")


def test_tool_and_methods_agree(tmp_path, base, tiny_path):
    """One implementation: what the file loses is what training leaves out, and its scores are training's."""
    file = DataFile(write(tmp_path, "jsonl"), tiny_path)
    run = make_run(base, "dedup")
    kept = run.methods[0].records(file.template.encode_all(file.records, max_length=256), run)
    assert [e.id for e in kept] == [file.records[i].id for i in KEPT]
    assert set(range(6)) - set(file.repeats(0.85)) == set(KEPT)
    by_id = dict(zip((r.id for r in file.records), file.reading.loss.tolist(), strict=True))
    found = run.difficulty(run.load(), kept, "loss")
    assert found.tolist() == pytest.approx([by_id[e.id] for e in kept], abs=1e-4)
    assert torch.allclose(run.difficulty(run.load(), file.examples, "similarity"), -distinct(file), atol=1e-2)


def distinct(file: DataFile) -> torch.Tensor:
    """Similarities over the different contents only: z-scores are over what is read."""
    from harness.decoding.difficulty import Reading

    first = {record.id: place for place, record in reversed(list(enumerate(file.records)))}
    return Reading([file.reading.tokens[first[e.id]] for e in file.examples]).similarity


def test_contradictions_are_found_by_meaning_and_not_by_spelling(tmp_path):
    groups = contradictions(read_records(write(tmp_path, "jsonl")))
    assert [[r.messages[-1].content for r in group] for group in groups] == [["four", "five"]]
    near = [
        {"prompt": f"Tell: {TALE} {end}", "completion": answer}
        for end, answer in (("today", "Yes."), ("now", "no"), ("so", "yes"))
    ]
    (tmp_path / "near.json").write_text(json.dumps(near))
    assert len(contradictions(read_records(str(tmp_path / "near.json")))[0]) == 3
    (tmp_path / "near.json").write_text(json.dumps([near[0], near[2]]))
    assert contradictions(read_records(str(tmp_path / "near.json"))) == []


def test_inspect_says_all_that_it_should(tmp_path, tiny_path, capsys):
    assert main(["data", "inspect", write(tmp_path, "jsonl"), "--model", tiny_path, "--limit", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 records" in said and "1 exact copies, 1 near-duplicates of earlier ones" in said
    assert "1 questions, or nearly the same ones" in said and "and 1 more; --limit shows them" in said
    assert "token loss, nats" in said and "1.45 to 6.6" in said


@pytest.mark.parametrize(
    "source, target, cure",
    [
        ("data.jsonl", "out.csv", "give it the same ending"),
        ("data.jsonl", "data.jsonl", "give another name"),
        ("some/hub-name", "out.jsonl", "download the data set"),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_cure(source, target, cure, tmp_path, tiny_path, capsys):
    write(tmp_path, "jsonl")
    where = str(tmp_path / source) if "/" not in source else source
    assert main(["data", "dedup", where, str(tmp_path / target), "--model", tiny_path]) == 2
    assert cure in capsys.readouterr().err


def test_a_threshold_below_what_is_indexed_is_refused(tmp_path, tiny_path):
    arguments = [write(tmp_path, "jsonl"), str(tmp_path / "out.jsonl"), "--model", tiny_path, "--threshold", "0.5"]
    assert main(["data", "dedup", *arguments]) == 2
