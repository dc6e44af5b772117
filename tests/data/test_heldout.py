"""Test files: several for one domain, and items asked as the same file is under SUITES."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.split import load_dataset
from harness.errors import PlanError
from harness.plan.plan import Plan
from harness.tasks.domain import stage_tasks
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate
from tests.data.test_data import rows

CHOICE = [{"question": f"Which is {i}?", "choices": [f"red {i}", f"blue {i}"], "answer": "AB"[i % 2]} for i in range(25)]
MEDQA = [{"question": f"What is {i}?", "options": {"A": "x", "B": "y"}, "answer_idx": "B", "answer": "y"} for i in range(25)]
CHAT = [{"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": str(i)}]} for i in range(25)]


def save(folder: Path, name: str, lines: list[dict]) -> str:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / name)


@pytest.fixture
def asked(tmp_path, base):
    """The domain's tasks by name, for these test files."""
    data = save(tmp_path, "data.jsonl", rows(60))

    def tasks(*files: str, metric: str | None = None):
        dataset = load_dataset(data, test="+".join(files))
        return {task.name: task for task in stage_tasks(dataset, ChatTemplate(base.tokenizer), metric)}

    return tasks


@pytest.mark.parametrize("lines", [CHOICE, MEDQA], ids=["choices", "options"])
def test_choices_are_scored_as_under_suites(lines, asked, tmp_path):
    path = save(tmp_path, "t.jsonl", lines)
    (task,) = asked(path).values()
    (suite,) = load_suite(path)
    assert (task.group, task.channel, task.metric, task.chance) == ("domain", "choice", "acc", None)
    assert (suite.channel, suite.metric) == ("choice", "acc")
    same = ("prompt", "choices", "answer")
    assert [[doc[key] for key in same] for doc in task.task.docs] == [[doc[key] for key in same] for doc in suite.task.docs]


def test_generated_letters_may_be_asked_for(asked, tmp_path):
    (task,) = asked(save(tmp_path, "t.jsonl", CHOICE), metric="choice").values()
    assert (task.channel, task.metric) == ("generation", "letter")


def test_several_files_are_tasks_of_one_domain(asked, tmp_path):
    files = [save(tmp_path, "mc.jsonl", CHOICE), save(tmp_path, "chat.jsonl", CHAT)]
    tasks = asked(*files)
    assert {name: (task.group, task.items) for name, task in tasks.items()} == {
        "data_mc": ("domain", 25),
        "data_chat_numeric": ("domain", 25),
    }


def test_every_type_of_item_can_be_a_test(asked, tmp_path):
    lines = [
        {"question": "", "choices": ["He runs.", "He run."], "answer": "A", "type": "pair"},
        {"question": "How heavy?", "answer": "2 kg", "type": "numeric", "unit": "kg"},
        {"question": "Name one.", "answer": ["Bob", "Rob"], "type": "exact"},
        {"question": "hello", "required": "hi"},
        {"text": "Some words.", "type": "text"},
    ]
    found = asked(save(tmp_path, "t.jsonl", lines))
    assert {task.metric for task in found.values()} == {"acc", "numeric", "exact_match", "compliance", "bits_per_byte"}
    assert all(task.group == "domain" for task in found.values())


def test_what_a_test_of_items_asks_is_not_trained(tmp_path):
    lines = [{"question": row["prompt"], "options": ["yes", "no"], "answer": "A"} for row in rows(25, "t")]
    data = save(tmp_path, "data.jsonl", [*rows(60), *lines])
    dataset = load_dataset(data, test=save(tmp_path, "t.jsonl", lines))
    assert len(dataset.train) + len(dataset.dev) == 60
    assert any("25 records also stand in t.jsonl" in note for note in dataset.notes)


def test_faults_of_all_test_files_come_together(tmp_path):
    data = save(tmp_path, "data.jsonl", rows(60))
    bad = save(tmp_path, "bad.jsonl", [CHOICE[0] | {"answer": "Z"}])
    with pytest.raises(PlanError) as caught:
        load_dataset(data, test=f"{bad}+{tmp_path / 'none.jsonl'}")
    assert "bad.jsonl record 1" in caught.value.faults[0] and "does not exist" in caught.value.faults[1]
    (tmp_path / "other").mkdir()
    with pytest.raises(PlanError, match="two files called t"):
        load_dataset(data, test="+".join([save(tmp_path, "t.jsonl", CHAT), save(tmp_path / "other", "t.jsonl", CHAT)]))


def test_every_test_file_is_looked_for_before_anything_loads():
    plan = Plan(data="a.json,b.json", test="t.jsonl+u.jsonl,v.jsonl")
    assert plan.test_paths == ["t.jsonl", "u.jsonl", "v.jsonl"]


def test_a_plus_in_a_files_name_is_no_separator(tmp_path):
    data = save(tmp_path, "data.jsonl", rows(60))
    assert len(load_dataset(data, test=save(tmp_path, "a+b.jsonl", CHAT)).test) == 25
