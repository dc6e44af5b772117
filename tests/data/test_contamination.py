"""Suite items in the training data: found by n-grams, excluded or counted."""

from __future__ import annotations

import json

import pytest

from harness.commands.compare import prepare
from harness.data.contamination import Index, contaminated, grams, search
from harness.errors import PlanError
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.plan.load import make_plan
from harness.setup.suite_tasks import load_tasks
from harness.tasks.suites import load_suite

LONG = "a company bought a machine for nine thousand dollars and sold it two years later at half of that price {}"


def flagged(questions, texts):
    return contaminated(questions, Index(questions).in_texts(texts))


def record(question, answer="yes"):
    turns = (Turn("user", question), Turn("assistant", answer))
    return Record(record_id(turns), turns, "test")


def test_the_rule_is_seventy_percent_of_eight_grams():
    words = [f"w{i}" for i in range(17)]  # ten 8-grams
    question = " ".join(words)
    assert len(grams(words)) == 10
    assert flagged([question], [" ".join(words[:14])]) == [0]  # seven of them
    assert flagged([question], [" ".join(words[:13])]) == []  # six
    assert flagged([question], [" ".join(words[:9]), " ".join(words[5:17])]) == [0]  # from two texts: two and five


def test_case_and_punctuation_do_not_count():
    assert flagged([LONG.format("today")], [LONG.format("today!").upper().replace(" a ", ", a ")]) == [0]


def test_short_questions_must_be_a_whole_turn():
    assert flagged(["Say's Law"], ["say's law!"]) == [0]
    assert flagged(["Say's Law"], ["Explain Say's Law in a few words."]) == []


def test_chinese_is_read_by_characters():
    assert flagged(["下列关于或有事项的表述中正确的是"], ["请回答：下列关于或有事项的表述中，正确的是？"]) == [0]


def test_boilerplate_tells_nothing():
    told = "consider whether the headline mentions the price of gold and answer yes or no: {}"
    questions = [told.format(f"item{i} item{i + 1} item{i + 2}") for i in range(40)]
    assert flagged(questions, [told.format("something else entirely")]) == []
    assert flagged(questions, [questions[3]]) == [3]


@pytest.fixture
def suite(tmp_path):
    rows = [{"question": LONG.format(f"in case number {i} of the {i} books"), "answer": "yes"} for i in range(30)]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_seen_families_may_stand_in_the_pool(suite):
    (task,) = load_suite(str(suite / "cases.jsonl"))
    training = {
        "domain": [record(LONG.format("in case number 3 of the 3 books, they say"))],
        "general": [record(task.task.docs[5]["prompt"])],
    }
    (held_out,) = search([task], training)
    assert (held_out.places, held_out.excluded) == ({"domain": (3,), "general": (5,)}, (3, 5))
    (suite / "cases.toml").write_text("seen = true")
    (seen,) = search(load_suite(str(suite / "cases.jsonl")), training)
    assert seen.excluded == (3,)
    assert "1 in the domain data and 1 in the general data" in seen.note
    assert search([task], training, exclude=False)[0].excluded == ()
    assert search([task], {"domain": [record("nothing of the kind")]}) == []


def test_a_plan_leaves_them_out_and_says_so(suite, tiny_path):
    domain = [{"instruction": f"Grade item {i}", "output": "buy" if i % 2 else "sell"} for i in range(200)]
    planted = [
        {"instruction": "Well: " + LONG.format(f"in case number {i} of the {i} books"), "output": "x"} for i in range(60)
    ]
    (suite / "domain.json").write_text(json.dumps(domain + planted))
    fixed = {"data": str(suite / "domain.json"), "model": tiny_path, "suites": str(suite / "cases.jsonl"), "max_length": 128}
    asked = {**fixed, "recipes": "sft", "out": str(suite / "out")}
    material, evaluation, _ = prepare(make_plan(asked))
    (found,) = material.contaminated
    assert 10 <= len(found.excluded) < 30
    assert {s["name"]: s["items"] for s in evaluation.summary}[fixed["suites"]] == 30 - len(found.excluded)
    (cases,) = [task for task in load_tasks(material) if task.group == "general"]  # as a run's own process has them
    assert len(cases.task.eval_docs) == cases.items == 30 - len(found.excluded)
    assert any(note.startswith("cases: of 30 items") for note in material.notes)
    kept, evaluation, _ = prepare(make_plan({**asked, "contamination": "keep"}))
    assert kept.contaminated[0].places == found.places and not kept.contaminated[0].excluded
    assert {s["name"]: s["items"] for s in evaluation.summary}[fixed["suites"]] == 30
    with pytest.raises(PlanError, match="exclude or keep, not 'drop'"):
        make_plan({**asked, "contamination": "drop"})
