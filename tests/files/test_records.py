"""Records: every form read, every fault named with its place and cure."""

import json
import sys
import types
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from harness.errors import PlanError
from harness.files.records import CHOOSE, CHOOSE_ZH, Record, read_records
from harness.files.turns import Turn
from tests.support.shared_data import SHARED, real

FINANCE = "finance/finance_short.json"
ALPACA = {"instruction": "Add.", "input": "1 + 2", "output": "3"}


def save(folder: Path, rows, name: str = "d.json") -> str:
    (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    return str(folder / name)


def read(folder: Path, *rows) -> list[Record]:
    return read_records(save(folder, list(rows)))


def faults(folder: Path, *rows) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read(folder, *rows)
    return caught.value.faults


def said(record: Record) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in record.messages]


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        (ALPACA, "Add.\n1 + 2", "3"),
        (ALPACA | {"input": ""}, "Add.", "3"),
        (ALPACA | {"input": None, "text": "ignored"}, "Add.", "3"),
        ({"prompt": "Hi", "completion": "Ho"}, "Hi", "Ho"),
        ({"prompt": "Hi", "response": "Ho"}, "Hi", "Ho"),
        ({"question": "Why?", "answer": "So."}, "Why?", "So."),
        ({"question": "Name the intent.", "context": "card?", "answer": "card"}, "Name the intent.\ncard?", "card"),
    ],
)
def test_single_turn_forms(tmp_path, row, prompt, answer):
    assert said(read(tmp_path, row)[0]) == [("user", prompt), ("assistant", answer)]


def test_system_field_stands_first_in_any_form(tmp_path):
    for row in (ALPACA, {"prompt": "a", "completion": "b"}, {"messages": CHAT[1:]}):
        assert said(read(tmp_path, row | {"system": "Be brief."})[0])[0] == ("system", "Be brief.")


CHAT = [
    {"role": "system", "content": "S"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
    {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"},
]  # fmt: skip


def test_chat_keeps_every_turn(tmp_path):
    assert said(read(tmp_path, {"messages": CHAT})[0]) == [(m["role"], m["content"]) for m in CHAT]


def test_sharegpt_names_mean_the_same(tmp_path):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    other = {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in CHAT]}
    one, two = read(tmp_path, {"messages": CHAT}, other)
    assert one.messages == two.messages and one.id == two.id


def test_id_is_the_content_alone(tmp_path):
    one, two, three = read(tmp_path, ALPACA, ALPACA | {"kind": "sum", "output": " 3\r\n"}, ALPACA | {"output": "4"})
    assert one.id == two.id != three.id
    assert len(one.id) == 16 and (one.origin, two.kind) == ("d.json record 1", "sum")


def mc(answer, choices=("red", "2", "green", "C")) -> dict:
    return {"question": "Which?", "choices": list(choices), "answer": answer}


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), (2, "C"), ("3", "D"), ("green", "C"), ("C", "C")])
def test_choice_answers_become_letters(tmp_path, answer, letter):
    record = read(tmp_path, mc(answer))[0]
    assert said(record) == [("user", f"{CHOOSE}\nWhich?\nA. red\nB. 2\nC. green\nD. C"), ("assistant", letter)]
    assert record.choices == ("red", "2", "green", "C")


@pytest.mark.parametrize("form", ["{}. {}", "({}) {}", "{}．{}", "{}、{}", " {}) {}", "[{}]{}"])
@pytest.mark.parametrize(("keys", "first"), [("ABC", "3.5"), ("abc", "3.5"), ("123", "x")])
def test_options_that_bring_their_letters_are_asked_with_one(tmp_path, form, keys, first):
    texts = (first, "好，的", "C")
    spelled = [form.format(key, text) for key, text in zip(keys, texts, strict=True)]
    record = read(tmp_path, mc(spelled[1], spelled))[0]
    assert said(record) == [("user", f"{CHOOSE}\nWhich?\nA. {first}\nB. 好，的\nC. C"), ("assistant", "B")]
    assert record.choices == texts


@pytest.mark.parametrize("texts", [("1.5 m", "2.5 m"), ("1:2", "2: 3"), ("A. x", "y"), ("A.", "B."), ("A dog", "B cell")])
def test_options_without_a_letter_of_their_own_stay_as_they_are(tmp_path, texts):
    record = read(tmp_path, mc(texts[0], texts))[0]
    assert record.choices == texts and said(record)[0][1].endswith(f"A. {texts[0]}\nB. {texts[1]}")


def test_chinese_questions_are_asked_in_chinese(tmp_path):
    row = {"question": "下列哪一项正确？", "choices": ["甲", "乙"], "answer": "B"}
    assert read(tmp_path, row)[0].messages[0] == Turn("user", f"{CHOOSE_ZH}\n下列哪一项正确？\nA. 甲\nB. 乙")


@pytest.mark.parametrize(
    ("answer", "why"), [("E", "none of"), (4, "none of"), (-1, "none of"), (True, "not text"), ("2", "could be B or C")]
)
def test_choice_answers_that_name_no_choice(tmp_path, answer, why):
    assert why in faults(tmp_path, mc(answer))[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "x"}, ["no 'output'", "add it"]),
        ({"output": "x"}, ["no 'instruction'"]),
        (ALPACA | {"output": " "}, ["'output' is empty", "remove the record"]),
        (ALPACA | {"output": 3}, ["'output' is the number 3", "string"]),
        (ALPACA | {"instruction": ["x"]}, ["'instruction' is a list"]),
        (ALPACA | {"output": "a\0b"}, ["NUL", "place 2"]),
        (ALPACA | {"input": "\ud83d"}, ["U+D83D", "whole character"]),
        ({"prompt": "x", "response": None, "completion": ""}, ["'completion' is empty"]),
        ({"instruction": "x", "output": " ", "response": " "}, ["'output' is empty"]),
        ({"prompt": " ", "query": " ", "completion": "a"}, ["'prompt' is empty"]),
        ({"question": "q", "answer": " ", "response": " "}, ["'answer' is empty"]),
        ({"text": "Once."}, ["continued pre-training; give mode cpt"]),
        ({"a": 1}, ["no known fields", "'a'", "instruction/input/output"]),
        ("x", ["is text", "object"]),
        ({"messages": []}, ["a list without entries"]),
        ({"messages": "hello"}, ["'messages' is text"]),
        ({"messages": CHAT[:2]}, ["no assistant message"]),
        ({"messages": [CHAT[1], {"role": "assistant", "content": ""}]}, ["'messages' 2 content is empty"]),
        ({"messages": CHAT[2:3]}, ["no user message"]),
        ({"messages": [*CHAT, {"role": "tool", "content": "x"}]}, ["'messages' 6", "'tool'", "tools are not rendered"]),
        ({"messages": [*CHAT, {"role": "narrator", "content": "x"}]}, ["'messages' 6", "'narrator'", "human"]),
        ({"messages": [*CHAT, {"role": "assistant", "content": ""}]}, ["'messages' 6 content is empty"]),
        ({"messages": [*CHAT[1:], CHAT[0]]}, ["'messages' 5", "system message after the first"]),
        ({"messages": CHAT, "system": "Be brief."}, ["beside the field 'system'"]),
        ({"question": "q", "choices": ["x"], "answer": "A"}, ["a list of 1", "2 to 26"]),
        ({"question": "q", "choices": ["x", 2], "answer": "A"}, ["'choices' 2", "the number 2"]),
    ],
)
def test_one_fault_with_place_and_cure(tmp_path, row, words):
    found = faults(tmp_path, ALPACA, row)
    assert len(found) == 1 and found[0].startswith("d.json record 2: ")
    assert all(word in found[0] for word in words), found[0]


def test_all_faults_at_once(tmp_path):
    found = faults(tmp_path, {"instruction": "", "output": 1}, ALPACA, {"question": "q"})
    assert [f.split(":")[0] for f in found] == ["d.json record 1", "d.json record 1", "d.json record 3"]


def test_long_lists_of_faults_are_counted(tmp_path):
    found = faults(tmp_path, *[{"a": 1}] * 25)
    assert len(found) == 21 and found[-1].startswith("and 5 more faults")


def test_data_object_holds_the_list(tmp_path):
    assert len(read_records(save(tmp_path, {"data": [ALPACA]}))) == 1


def refused(path: Path | str) -> str:
    with pytest.raises(PlanError) as caught:
        read_records(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("[]", "no records"),
        ('[{"a": 1},\n {"b" 2}]', "line 2 column 7"),
        ('{"a": 1}\n{"a": 2', "line 2 column 8"),
        ('[{"a": 1}] []', "extra data after the list"),
        ('{"a": 1}', "an object with a"),
        ("3", "a single value"),
    ],
)
def test_json_files_of_the_wrong_shape(tmp_path, text, words):
    (tmp_path / "d.json").write_text(text)
    assert words in refused(tmp_path / "d.json")


def test_jsonl_faults_name_record_and_line(tmp_path):
    lines = [json.dumps(ALPACA), "", "{oops", json.dumps({"instruction": "x"})]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    found = refused(tmp_path / "d.jsonl").splitlines()
    assert [f[:26] for f in found] == ["d.jsonl record 2 (line 3):", "d.jsonl record 3 (line 4):"]


def test_jsonl_text_may_hold_other_line_ends(tmp_path):
    (tmp_path / "d.jsonl").write_text(json.dumps(ALPACA | {"input": "a\u2028b"}, ensure_ascii=False), encoding="utf-8")
    assert read_records(str(tmp_path / "d.jsonl"))[0].messages[0].content == "Add.\na\u2028b"


def test_csv_cells_are_text_and_nan_is_missing(tmp_path):
    (tmp_path / "d.csv").write_text('instruction,input,output\nAdd.,"1,\n2",3\nSay.,NaN,None\nGo.,,\n')
    assert refused(tmp_path / "d.csv").startswith("d.csv record 3: no 'output'")
    (tmp_path / "d.csv").write_text('instruction,input,output\nAdd.,"1,\n2",3\nSay.,NaN,None\n')
    assert [said(r)[0][1] for r in read_records(str(tmp_path / "d.csv"))] == ["Add.\n1,\n2", "Say."]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_cells_may_be_separated_by_any_usual_character(separator, tmp_path):
    (tmp_path / "d.csv").write_text(f"question{separator}answer\nq{separator}a\n")
    assert said(read_records(str(tmp_path / "d.csv"))[0])[-1] == ("assistant", "a")


def test_csv_choices_are_json(tmp_path):
    (tmp_path / "d.csv").write_text('question,choices,answer\nq,"[""x"", ""y""]",1\n')
    assert read_records(str(tmp_path / "d.csv"))[0].messages[1].content == "B"


def test_csv_rows_that_do_not_fit_the_header(tmp_path):
    (tmp_path / "d.csv").write_text("prompt,completion\na,b\nc,d,e\n")
    assert "d.csv record 2 (line 3): has more cells" in refused(tmp_path / "d.csv")


def test_parquet_forms_may_mix(tmp_path):
    rows = [
        {"messages": CHAT, "prompt": None, "completion": None},
        {"messages": None, "prompt": "a", "completion": "b"},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert [len(r.messages) for r in read_records(str(tmp_path / "d.parquet"))] == [5, 2]


def test_parquet_nan_is_missing_and_broken_files_are_refused(tmp_path):
    table = pyarrow.table({"prompt": ["a"], "completion": pyarrow.array([float("nan")])})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert "no 'completion'" in refused(tmp_path / "d.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    assert "not a whole parquet file" in refused(tmp_path / "d.parquet")


def test_missing_files_get_the_nearest_name(tmp_path):
    save(tmp_path, [ALPACA], "finance.json")
    assert "did you mean 'finance.json'?" in refused(tmp_path / "finanse.json")
    assert "nor does its folder" in refused(tmp_path / "no" / "finance.json")
    assert "is a folder" in refused(tmp_path)


def test_unknown_endings_and_bytes(tmp_path):
    (tmp_path / "d.xml").write_text("x")
    assert "known endings are .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .txt" in refused(tmp_path / "d.xml")
    (tmp_path / "d.json").write_bytes(b'[\n"\xff"]')
    assert "byte 4 (line 2) is not UTF-8" in refused(tmp_path / "d.json")


def hub(monkeypatch, load) -> None:
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load))


def test_hub_sets_load_their_train_split(monkeypatch):
    asked = []
    hub(monkeypatch, lambda *args, **named: asked.append((args, named)) or [ALPACA])
    assert read_records("org/set:main")[0].origin == "org/set record 1"
    assert asked == [(("org/set", "main"), {"split": "train"})]


def test_hub_out_of_reach_says_what_to_do(monkeypatch):
    def offline(*args, **named):
        raise ConnectionError("no route\nto host")

    hub(monkeypatch, offline)
    assert "train split of org/set could not be loaded (ConnectionError: no route)" in refused("org/set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in refused("org/set")


@pytest.mark.parametrize("path", real(FINANCE, "finance/finance_zh.json", "finance/eval/tatqa_test.jsonl"))
def test_real_files(path):
    records = read_records(str(path))
    assert len(records) > 1000 and all(r.messages[-1].role == "assistant" for r in records)


@pytest.mark.parametrize("asked_of", real("finance/eval/glossary_mc_heldout.jsonl"))
def test_choices_look_like_the_real_training_records(asked_of):
    trained = [r.messages[0].content for r in read_records(str(SHARED / FINANCE)) if CHOOSE in r.messages[0].content]
    shape = [line[:3] for line in trained[0].splitlines()[2:]]
    asked = read_records(str(asked_of))[0].messages[0].content
    assert trained[0].startswith(CHOOSE + "\n") and asked.startswith(CHOOSE + "\n")
    assert [line[:3] for line in asked.splitlines()[2:]] == shape
