"""Fields that change what a record means: read, or refused by name; the rest is counted. In DATA and SUITES alike."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.fields.names import nearest
from harness.fields.table import KNOWN, LETTERS, TABLE
from harness.files.formats_page import PATH, formats_page
from harness.files.item_file import read_item_file
from harness.files.records import Record, read_record, read_records
from harness.tokens.chat_template import ChatTemplate

ALPACA = {"instruction": "Add.", "output": "3"}
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ASK = {"question": "Which?", "answer": "B"}


def save(folder: Path, *rows, name: str = "d.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, *rows) -> list[Record]:
    return read_records(str(save(folder, *rows)))


def said(record: Record) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in record.messages]


def data_faults(*rows) -> list[str]:
    faults: list[str] = []
    for number, row in enumerate(rows, 1):
        read_record(f"record {number}", row, faults, Counter())
    return faults


def suite_faults(folder: Path, *rows) -> list[str]:
    try:
        read_item_file(save(folder, *rows))
    except PlanError as error:
        return error.faults
    return []


# --- read -----------------------------------------------------------------------------------------------------------------


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


# --- refused --------------------------------------------------------------------------------------------------------------

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


# --- the table ------------------------------------------------------------------------------------------------------------


def test_the_page_is_written_from_the_table():
    assert PATH.read_text(encoding="utf-8") == formats_page(), "run `make docs`"
    assert all(f"`{name}`" in formats_page() for name in KNOWN)


def test_every_field_of_the_table_is_read_or_refused():
    """Nothing that the table says is read is left unread, and nothing that it refuses passes."""
    whole = [ALPACA, {"messages": CHAT}, {"prompt": "p", "completion": "c"}, ASK, ASK | {"choices": ["x", "y"]}]
    samples = {"history": [["a", "b"]], "choices": ["x", "y"], "options": ["x", "y"], "messages": CHAT, "conversations": CHAT}
    for field in TABLE:
        for name in field.names if field.place == "record" else ():
            if field.refused:
                bad = next(value for value in (True, 0, "x", ["x", "y"]) if field.refused(value))
                reading = [row for row in whole if not field.instead or field.instead in row or "question" in row]
                assert all(data_faults(row | {name: bad}) for row in reading)
            elif name not in LETTERS and "history" not in name:
                assert any(_reads(name, row | {name: samples.get(name, "B")}) for row in [*whole, {}])


def _reads(name: str, row: dict) -> bool:
    unread: Counter[str] = Counter()
    read_record("r", row, [], unread, "both")
    return not unread[name]
