"""The forms of local files that standard:FOLDER understands: made-up rows, in the columns of the real files.

Each task's forms give one prompt, one target and the same choices: those lm-eval makes of the hub's row.
"""

from __future__ import annotations

import json

import pytest

from harness.bundled import find_suites
from harness.errors import PlanError
from harness.tasks.lm_eval_collection import Collection
from harness.tasks.local_rows import dataset_loader
from harness.tasks.suites import load_suite

ASKED = {"question": "What is red?", "choices": ["grass", "blood", "snow", "coal"], "answer": "B"}
LETTERED = {"A": "grass", "B": "blood", "C": "snow", "D": "coal"}
TRIVIA = {"aliases": ["Blood", "Gore"], "matched_wiki_entity_name": "", "normalized_aliases": ["blood", "gore"]}
MADE = {"activity_label": "Mowing", "ctx_a": "A man mows.", "ctx_b": "he", "ctx": "A man mows. he", "endings": list("abcd")}
FORMS = {  # task: (lm-eval's task, the hub's row, the authors' and plain rows that say the same)
    "mmlu": (
        "mmlu_anatomy",
        {"question": "What is red?", "subject": "anatomy", "choices": ASKED["choices"], "answer": 1},
        [ASKED | {"subject": "anatomy"}, {"question": "What is red?", **LETTERED, "answer": "B", "subject": "anatomy"}],
    ),
    "triviaqa": (
        "triviaqa",
        {"question": "What is red?", "question_id": "tc_1", "entity_pages": {"title": []}, "answer": TRIVIA},
        [
            {"Question": "What is red?", "QuestionId": "tc_1", "Answer": {"Aliases": ["Blood", "Gore"], "Value": "Blood"}},
            {"question": "What is red?", "answer": ["Blood", "Gore"]},
        ],
    ),
    "nq_open": (
        "nq_open",
        {"question": "what is red", "answer": ["blood", "gore"]},
        [{"id": "nq-0", "question": "what is red?", "answer": ["blood", "gore"]}],
    ),
    "hellaswag": (
        "hellaswag",
        {"ind": 4, **MADE, "source_id": "activitynet~v_1", "split": "val", "split_type": "indomain", "label": "3"},
        [{"ind": 4, **MADE, "split": "val", "split_type": "indomain", "label": 3, "source_id": "activitynet~v_1"}],
    ),
    "arc_challenge": (
        "arc_challenge",
        {
            "id": "M_1",
            "question": "What is red?",
            "choices": {"text": ["grass", "blood"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        [
            {
                "id": "M_1",
                "question": {
                    "stem": "What is red?",
                    "choices": [{"text": "grass", "label": "1"}, {"text": "blood", "label": "2"}],
                },
                "answerKey": "2",
            },
            {"question": "What is red?", "choices": ["grass", "blood"], "answer": "B"},
        ],
    ),
    "winogrande": (
        "winogrande",
        {"sentence": "Ann met Bea and _ smiled.", "option1": "Ann", "option2": "Bea", "answer": "2"},
        [
            {"qID": "3-1", "sentence": "Ann met Bea and _ smiled.", "option1": "Ann", "option2": "Bea", "answer": "2"},
            {"question": "Ann met Bea and _ smiled.", "choices": ["Ann", "Bea"], "answer": "B"},
        ],
    ),
    "piqa": (
        "piqa",
        {"goal": "dry a cup", "sol1": "Wet it.", "sol2": "Wipe it.", "label": 1},
        [
            {"id": "f6", "goal": "dry a cup", "sol1": "Wet it.", "sol2": "Wipe it.", "label": "1"},
            {"question": "dry a cup", "choices": ["Wet it.", "Wipe it."], "answer": 1},
        ],
    ),
    "lambada_openai": (
        "lambada_openai",
        {"text": "The cat sat down"},
        [{"question": "The cat sat", "answer": "down"}],
    ),
    "wikitext": ("wikitext", {"page": " = A = \n A page . \n"}, [{"text": " = A = \n A page . \n"}]),
    "blimp": (
        "blimp_adjunct_island",
        {"sentence_good": "He runs.", "sentence_bad": "He run.", "field": "syntax", "UID": "adjunct_island", "pair_id": 0},
        [{"question": "", "choices": ["He run.", "He runs."], "answer": "B", "subject": "adjunct_island"}],
    ),
    "cola": ("cola", {"sentence": "He run.", "label": 0, "idx": 0}, [{"sentence": "He run.", "label": "0"}]),
    "sst2": ("sst2", {"sentence": "good fun ", "label": 1, "idx": 0}, [{"sentence": "good fun ", "label": "1"}]),
    "mrpc": (
        "mrpc",
        {"sentence1": "a b", "sentence2": "b a", "label": 1, "idx": 9},
        [{"Quality": "1", "#1 ID": "7", "#2 ID": "8", "#1 String": "a b", "#2 String": "b a"}],
    ),
    "qqp": (
        "qqp",
        {"question1": "a?", "question2": "b?", "label": 0, "idx": 0},
        [{"id": "0", "qid1": "1", "qid2": "2", "question1": "a?", "question2": "b?", "is_duplicate": "0"}],
    ),
    "mnli": (
        "mnli",
        {"premise": "He runs.", "hypothesis": "He moves", "label": 2, "idx": 0},
        [{"index": "0", "genre": "fiction", "sentence1": "He runs.", "sentence2": "He moves", "gold_label": "contradiction"}],
    ),
    "qnli": (
        "qnli",
        {"question": "Who?", "sentence": "He did.", "label": 0, "idx": 0},
        [{"index": "0", "question": "Who?", "sentence": "He did.", "label": "entailment"}],
    ),
    "rte": (
        "rte",
        {"sentence1": "He runs.", "sentence2": "He sits.", "label": 1, "idx": 0},
        [{"index": "57", "sentence1": "He runs.", "sentence2": "He sits.", "label": "not_entailment"}],
    ),
    "gsm8k": (
        "gsm8k_cot",
        {"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
        [{"id": "g", "question": "1 + 1?", "answer": "2", "solution": "1 + 1 = 2"}, {"question": "1 + 1?", "answer": 2}],
    ),
    "truthfulqa_mc1": (
        "truthfulqa_mc1",
        {
            "question": "What is red?",
            "mc1_targets": {"choices": ["blood", "grass"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["blood", "grass"], "labels": [1, 0]},
        },
        [
            {"question": "What is red?", "mc1_targets": {"grass": 0, "blood": 1}, "mc2_targets": {"grass": 0, "blood": 1}},
            {"question": "What is red?", "choices": ["grass", "blood"], "answer": "B"},
        ],
    ),
    "cnn_dailymail": (
        "cnn_dailymail_abisee",
        {"article": "Long text.", "highlights": "Text .", "id": "0f"},
        [{"question": "Long text.", "answer": "Text ."}],
    ),
    "wmt16-de-en": (
        "wmt16-de-en",
        {"translation": {"de": "Guten Tag", "en": "Good day"}},
        [{"de": "Guten Tag", "en": "Good day"}, {"question": "Guten Tag", "answer": "Good day"}],
    ),
    "ceval": (
        "ceval-valid_law",
        {"id": 0, "question": "什么是红的____", **LETTERED, "answer": "B", "explanation": "", "subject": "law"},
        [
            {"id": "0", "question": "什么是红的____", **LETTERED, "answer": "B", "subject": "law"},
            ASKED | {"question": "什么是红的____", "subject": "law"},
        ],
    ),
    "cmmlu": (
        "cmmlu_arts",
        {"Question": "什么是红的", **LETTERED, "Answer": "B", "subject": "arts"},
        [
            {"": "0", "Question": "什么是红的", **LETTERED, "Answer": "B", "subject": "arts"},
            ASKED | {"question": "什么是红的", "subject": "arts"},
        ],
    ),
}


def write(folder, name, rows):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def suite_of(name):
    return "standard-zh" if name in ("ceval", "cmmlu") else "standard"


def shown(leaf, doc):
    choices = leaf.doc_to_choice(doc) if leaf.OUTPUT_TYPE == "multiple_choice" else None
    return leaf.doc_to_text(doc), leaf.doc_to_target(doc), choices, leaf.fewshot_context(doc, 0)


@pytest.fixture(scope="module")
def asked():
    """What lm-eval makes of each hub's row."""
    found = {}
    for suite in ("standard", "standard-zh"):
        collection = Collection(find_suites()[suite], None)
        for name, (leaf, hub, _) in FORMS.items():
            if suite_of(name) == suite:
                row = {key: hub[key] for key in hub if key != "subject" or name == "mmlu"}  # the others have none
                task = collection.build(leaf, {"custom_dataset": dataset_loader([row])})
                (doc,) = task.eval_docs
                found[leaf] = shown(task, doc), doc
    return found


@pytest.mark.parametrize("form", ["the hub's", "another", "a third"])
def test_every_form_is_asked_as_lm_eval_asks_the_hubs_row(form, asked, tmp_path):
    place, names = ["the hub's", "another", "a third"].index(form), set()
    for name, (_, hub, others) in FORMS.items():
        if place <= len(others):
            write(tmp_path, name, [[hub, *others][place]])
            names.add(name)
    for suite in {suite_of(name) for name in names}:
        for task in load_suite(f"{suite}:{tmp_path}"):
            (doc,) = task.task.docs
            leaf = task.task.leaf(doc)
            expected, row = asked[leaf.config.task]
            assert shown(leaf, doc["doc"]) == expected
            names -= {name for name, (known, *_) in FORMS.items() if known == leaf.config.task}
            if not place:
                assert doc["doc"] == row  # it stays whole, so that the same items are drawn as from the hub
    assert not names


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("piqa", {"label": -1}, "has the label -1 and 2 choices"),  # a test split's hidden label
        ("piqa", {"label": None}, r"line 2 is no item of 'piqa' \(TypeError"),
        ("piqa", {"sol2": None}, "'sol2' is null"),
        ("sst2", {"label": 2}, "has the label 2 and 2 choices"),
        ("rte", {"label": "neutral"}, "line 2 is no item of 'rte'"),
        ("hellaswag", {"label": ""}, "line 2 is no item of 'hellaswag'"),
        ("winogrande", {"answer": ""}, "line 2 is no item of 'winogrande'"),
        ("triviaqa", {"answer": {"aliases": [], "value": "<unk>"}}, "has no answer"),
        ("arc_challenge", {"answerKey": ""}, "arc_challenge"),
        ("mmlu", {"answer": 4}, "has the label 4 and 4 choices"),
        ("ceval", {"answer": ""}, "line 2 is no item of 'ceval-valid'"),
        ("wikitext", {"page": " \n"}, "rows are whole pages"),
        ("mmlu", {"subject": "cooking"}, "no part of lm-eval's task: cooking"),
        ("ceval", {"subject": None}, "no part of lm-eval's task: None"),
    ],
)
def test_a_row_that_does_not_say_what_is_right_is_refused(name, change, told, tmp_path):
    write(tmp_path, name, [FORMS[name][1], FORMS[name][1] | change])
    with pytest.raises(PlanError, match=told) as error:
        load_suite(f"{suite_of(name)}:{tmp_path}")
    assert "lacks" not in str(error.value)  # what is wrong is told alone


def test_the_command_for_a_group_writes_a_file_of_all_its_parts(tmp_path, monkeypatch):
    """Run against a stand-in for the hub."""
    import datasets

    parts = {"law": [FORMS["ceval"][1] | {"subject": None}], "logic": [FORMS["ceval"][1] | {"id": 1, "subject": None}]}
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda path: list(parts))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, part, split: parts[part] if split == "val" else [])
    monkeypatch.chdir(tmp_path)
    collection = Collection(find_suites()["standard-zh"], None)
    command = collection.how_to_get(next(entry for entry in collection.entries if entry["name"] == "ceval-valid"))
    assert command.startswith('for ceval-valid run: python -c "import datasets')
    exec(command.split('"')[1], {})
    (task,) = load_suite(f"standard-zh:{tmp_path}")
    assert {leaf.config.task for leaf in task.task.leaves} == {"ceval-valid_law", "ceval-valid_logic"}
