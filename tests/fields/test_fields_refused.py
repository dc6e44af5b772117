"""Fields that change what a record means and that are refused by name; the rest is counted. In DATA and SUITES alike."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.errors import PlanError
from harness.fields.names import nearest
from harness.files.item_file import read_item_file
from harness.files.records import read_record, read_records
from tests.support.field_files import ALPACA, ASK, CHAT, data_faults, save, suite_faults

MEANINGS = {
    "chosen": ("x", "preference data"), "rejected": ("x", "preference data"), "rejected_response": ("x", "preference data"),
    "label": (False, "preference data"), "weight": (0.5, "weighs a whole record"), "images": (["a.png"], "not text"),
    "audio": ("a.wav", "not text"), "videos": (["v"], "not text"), "tools": ([{"name": "f"}], "tools"),
    "sample_weight": (0, "weighs a whole record"),
}  # fmt: skip


@pytest.mark.parametrize("field", MEANINGS)
def test_what_changes_a_record_is_refused_by_name_in_data_and_suites(field, tmp_path):
    value, words = MEANINGS[field]
    for row in (ALPACA, {"messages": CHAT}, {"prompt": "p", "completion": "c"}):
        (fault,) = data_faults(row | {field: value})
        assert f"'{field}'" in fault and words in fault
    (fault,) = suite_faults(tmp_path, {"question": "q", "answer": "a", field: value})
    assert f"'{field}'" in fault and words in fault


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("candidates", ["x", "y"], "write all of them as `choices`"),
        ("answer_choices", '["x", "y"]', "write all of them as `choices`"),
        ("distractors", ["x"], "write all of them as `choices`"),
        ("b", "x", "one of several options a field"),
        ("passage", "The firm sold its mill and bought a bank.", "call it `context`"),
        ("documents", ["One."], "call it `context`"),
        ("is_correct", False, "preference data"),
        ("rejected_answer", "x", "preference data"),
    ],
)
def test_options_passages_and_judgements_under_other_names_are_refused(tmp_path, field, value, words):
    assert words in data_faults(ASK | {field: value})[0]
    assert words in suite_faults(tmp_path, ASK | {field: value})[0]


@pytest.mark.parametrize("table", [[["year", "sales"], ["2019", "94"]], "year | sales | 2018 | 90 | 2019 | 94 |"])
def test_a_table_that_is_asked_about_is_no_conversation_and_not_dropped(tmp_path, table):
    """As in FinQA and TAT-QA: rows of two cells look like pairs of question and answer."""
    for faults in (data_faults(ASK | {"table": table}), suite_faults(tmp_path, ASK | {"table": table})):
        assert len(faults) == 1 and "'table' is read with the question" in faults[0] and "call it `context`" in faults[0]


def test_a_familiar_name_that_means_something_else_is_refused_by_name(tmp_path):
    """A column of organ systems is no system prompt, and a column of chapters holds no units."""
    organ = {"question": "What beats?", "answer": "the heart", "system": "cardiovascular"}
    for faults in (data_faults(organ), suite_faults(tmp_path, organ)):
        assert "'system' is the word 'cardiovascular', which is no system prompt" in faults[0]
    (fault,) = suite_faults(tmp_path, {"question": "How many?", "answer": "5", "unit": "Chapter 3"})
    assert "'unit' is 'Chapter 3', no known unit and in neither question nor answer" in fault


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("isCorrect", False, "preference data"),
        ("Label", "bad", "preference data"),
        ("thumbs_up", False, "preference data"),
        ("preference", "rejected", "preference data"),
        ("worse_response", "x", "preference data"),
        ("response_b", "x", "several answers"),
        ("output_2", "x", "several answers"),
        ("mask_history", True, "switch for what is trained"),
        ("train_on_last", True, "switch for what is trained"),
        ("skip", 1, "switch for what is trained"),
        ("image_path", "a.png", "not text"),
        ("videoUrls", ["a"], "not text"),
        ("dialogue", [["a", "b"]], "is a conversation"),
        ("previous_turns", [{"speaker": "user", "text": "a"}], "is a conversation"),
        ("prompt", "Be brief.", "says what is asked in another form"),
    ],
)
def test_names_of_the_same_kinds_are_refused_in_data_and_suites(tmp_path, field, value, words):
    assert words in data_faults(ASK | {field: value})[0]
    assert words in suite_faults(tmp_path, ASK | {field: value})[0]


@pytest.mark.parametrize(
    "row",
    [
        ASK | {"label": "easy", "mask_history": False, "score": 1, "rating": 5, "training_set": "v2"},
        ASK | {"prompt": "Which?", "text": "Which ?", "tags": ["a", "b"], "scores": [[1, 2]]},
        {"messages": CHAT, "text": "a rendered conversation of many more words than eight", "prompt": "q"},
    ],
)
def test_what_changes_nothing_is_not_refused(row):
    assert data_faults(row) == []


@pytest.mark.parametrize("field", ["calculate_loss", "learn", "trainThis"])
def test_switches_of_a_turn_under_other_names_are_refused(field):
    for value in (False, 1):
        (fault,) = data_faults({"messages": [CHAT[0], CHAT[1] | {field: value}]})
        assert f"'{field}' looks like a switch" in fault
    assert data_faults({"messages": [CHAT[0], CHAT[1] | {"masked": False, "loss_value": 1.7}]}) == []
    assert "'masked'" in data_faults({"messages": [CHAT[0], CHAT[1] | {"masked": True}]})[0]


@pytest.mark.parametrize("form", [ALPACA, {"prompt": "p", "completion": "c"}])
def test_options_that_a_form_does_not_show_are_refused(form):
    assert "beside `question` and `answer` only" in data_faults(form | {"options": ["x", "y"]})[0]
    shown = form | {next(iter(form)): "Which, x or y?"}
    assert data_faults(shown | {"options": ["x", "y"]}) == []
    assert data_faults(shown | {"options": {"A": "x", "B": "z"}})


@pytest.mark.parametrize("field", ["gold", "label", "correct_option", "correct"])
def test_other_names_of_the_right_option_must_agree_with_the_answer(tmp_path, field):
    row = {"question": "q", "choices": ["x", "y", "z"], "answer": "y"}
    for value, agrees in ((1, True), ("B", True), (2, False), ("z", False)):
        for faults in (data_faults(row | {field: value}), suite_faults(tmp_path, row | {field: value})):
            assert ("name different options" in " ".join(faults)) is not agrees


def test_two_chats_and_two_answers_must_agree():
    other = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert data_faults({"messages": CHAT, "conversations": other}) == []
    assert "which mean the same and differ" in data_faults({"messages": CHAT, "conversations": [other[0]]})[0]
    assert "which mean the same and differ" in data_faults(ALPACA | {"response": "4"})[0]
    assert data_faults(ALPACA | {"response": "3"}) == []


def test_preference_data_without_an_answer_are_called_so():
    for row in ({"prompt": "p", "chosen": "x", "rejected": "y"}, {"chosen": CHAT, "rejected": CHAT}):
        (fault,) = data_faults(row)
        assert "preference data" in fault


def test_parquet_keeps_what_changes_a_record(tmp_path):
    import pandas as pd

    row = ASK | {"dialogue": [["a", "b"]], "isCorrect": False, "embedding": [0.5]}
    pd.DataFrame([row]).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(PlanError) as error:
        read_records(str(tmp_path / "d.parquet"))
    assert "'isCorrect' says" in error.value.faults[0] and "'dialogue' is a conversation" in error.value.faults[1]


@pytest.mark.parametrize("field", ["metric", "regex", "stop", "units"])
def test_what_changes_how_an_item_is_scored_is_refused(tmp_path, field):
    assert f"'{field}' changes how an item is asked or scored" in suite_faults(tmp_path, ASK | {field: "x"})[0]


def test_a_chat_holds_its_passage_and_a_file_name_is_none():
    assert data_faults({"messages": CHAT, "documents": ["One."], "candidates": ["x"]}) == []
    assert data_faults(ASK | {"document": "report_2019.pdf", "alternatives": []}) == []


def test_options_beyond_the_lettered_columns_are_refused():
    assert "'F' is one of several" in data_faults(ASK | dict.fromkeys("ABCDEF", "x"))[0]


@pytest.mark.parametrize("value", ["", None, [], "[]"])
def test_what_is_empty_changes_nothing(value):
    assert data_faults(ALPACA | {"images": value, "tools": value, "chosen": value}) == []


@pytest.mark.parametrize("role", ["tool", "function", "ipython", "observation"])
def test_tool_turns_are_refused_by_name(role):
    assert "tools are not rendered" in data_faults({"messages": [*CHAT, {"role": role, "content": "5"}]})[0]
    (fault,) = data_faults({"messages": [CHAT[0], CHAT[1] | {"tool_calls": [{"id": 1}]}]})
    assert "'tool_calls'" in fault


@pytest.mark.parametrize(
    ("row", "known"),
    [
        (ALPACA | {"Input": "x"}, "input"),
        (ALPACA | {" input": "x"}, "input"),
        (ALPACA | {"inputs": "x"}, "input"),
        (ASK | {"choicess": ["a", "b"]}, "choices"),
        (ASK | {"Context": "x"}, "context"),
        ({"messages": CHAT, "System": "x"}, "system"),
        ({"messages": CHAT, "histroy": [["a", "b"]]}, "history"),
    ],
)
def test_near_misses_get_the_nearest_name(row, known):
    (fault,) = data_faults(row)
    assert f"did you mean '{known}'" in fault


def test_a_field_that_is_known_is_no_near_miss_of_itself():
    (fault,) = data_faults({"input": "q", "target": "a"})
    assert "no known fields (it has 'input', 'target')" in fault and "did you mean" not in fault


def test_near_misses_in_suites(tmp_path):
    assert "did you mean 'tolerance'" in suite_faults(tmp_path, {"question": "q", "answer": "1", "tolerence": 1})[0]
    assert "did you mean 'choices'" in suite_faults(tmp_path, ASK | {"Choices": ["a", "b"]})[0]


def test_near_is_one_letter():
    assert nearest("contexts", ["context"]) and nearest("contxet", ["context"]) and nearest("conext", ["context"])
    assert nearest("content_id", ["context", "id"]) is None and nearest("texts", ["text"]) is None


@pytest.mark.parametrize(
    "row", [ALPACA | {"messages": CHAT}, {"prompt": "a", "completion": "b", "question": "c", "answer": "d"}]
)
def test_two_forms_in_one_record_are_refused(row):
    assert "whole in two forms" in data_faults(row)[0]


def test_half_a_form_beside_a_whole_one_is_not_read_and_counted():
    unread: Counter[str] = Counter()
    assert read_record("r", {"messages": CHAT, "prompt": "q", "prompt_id": 7}, [], unread)
    assert unread == {"prompt": 1, "prompt_id": 1}


def test_keys_and_columns_that_stand_twice_are_refused(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "prompt": "b", "completion": "c"}\n')
    with pytest.raises(PlanError, match="has the field 'prompt' twice"):
        read_records(str(tmp_path / "d.jsonl"))
    (tmp_path / "d.csv").write_text("prompt,completion,prompt\na,b,c\n")
    with pytest.raises(PlanError, match="column 'prompt' twice"):
        read_records(str(tmp_path / "d.csv"))


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [], "label": ["B-ORG"], "text": "Firm sold."},
        {"query": "q", "answer": "a", "text": "t", "choices": ["a", "b"], "gold": 1},
        {"text": "a film", "label": 1},
        {"text": "a film", "sentiment": "good"},
    ],
)
def test_a_suite_is_no_text_because_a_column_is_called_so(tmp_path, row):
    (fault,) = suite_faults(tmp_path, row)
    assert "no 'question'" in fault and "type text" in fault


@pytest.mark.parametrize(
    "rule", [{"schema": {"head": ["id"]}}, {"required": ["id"]}, {"forbidden": "x"}, {"bounds": {"low": 0}}]
)
@pytest.mark.parametrize("asked", [{"answer": "SELECT 1"}, {"answers": ["x"]}, {"choices": ["x", "y"], "answer": "x"}])
def test_a_suite_is_no_rule_because_a_column_beside_its_answer_is_called_so(tmp_path, rule, asked):
    """Text-to-SQL sets have a column `schema`; a form for an answer has a field `required`."""
    row = {"question": "How many heads?"}
    (fault,) = suite_faults(tmp_path, row | asked | rule)
    assert f"and '{next(iter(rule))}', which is a rule for answers; give the type" in fault
    typed = {"type": "choice" if "choices" in asked else "constraint"}
    assert suite_faults(tmp_path, row | rule) == [] == suite_faults(tmp_path, row | asked | rule | typed)


def test_an_empty_question_among_others_is_no_pair_of_sentences(tmp_path):
    asked = {"question": "Which?", "choices": ["x", "y"], "answer": "x"}
    lost = asked | {"question": ""}
    (fault,) = suite_faults(tmp_path, asked, lost)
    assert "record 2 (line 2): 'question' is empty beside records that have one" in fault
    assert suite_faults(tmp_path, asked, lost | {"type": "pair"}) == [] == suite_faults(tmp_path, lost, lost)


def test_a_suite_of_texts_is_one(tmp_path):
    rows = [{"text": "One.", "id": 1, "url": "x"}, {"text": "Two.", "type": "text", "page": 2}]
    file = read_item_file(save(tmp_path, *rows))
    assert len(file.kinds["text"]) == 2 and file.notes == ["d.jsonl: fields not read: url (1 records), page (1)."]


def test_unread_fields_are_counted_once(tmp_path):
    rows = [ALPACA | {"meta": {"a": 1}, "url": "x", "id": 3}, ALPACA | {"meta": {"b": 2}, "url": ""}, {"messages": [
        CHAT[0] | {"name": "Bo"}, CHAT[1]]}]  # fmt: skip
    notes: list[str] = []
    read_records(str(save(tmp_path, *rows)), notes=notes)
    assert notes == ["d.jsonl: fields not read: meta (2 records), url (1), messages.name (1)."]
    file = read_item_file(save(tmp_path, {"question": "q", "answer": "a", "meta_info": "step1"}))
    assert file.notes == ["d.jsonl: fields not read: meta_info (1 records)."]
