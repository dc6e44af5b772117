"""The long suite: needles and look-ups in two steps, as long as the tokenizer and the context say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.tasks.suites import load_suite
from harness.text.rules import broken, parse_rules
from suites.long.build import FOLDER, LENGTHS, rows
from suites.long.diary import diary


def words(text: str) -> int:
    return len(text.split())


def test_lengths_are_cut_to_the_context() -> None:
    tasks = {task.name: task for task in load_suite("long", count=words, context=4096)}
    assert {task.items for task in tasks.values()} == {24}
    for task in tasks.values():
        assert "16 items of 8,192, 16,384 tokens are left out: the model's context is 4,096" in task.note
        for doc in task.task.docs:
            wanted = doc["fill"]["tokens"]
            assert wanted - 400 < words(doc["prompt"]) < wanted - 60
            assert all(fact in doc["prompt"] for _, fact in doc["fill"]["facts"])
    with pytest.raises(PlanError, match="no item of needle can be asked"):
        load_suite("long", count=words, context=512)


def test_facts_stand_where_they_are_said_to() -> None:
    (task,) = [task for task in load_suite("long", count=words, context=2048) if task.name == "two_hops_rules"]
    for doc in task.task.docs:
        for depth, fact in doc["fill"]["facts"]:
            assert abs(doc["prompt"].index(fact) / len(doc["prompt"]) - depth) < 0.2


def test_only_the_right_number_is_right() -> None:
    row = rows("needle")[0]
    right = re.findall(r"\d{4}", str(row["required"]))[0]
    rules = parse_rules([{"required": row["required"]}])
    assert broken(rules, f"The code is {right}.") == []
    assert broken(rules, f"代码是{right}。") == []
    for wrong in (f"It is {right}7.", "It is 1111.", "", f"{right[:3]}"):
        assert broken(rules, wrong)


def test_the_files_are_what_the_builder_writes() -> None:
    assert (FOLDER / "diary.txt").read_text(encoding="utf-8") == diary()
    assert not re.search(r"\d", diary()), "no number but the facts'"
    for kind in ("needle", "two_hops"):
        lines = (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == rows(kind)
    assert (LENGTHS[0], LENGTHS[-1]) == (1024, 16384)


def test_faults_of_own_fillers(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"question": "Who?", "answer": "Bo", "fill": {"tokens": 300, "facts": [[2, "Bo."]]}}))
    with pytest.raises(PlanError, match="'fill' is not"):
        load_suite(str(path))
    path.write_text(json.dumps({"question": "Who?", "answer": "Bo", "fill": {"tokens": 300, "facts": [[0.5, "Bo."]]}}))
    with pytest.raises(PlanError, match="name it in the sidecar"):
        load_suite(str(path))
    (tmp_path / "own.toml").write_text('filler = "text.txt"')
    with pytest.raises(PlanError, match="does not exist"):
        load_suite(str(path))
    (tmp_path / "text.txt").write_text("One two.\n\nThree four.")
    with pytest.raises(PlanError, match="lengthen it"):
        load_suite(str(path), count=words)
