"""Which name a comparison takes, and how two questions differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.store.files import write_json
from harness.store.question import RESERVED, Question, free_name, given_name
from harness.store.results import open_results

FAST = Question({"precision": "bfloat16", "tune": 0})
TUNED = Question({"precision": "bfloat16", "tune": 3})
SLOW = Question({"precision": "float32", "tune": 0})


def hold(root: Path, name: str, question: Question) -> None:
    write_json(root / name / "comparison.json", {"question": question.fields, "rows": []})


def test_a_name_that_is_free_or_holds_the_same_question_is_taken_without_a_word(tmp_path):
    assert free_name(tmp_path, "finance", FAST).text == "finance"
    hold(tmp_path, "finance", FAST)
    name = free_name(tmp_path, "finance", FAST)
    assert name.text == "finance" and name.note is None


def test_the_next_free_name_is_taken_and_what_differs_is_said(tmp_path):
    hold(tmp_path, "finance", FAST)
    hold(tmp_path, "finance-2", TUNED)
    name = free_name(tmp_path, "finance", SLOW)
    assert name.text == "finance-3"
    assert name.note and "precision was 'bfloat16', now 'float32'" in name.note and str(tmp_path / "finance-3") in name.note
    hold(tmp_path, "finance-3", SLOW)
    assert free_name(tmp_path, "finance", SLOW).text == "finance-3"


@pytest.mark.parametrize("name", RESERVED)
def test_folders_of_lethes_own_are_not_taken(tmp_path, name):
    assert free_name(tmp_path, name, FAST).text == f"{name}-2"


def test_a_name_that_the_user_gave_is_refused_with_the_cure(tmp_path):
    hold(tmp_path, "mine", FAST)
    assert given_name(tmp_path, "mine", FAST).text == "mine"
    with pytest.raises(PlanError, match=r"precision was 'bfloat16', now 'float32'.*give another name"):
        given_name(tmp_path, "mine", SLOW)


BROKEN = {"cut short": '{"question": {', "a list": "[]", "no rows": "{}", "no text": b"\xff\xfe\x00"}


@pytest.fixture(params=[*BROKEN, "a file", "a folder for the record"])
def broken(request, tmp_path) -> Path:
    """Results in which `finance` is no comparison."""
    if request.param == "a file":
        (tmp_path / "finance").write_text("")
    elif request.param in BROKEN:
        (tmp_path / "finance").mkdir()
        content = BROKEN[request.param]
        (tmp_path / "finance" / "comparison.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    else:
        (tmp_path / "finance" / "comparison.json").mkdir(parents=True)
    return tmp_path


def test_a_folder_that_holds_no_comparison_is_passed_over_and_said(broken):
    name = free_name(broken, "finance", FAST)
    assert name.text == "finance-2" and name.note and name.note.startswith(str(broken / "finance"))


def test_a_folder_that_holds_no_comparison_is_refused_by_every_command(broken):
    for read in (lambda: given_name(broken, "finance", FAST), lambda: open_results(broken).record("finance")):
        with pytest.raises(PlanError, match=r"remove the folder, or give another name"):
            read()


def test_results_that_are_no_folder_end_the_search_for_a_name(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(PlanError, match="give --name or --out"):
        free_name(tmp_path / "results", "finance", FAST)


def test_a_field_that_is_missing_is_none():
    assert not Question({"tune": 0}).differences(Question({"tune": 0, "kernels": None}))
    assert [field.name for field in Question({"b": 1, "a": 1}).differences(Question({"a": 2}))] == ["a", "b"]
