"""IFEval: items of the real form, scored as lm-eval's own task scores them; what cannot be scored is counted."""

from __future__ import annotations

import json
import random

import nltk
import pytest

from harness.bundled import find_suites
from harness.files import instructions
from harness.files.item_file import read_item_file
from harness.tasks.item_task import ItemTask
from harness.tasks.lm_eval_collection import Collection
from harness.tasks.local_rows import dataset_loader
from tests.support.shared_data import SHARED

REAL = SHARED / "general/eval/ifeval.jsonl"
ANSWER = "Sure!\n<<A title>>\n* one, two\n* three\nIs that ALL?"
CASES = [  # instruction, kwargs, strict, loose
    ("punctuation:no_comma", {}, 0, 0),
    ("detectable_format:title", {}, 1, 1),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, 1, 1),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}, 0, 0),
    ("startend:end_checker", {"end_phrase": "Is that ALL?"}, 1, 1),
    ("combination:repeat_prompt", {"prompt_to_repeat": "<<A title>>"}, 0, 1),  # its first line is forgiven
    ("keywords:forbidden_words", {"forbidden_words": ["sure"]}, 0, 1),
    ("keywords:existence", {"keywords": ["title", "three"]}, 1, 1),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 20}, 0, 0),
    ("change_case:english_lowercase", {}, 0, 0),
]
SPLIT = [
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 1}, 1, 1),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, 0, 1),
]
"""These need nltk's data."""


def punkt() -> bool:
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True


def row(number, *cases):
    names, settings, *_ = zip(*cases, strict=True)
    return {"id": f"i{number}", "question": "Do so.", "instruction_id_list": list(names), "kwargs": list(settings)}


def on_hub(rows):
    """The same as google/IFEval has them: every setting named for every instruction, null where it has none."""
    names = sorted({name for row in rows for settings in row["kwargs"] for name in settings})
    padded = [[{name: settings.get(name) for name in names} for settings in row["kwargs"]] for row in rows]
    return [
        {"key": n, "prompt": row["question"], "instruction_id_list": row["instruction_id_list"], "kwargs": kwargs}
        for n, (row, kwargs) in enumerate(zip(rows, padded, strict=True))
    ]


def lm_evals_own(rows):
    collection = Collection(find_suites()["standard"], None)
    task = collection.build("ifeval", {"custom_dataset": dataset_loader([collection.forms["ifeval"](row) for row in rows])})
    instructions.steady()
    return task, list(task.eval_docs)


@pytest.mark.parametrize("cases", [CASES, pytest.param(SPLIT, marks=pytest.mark.skipif(not punkt(), reason="no punkt_tab"))])
def test_scores_are_lm_evals_own_whichever_form_the_rows_have(cases, tmp_path):
    rows = [row(n, case) for n, case in enumerate(cases)] + [row(99, *cases[:2])]
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    docs = read_item_file(tmp_path / "i.jsonl").kinds["instructions"]
    task, own = ItemTask("i", "instructions", docs), [lm_evals_own(rows), lm_evals_own(on_hub(rows))]
    for place, doc in enumerate(docs):
        found = task.process_results(doc, [ANSWER])
        for reference, theirs in own:
            expected = reference.process_results(theirs[place], [ANSWER])
            assert task.doc_to_text(doc) == reference.doc_to_text(theirs[place])
            for kind in ("strict", "loose"):
                each = expected[f"inst_level_{kind}_acc"]
                assert found[f"prompt_level_{kind}_acc"] == expected[f"prompt_level_{kind}_acc"] == all(each)
                assert found[f"instructions_{kind}"] == sum(each) / len(each)
        if place < len(cases):
            assert (found["prompt_level_strict_acc"], found["prompt_level_loose_acc"]) == cases[place][2:]


def test_an_item_whose_checker_tosses_a_coin_is_left_out(tmp_path):
    hashtags = ("keywords:letter_frequency", {"let_relation": "at least", "letter": "#", "let_frequency": 4})
    unsaid = ("length_constraints:number_words", {"relation": "at least"})
    rows = [row(0, CASES[0]), row(1, hashtags), row(2, unsaid)]
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    random.seed(0)
    before = random.getstate()
    found = read_item_file(tmp_path / "i.jsonl")
    assert random.getstate() == before
    assert [doc["id"] for doc in found.kinds["instructions"]] == ["i0"]
    assert "2 of 3 items are left out: lm-eval's checker draws at random" in found.notes[0]


def test_what_cannot_be_scored_is_counted_by_reason_with_its_cure(tmp_path, monkeypatch):
    def absent(*_):
        raise LookupError("punkt_tab")

    monkeypatch.setattr(
        instructions._checkers().instructions_registry.instructions.instructions_util, "count_sentences", absent
    )
    rows = [row(0, CASES[0]), row(1, SPLIT[1]), row(2, ("keywords:letter_frequency", {"letter": "!"}))]
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (note,) = read_item_file(tmp_path / "i.jsonl").notes
    assert "2 of 3 items are left out: 1 since nltk's punkt_tab is not here (python -m nltk.downloader punkt_tab" in note
    assert "NLTK_DATA" in note and "1 since lm-eval's checker draws" in note


@pytest.mark.skipif(not (REAL.exists() and punkt()), reason="needs the shared data and nltk's punkt_tab")
def test_all_of_the_real_file_can_be_scored_but_two():
    found = read_item_file(REAL)
    assert len(found.kinds["instructions"]) == 539
    assert {"ifeval-1122", "ifeval-1129"}.isdisjoint(doc["id"] for doc in found.kinds["instructions"])
    assert found.notes == [f"ifeval.jsonl: 2 of 541 items are left out: {instructions.DRAWN}."]
