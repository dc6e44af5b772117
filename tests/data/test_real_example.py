"""examples/finance-smollm2: the README names every file by its hash, plans are plans, and no test is trained."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from harness.bundled import ROOT
from harness.plan.load import make_plan

FOLDER = ROOT / "examples" / "finance-smollm2"


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def words(row: dict) -> str:
    """What a row is about, without the wording of its task: case and marks set aside."""
    text = row.get("input") or row.get("context") or row.get("question") or " ".join(row.get("choices", []))
    return " ".join(re.findall(r"\w+", text.casefold()))


def test_the_readme_names_every_file_with_its_records_and_hash():
    table = re.findall(r"^\| `(\S+\.jsonl)` \| ([\d,]+) \|.*`([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text(), re.M)
    told = {name: (int(count.replace(",", "")), digest) for name, count, digest in table}
    files = list(FOLDER.rglob("*.jsonl"))
    actual = {}
    for path in files:
        content = path.read_bytes()
        actual[path.relative_to(FOLDER).as_posix()] = (content.count(b"\n"), hashlib.sha256(content).hexdigest())
    assert told == actual


@pytest.mark.parametrize("asked", ["data/test.jsonl", "data/glossary.jsonl", "suite/clinc150.jsonl"])
def test_what_is_asked_is_not_trained(asked):
    trained = {words(row) for name in ("data/train.jsonl", "data/general.jsonl") for row in rows_of(name)}
    trained.discard("")
    repeated = [row for row in rows_of(asked) if words(row) in trained]
    assert not repeated


def test_no_dev_record_is_trained():
    trained = {(row["instruction"], row["input"]) for row in rows_of("data/train.jsonl")}
    assert not trained & {(row["instruction"], row["input"]) for row in rows_of("data/dev.jsonl")}


@pytest.mark.parametrize("name", ["plan.toml", "rates.toml"])
def test_the_plans_are_plans(name, tiny_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = make_plan({"model": tiny_path}, str(FOLDER / name))
    assert Path(plan.data).exists()
    assert plan.final_only
