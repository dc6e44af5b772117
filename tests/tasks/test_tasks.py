"""Suites from bundled names, YAML, JSONL and the user's records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.bundled import find_suites
from harness.errors import PlanError
from harness.files.item_file import read_items
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.plan.load import make_plan
from harness.tasks.domain import domain_tasks, read_asked
from harness.tasks.item_task import token_limit
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate
from tests.support.shared_data import SHARED

YAML = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{c}}}}"
doc_to_target: a
metric_list:
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
{extra}
"""


def written(folder: Path, name: str, rows: list) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def record(question: str, answer: str, **fields) -> Record:
    turns = (
        Turn("system", "Be brief."),
        Turn("user", "hi"),
        Turn("assistant", "hello"),
        Turn("user", question),
        Turn("assistant", answer),
    )
    return Record(record_id(turns), turns, "test", **fields)


@pytest.fixture
def template(base) -> ChatTemplate:
    return ChatTemplate(base.tokenizer)


# --- JSONL -----------------------------------------------------------------------------------------------------------


def test_choices_are_scored_by_likelihood(tmp_path):
    rows = [
        {"id": "x", "question": "Which?", "context": "Of these.", "choices": ["a", "b", "c", "d"][:k], "answer": "B"}
        for k in (2, 4)
    ]
    (task,) = load_suite(written(tmp_path, "pick.jsonl", rows))
    assert (task.name, task.family, task.suite) == ("pick", "pick", str(tmp_path / "pick.jsonl"))
    assert (task.channel, task.metric, task.chat, task.chance, task.items) == ("choice", "acc", True, None, 2)
    doc = task.task.docs[1]
    assert (doc["prompt"], task.task.doc_to_target(doc)) == ("Which?\nOf these.", "b")
    assert task.task.process_results(doc, [(-3, False), (-1, True), (-2, False), (-9, False)])["acc"] == 1
    assert task.task.process_results(doc, [(-3, False), (-4, True), (-2, False), (-9, False)])["acc"] == 0


def test_answers_may_be_letters_indices_or_texts(tmp_path):
    rows = [{"question": "q", "choices": ["red", "blue"], "answer": answer} for answer in ("B", 1, "blue")]
    assert [doc["answer"] for doc in read_items(Path(written(tmp_path, "a.jsonl", rows)))["choice"]] == [1, 1, 1]


def test_empty_questions_make_minimal_pairs(tmp_path):
    rows = [{"question": "", "choices": ["He runs.", "He run."], "answer": "A"}]
    (task,) = load_suite(written(tmp_path, "pairs.jsonl", rows))
    assert (task.channel, task.metric, task.chat) == ("likelihood", "acc", False)
    (one, _) = task.task.construct_requests(task.task.docs[0], "", metadata=("pairs", 0, 1))
    assert one.args == ("", "He runs.")


@pytest.mark.parametrize(
    ("answers", "metric"),
    [(["12", "7.5%"], "numeric"), (["card arrival", "top up"], "exact_match"), ([["Bob", "Rob"], ["Ann"]], "exact_match")],
)
def test_generated_answers_pick_their_metric(tmp_path, answers, metric):
    rows = [{"question": "q", "answer": answer} for answer in answers]
    (task,) = load_suite(written(tmp_path, "free.jsonl", rows))
    assert (task.channel, task.metric, task.chance) == ("generation", metric, 0)
    assert metric.replace("_", " ") in task.note


def test_any_accepted_answer_counts(tmp_path):
    (task,) = load_suite(written(tmp_path, "free.jsonl", [{"question": "q", "answer": ["Bob", "Rob"]}]))
    assert task.task.process_results(task.task.docs[0], ["rob"])["exact_match"] == 1


def test_a_type_overrides_the_pick(tmp_path):
    rows = [{"question": "q", "answer": "12", "type": "rougeL"}, {"text": "some words", "type": "text"}]
    found = {task.name: task for task in load_suite(written(tmp_path, "mixed.jsonl", rows))}
    assert {name: task.metric for name, task in found.items()} == {"mixed_rouge_l": "rouge_l", "mixed_text": "bits_per_byte"}
    text = found["mixed_text"]
    assert (text.higher_better, text.channel) == (False, "likelihood")
    assert text.task.process_results(text.task.docs[0], [-6.931471805599453])["bits_per_byte"] == pytest.approx(1.0)


def test_subjects_cluster_where_there_are_enough(tmp_path):
    rows = [{"question": "q", "choices": ["a", "b"], "answer": "A", "subject": f"s{i % 12}"} for i in range(24)]
    assert len({d["cluster"] for d in read_items(Path(written(tmp_path, "a.jsonl", rows)))["choice"]}) == 12
    few = [row | {"subject": "one"} for row in rows]
    assert {d["cluster"] for d in read_items(Path(written(tmp_path, "b.jsonl", few)))["choice"]} == {""}


def test_all_faults_are_told_at_once(tmp_path):
    rows = [
        {"question": "q", "answer": None},
        {"question": "q", "choices": ["a", "b"], "answer": "C"},
        {"question": "", "answer": "x"},
        {"question": "q", "choices": ["a", ""], "answer": "A"},
        {"question": "q", "answer": "x", "type": "guess"},
        ["no object"],
    ]
    path = written(tmp_path, "bad.jsonl", rows)
    Path(path).write_text(Path(path).read_text() + "{not json\n")
    with pytest.raises(PlanError) as error:
        load_suite(path)
    assert [f"bad.jsonl record {n} (line {n}):" in fault for n, fault in enumerate(error.value.faults, 1)] == [True] * 7
    for fault, field in zip(
        error.value.faults, ("'answer'", "'answer' 'C' is none", "'question'", "'choices'", "'type' is 'guess'"), strict=False
    ):
        assert field in fault


def test_a_folder_of_jsonl_is_a_suite(tmp_path):
    for name in ("one", "two"):
        written(tmp_path, f"{name}.jsonl", [{"question": "q", "answer": "a"}])
    assert [task.name for task in load_suite(str(tmp_path))] == ["one", "two"]


def test_room_to_answer_comes_from_the_answers():
    assert token_limit(["a b c", "a " * 40], lambda text: len(text.split())) == 54
    assert token_limit(["yes"]) == 16
    assert token_limit(["x" * 10_000]) == 256


# --- YAML, names -------------------------------------------------------------------------------------------------------


def suite_of_yaml(folder: Path, extra: str = "", rows: int = 1, name: str = "made_up_pick") -> str:
    found = [{"q": f"Which {i}?", "c": ["x", "y", "z"], "a": 1} for i in range(rows)]
    file = written(folder, f"rows_{folder.name}_{name}.json", found)
    (folder / f"{name}.yaml").write_text(YAML.format(file=file, extra=extra, name=name))
    return str(folder)


def test_yaml_has_sensible_defaults(tmp_path):
    (task,) = load_suite(suite_of_yaml(tmp_path))
    assert (task.name, task.family, task.group, task.seen) == ("made_up_pick", "made_up_pick", "general", False)
    assert (task.channel, task.metric, task.chance, task.chat) == ("choice", "acc_norm", None, True)


def test_yaml_tells_what_lm_eval_does_not_know(tmp_path):
    told = "metadata: {lethe: {family: f, seen: true, channel: likelihood, chance: 0.4, primary: acc, chat: false}}"
    (task,) = load_suite(suite_of_yaml(tmp_path, told))
    assert (task.family, task.seen, task.channel) == ("f", True, "likelihood")
    assert (task.chance, task.metric, task.chat) == (0.4, "acc", False)


def test_missing_data_is_named_with_its_cure(tmp_path):
    (tmp_path / "gone.yaml").write_text(YAML.format(file=tmp_path / "none.json", extra="", name="gone"))
    with pytest.raises(PlanError, match=r"suite '.*' cannot be loaded .*\.jsonl"):
        load_suite(str(tmp_path))


@pytest.mark.parametrize("name", ["no/such/folder", "missing.jsonl"])
def test_what_is_no_suite_is_refused(name):
    with pytest.raises(PlanError, match="give a bundled suite"):
        load_suite(name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(PlanError, match="neither"):
        load_suite(str(tmp_path))


def test_bundled_suites_go_by_name(tmp_path):
    folder = tmp_path / "toy"
    (folder / "tasks").mkdir(parents=True)
    suite_of_yaml(folder / "tasks")
    (folder / "suite.toml").write_text('name = "toy suite"\ntasks = "tasks"\nmodel = "base"\n')
    suite = find_suites(tmp_path)["toy suite"]
    assert (suite.path("model"), suite.path("pool")) == (folder / "base", None)
    assert [task.suite for task in load_suite("toy suite", root=tmp_path)] == ["toy suite"]


# --- the user's records --------------------------------------------------------------------------------------------------


def test_domain_records_ask_for_their_last_answer(template):
    (task,) = domain_tasks([record("Colour?", "blue")], template, {})
    (doc,) = task.task.docs
    assert doc["targets"] == ["blue"]
    assert "Be brief." in doc["prompt"]
    assert "hello" in doc["prompt"]
    assert "blue" not in doc["prompt"]
    assert (task.group, task.seen, task.name) == ("domain", None, "domain_exact_match")


def test_domain_records_know_their_cluster(template):
    one = record("Colour?", "blue")
    (task,) = domain_tasks([one], template, {one.id: "c1"})
    assert task.task.docs[0]["cluster"] == "c1"


def test_kinds_with_enough_items_are_tasks_of_their_own(template):
    records = [record(f"Sum {i}?", str(i), kind="sum") for i in range(20)]
    records += [record(f"Mood {i}?", "good", kind="mood") for i in range(25)]
    assert [t.name for t in domain_tasks(records, template, {})] == ["domain_mood_exact_match", "domain_sum_numeric"]


def test_without_kinds_the_form_of_the_answer_decides(template):
    options = ("red", "blue")
    records = [record(f"Pick {i}", "AB"[i % 2], choices=options) for i in range(20)]
    records += [record(f"Sum {i}?", str(i)) for i in range(20)]
    records += [record("Say", "one two three four five six seven")]
    tasks = {task.name: task for task in domain_tasks(records, template, {})}
    assert sum(task.items for task in tasks.values()) == 41
    assert tasks["domain_numeric"].items == 20
    assert len(tasks) == 2


def test_rare_forms_together_have_a_name_of_their_own(template):
    records = [record(f"Mood {i}?", "good") for i in range(30)]
    records += [record(f"Sum {i}?", str(i)) for i in range(12)]
    records += [record(f"Pick {i}", "AB"[i % 2], choices=("red", "blue")) for i in range(12)]
    tasks = {task.name: task.items for task in domain_tasks(records, template, {})}
    assert tasks == {"domain_exact_match": 30, "domain_others_exact_match": 24}


def test_letters_of_choices_have_a_chance(template):
    records = [record(f"Pick {i}", "AB"[i % 2], choices=("red", "blue")) for i in range(20)]
    (task,) = domain_tasks(records, template, {})
    assert (task.metric, task.chance) == ("letter", 0.5)
    assert task.task.process_results(task.task.docs[0], ["(A) red"])["letter"] == 1


def test_the_metric_may_be_asked_for(template):
    records = [record(f"Sum {i}?", f"{i} dollars", kind="sum") for i in range(20)]
    records += [record(f"Mood {i}?", "good", kind="mood") for i in range(25)]
    asked = read_asked("sum=numeric(10%, USD) f1", [r.kind for r in records])
    mood, total = domain_tasks(records, template, {}, "domain", asked)
    assert (mood.metric, total.metric) == ("token_f1", "numeric")
    assert "as domain_metric asks" in total.note and "tolerance 10%, unit USD" in total.note
    ten = next(doc for doc in total.task.docs if doc["targets"] == ["10 dollars"])
    assert [total.task.process_results(ten, [text])["numeric"] for text in ("$10.9", "$11.5", "€10")] == [1, 0, 0]


def test_a_metric_that_does_not_fit_is_refused(template):
    records = [record(f"Mood {i}?", "good", kind="mood") for i in range(25)]
    with pytest.raises(PlanError, match="'numeric' does not fit mood: 25 of 25 answers hold no number"):
        domain_tasks(records, template, {}, "domain", read_asked("numeric"))
    with pytest.raises(PlanError, match="names the kind 'sum', but the data's kinds are mood"):
        read_asked("sum=numeric", [r.kind for r in records])
    with pytest.raises(PlanError, match=r"domain_metric: 'accuracy' is no metric; use exact"):
        make_plan({"domain_metric": "accuracy"})


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize(
    ("file", "metric", "channel"),
    [
        ("finance/eval/banking77_test", "exact_match", "generation"),
        ("finance/eval/banking77_mc_test", "acc", "choice"),
        ("finance/eval/finqa_heldout", "numeric", "generation"),
        ("finance/eval/fineva_zh_test", "acc", "choice"),
        ("general/eval/blimp_60_per_task", "acc", "likelihood"),
        ("general/eval/gsm8k_test", "numeric", "generation"),
        ("general/eval/ifeval", "prompt_level_strict_acc", "generation"),
        ("general/eval/nq_open_dev", "exact_match", "generation"),
    ],
)
def test_real_files_need_no_code(file, metric, channel):
    path = SHARED / f"{file}.jsonl"
    (task,) = load_suite(str(path))
    assert (task.metric, task.channel) == (metric, channel)
    left_out = re.search(r"([\d,]+) of [\d,]+ items are left out", task.note)
    assert task.items == path.read_text(encoding="utf-8").count("\n") - (int(left_out[1]) if left_out else 0)
