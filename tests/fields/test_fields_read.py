"""Fields that change what a record means and that are read, in DATA and SUITES alike."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from harness.fields.table import LETTERS
from harness.files.item_file import read_item_file
from harness.files.records import read_record, read_records
from harness.tokens.chat_template import ChatTemplate
from tests.support.field_files import ALPACA, CHAT, data_faults, read, said, save, suite_faults

SQUAD = {"question": "Who?", "context": "Ann did.", "answers": {"text": ["Ann", "Ann"], "answer_start": [0, 0]}}


@pytest.mark.parametrize("answers", [SQUAD["answers"], json.dumps(SQUAD["answers"]), ["Ann"], '["Ann"]'])
def test_squads_answers_are_read_in_data_and_suites(tmp_path, answers):
    row = SQUAD | {"answers": answers}
    (one,) = read(tmp_path, row)
    assert said(one) == [("user", "Who?\nAnn did."), ("assistant", "Ann")]
    several = row | {"answers": {"text": ["Ann", "Ann B."]}}
    items = read_item_file(save(tmp_path, row, several))
    assert [doc["targets"] for docs in items.kinds.values() for doc in docs] == [["Ann"], ["Ann", "Ann B."]]


@pytest.mark.parametrize(
    "answers, fault",
    [({"text": ["a", "b"]}, "2 different texts"), ([], "no answer"), ({"text": []}, "no answer"), ([1], "list of texts")],
)
def test_squads_answers_that_cannot_be_trained_are_refused_by_name(answers, fault):
    (text,) = data_faults(SQUAD | {"answers": answers})
    assert fault in text and "'answers'" in text


@pytest.mark.parametrize("name", ["history", "conversation_history", "chat_history"])
@pytest.mark.parametrize(
    "history",
    [
        [["p", "4"]],
        '[["p", "4"]]',
        [{"role": "user", "content": "p"}, {"role": "assistant", "content": "4"}],
        [{"from": "human", "value": "p"}, {"from": "gpt", "value": "4"}],
    ],
)
def test_a_history_is_earlier_turns(tmp_path, name, history):
    rows = [ALPACA | {name: history}, {"query": "q", "response": "a", name: history}, {"messages": CHAT, name: history}]
    for record in read(tmp_path, *rows):
        assert said(record)[:2] == [("user", "p"), ("assistant", "4")] and len(said(record)) == 4
    (doc,) = read_item_file(save(tmp_path, {"question": "q", "answer": "8", name: history})).kinds["numeric"]
    assert doc["before"] == [["user", "p"], ["assistant", "4"]]


@pytest.mark.parametrize("nothing", ["", "  ", "nan", "NaN", "<noinput>", None])
def test_an_input_that_was_empty_is_nothing(tmp_path, nothing):
    (record,) = read(tmp_path, {"instruction": "Say hi", "input": nothing, "output": "hi"})
    assert said(record) == [("user", "Say hi"), ("assistant", "hi")]


def test_a_suites_unit_and_system_and_thoughts_are_read_as_they_are_meant(tmp_path):
    rows = [
        {"question": "How many shares?", "answer": "5", "unit": "shares", "system": "/no_think"},
        {"question": "How much?", "answer": "<think>\n2 + 3\n</think>\n\n5", "unit": "USD"},
    ]
    docs = read_item_file(save(tmp_path, *rows)).kinds["numeric"]
    assert [(doc["unit"], doc["targets"]) for doc in docs] == [("shares", ["5"]), ("USD", ["5"])]
    assert docs[0]["before"] == [["system", "/no_think"]]


@pytest.mark.parametrize("history", [[], "", None, "[]"])
def test_an_empty_history_is_none(tmp_path, history):
    assert len(read(tmp_path, ALPACA | {"history": history})[0].messages) == 2


def test_an_item_is_asked_behind_its_system_prompt_and_history(tmp_path):
    from harness.tasks.suites import load_suite

    row = {"question": "And twice?", "answer": "8", "history": [["What?", "4"]], "system_prompt": "Count."}
    (task,) = load_suite(str(save(tmp_path, row)))
    turns = task.task.fewshot_context(task.task.docs[0], apply_chat_template=True, chat_template=list)
    assert [turn["content"] for turn in turns] == ["Count.", "What?", "4", "And twice?"]


@pytest.mark.parametrize("name", ["system", "system_prompt", "system_message"])
def test_system_prompts_stand_first(tmp_path, name):
    for row in (ALPACA, {"conversations": CHAT}, {"question": "q", "answer": "a"}):
        assert said(read(tmp_path, row | {name: "Be brief."})[0])[0] == ("system", "Be brief.")


@pytest.mark.parametrize(
    ("field", "value", "trained"),
    [
        ("weight", 0, False),
        ("train", False, False),
        ("loss", 0.0, False),
        ("loss_weight", 1, True),
        ("weight", True, True),
        ("training", False, False),
        ("trainable", 0, False),
    ],
)
def test_turn_weights_of_0_and_1_are_kept(tmp_path, base, field, value, trained):
    turns = [CHAT[0], CHAT[1] | {field: value}, CHAT[0] | {"content": "r"}, CHAT[1] | {"content": "b"}]
    plain, record = read(
        tmp_path, {"messages": [{"role": t["role"], "content": t["content"]} for t in turns]}, {"messages": turns}
    )
    assert record.messages[1].trained is trained and record.messages[3].trained
    assert (record.id == plain.id) is trained
    template = ChatTemplate(base.tokenizer)
    ((one,), (other,)) = (template.encode(each, max_length=256) for each in (plain, record))
    assert one.tokens == other.tokens
    assert (sum(one.supervised) > sum(other.supervised) > 0) is not trained


@pytest.mark.parametrize("weight", [0.5, 2, -1, "half"])
def test_turn_weights_between_are_refused(weight):
    assert "trained (1) or not (0)" in data_faults({"messages": [CHAT[0], CHAT[1] | {"weight": weight}]})[0]


def test_a_record_that_trains_nothing_is_refused():
    assert "trains no turn" in data_faults({"messages": [CHAT[0], CHAT[1] | {"weight": 0}]})[0]


@pytest.mark.parametrize(
    "options",
    [
        {"A": "x", "B": "y", "C": "z"},
        {"C": "z", "B": "y", "A": "x"},
        {"a": "x", "b": "y", "c": "z"},
        ["x", "y", "z"],
        '["x", "y", "z"]',
        {"text": ["x", "y", "z"], "label": ["A", "B", "C"]},
        [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}, {"key": "C", "value": "z"}],
    ],
)
@pytest.mark.parametrize("name", ["options", "choices"])
@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "B)", "[B]", "b)", "Ｂ", "（Ｂ）", "B. y", "(B) y", "y", 1])
def test_options_in_every_form_and_their_answer(name, options, answer):
    row = {"question": "Which?", name: options, "answer": answer}
    faults: list[str] = []
    record = read_record("r", row, faults, Counter())
    assert record and not faults and record.choices == ("x", "y", "z") and record.messages[-1].content == "B"


def test_suites_read_options_as_data_does(tmp_path):
    rows = [
        {"question": "q", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B"},
        {"question": "q", "choices": ["x", "y"], "answer": "(B)"},
        {"question": "q", "A": "x", "B": "y", "answerKey": "B"},
    ]
    docs = read_item_file(save(tmp_path, *rows)).kinds["choice"]
    assert [(doc["choices"], doc["answer"]) for doc in docs] == [(["x", "y"], 1)] * 3


def test_two_answers_that_disagree_are_refused(tmp_path):
    row = {"question": "q", "options": {"A": "x", "B": "y"}, "answer": "x", "answer_idx": "B"}
    assert "name different options" in data_faults(row)[0]
    assert "name different options" in suite_faults(tmp_path, row)[0]


def test_thoughts_stand_before_their_answer(tmp_path):
    turns = [CHAT[0], CHAT[1] | {"reasoning_content": "Hm."}]
    one, two = read(tmp_path, {"messages": turns}, {"prompt": "q", "completion": "a", "reasoning_content": "Hm."})
    assert said(one)[1] == said(two)[1] == ("assistant", "<think>\nHm.\n</think>\n\na")


def test_an_assistant_who_begins_is_left_out_and_counted(tmp_path):
    rows = [{"conversations": [CHAT[1], *CHAT]}] * 3 + [{"conversations": CHAT}]
    notes: list[str] = []
    records = read_records(str(save(tmp_path, *rows)), notes=notes)
    assert len({record.id for record in records}) == 1
    assert notes == ["d.jsonl: 3 conversations begin with the assistant: what it says before a question is left out."]


def test_parts_of_text_are_joined_and_others_refused():
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}]
    assert data_faults({"messages": [{"role": "user", "content": parts}, CHAT[1]]}) == []
    parts[1] = {"type": "image_url", "image_url": {"url": "x"}}
    assert "models of text alone" in data_faults({"messages": [{"role": "user", "content": parts}, CHAT[1]]})[0]


@pytest.mark.parametrize(
    ("choices", "answer", "right"),
    [
        (["1. x", "2. y", "3. z"], "2", 1),
        (["(0) x", "(1) y"], 1, 1),
        (["B. x", "A. y", "C. z"], "B", 0),
        (["1.5 m", "2.5 m"], "1", 1),
        (["1:2", "2: 3"], 1, 1),
        (["x", "y", "y"], "C", 1),
        (["x", "y", "y"], 2, 1),
    ],
)
def test_options_with_numbers_of_their_own_and_options_that_are_the_same(tmp_path, choices, answer, right):
    row = {"question": "q", "choices": choices, "answer": answer}
    assert read(tmp_path, row)[0].messages[-1].content == LETTERS[right]
    (doc,) = read_item_file(save(tmp_path, row)).kinds["choice"]
    assert doc["answer"] == right and doc["choices"] == choices


def test_an_index_that_may_be_counted_as_the_options_count_is_refused():
    row = {"question": "q", "choices": ["1) x", "2) y", "3) z"], "answer": 2}
    assert "could be B or C" in data_faults(row)[0]
