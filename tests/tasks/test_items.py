"""JSONL suites: every type, sidecars, few-shot examples, a scorer of one's own, rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.errors import PlanError
from harness.evaluation.evaluator import Evaluator
from harness.files.item_file import read_item_file
from harness.files.rule_files import read_rules
from harness.tasks.suites import load_suite
from harness.text.rules import parse_rules
from harness.tokens.chat_template import ChatTemplate

CHOICE = [
    {"question": f"Which {i}?", "choices": ["red", "blue"], "answer": "AB"[i % 2], "subject": f"s{i % 3}"} for i in range(12)
]


def suite(folder: Path, rows: list, sidecar: str = "", name: str = "own") -> str:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    if sidecar:
        (folder / f"{name}.toml").write_text(sidecar, encoding="utf-8")
    return str(folder / f"{name}.jsonl")


def judged(path: str, output: str) -> dict:
    (task,) = load_suite(path)
    return dict(task.task.process_results(task.task.docs[0], [output]))


# --- types -------------------------------------------------------------------------------------------------------------


def test_a_row_may_declare_tolerance_and_unit(tmp_path):
    path = suite(tmp_path, [{"question": "How heavy?", "answer": "2 kg", "type": "numeric", "unit": "kg", "tolerance": "5%"}])
    assert judged(path, "It is 2,050 g.")["numeric"] == 1
    assert judged(path, "It is 2.2 kg.")["numeric"] == 0
    assert judged(path, "It is 2 lb.")["numeric"] == 0


def test_an_unreadable_tolerance_is_refused(tmp_path):
    with pytest.raises(PlanError, match="'tolerance' is 'much'"):
        load_suite(suite(tmp_path, [{"question": "q", "answer": "2", "type": "numeric", "tolerance": "much"}]))


def test_a_continuation_is_read_without_a_chat(tmp_path):
    path = suite(tmp_path, [{"question": "The cat sat on the", "answer": "mat"}], 'type = "continuation"')
    (task,) = load_suite(path)
    assert (task.channel, task.metric, task.chat, task.chance) == ("likelihood", "acc", False, 0)
    (request,) = task.task.construct_requests(task.task.docs[0], "The cat sat on the", metadata=("own", 0, 1))
    assert request.args == ("The cat sat on the", " mat")
    found = task.task.process_results(task.task.docs[0], [(-2.0794415416798357, True)])
    assert found == {"acc": 1, "bits_per_byte": pytest.approx(1)}
    assert task.task.higher_is_better() == {"acc": True, "bits_per_byte": False}


def test_constraints_of_ones_own_need_no_code(tmp_path):
    rows = [{"question": "hello", "required": [r"(?i)\b(hi|hello)\b"], "forbidden": r"(?i)\bclause\b"}]
    path = suite(tmp_path, rows, 'rules = [{name = "short", bounds = {low = 0, high = 9}}]')
    assert judged(path, "Hello there!") == {"compliance": 1}
    assert judged(path, "Good day.")["compliance"] == 0
    assert judged(path, "Hello, see clause 4.")["compliance"] == 0
    assert judged(path, "Hello number 12")["compliance"] == 0


def test_ifeval_items_are_checked_by_lm_evals_own_checkers(tmp_path):
    rows = [{"id": 1, "question": "Say it. No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}]
    path = suite(tmp_path, rows)
    (task,) = load_suite(path)
    assert (task.metric, task.channel, task.task._config.generation_kwargs["max_gen_toks"]) == (
        "prompt_level_strict_acc",
        "generation",
        1280,
    )
    assert judged(path, "One two.")["prompt_level_strict_acc"] == 1
    assert judged(path, "One, two.") == dict.fromkeys(task.task.metrics, 0)
    with pytest.raises(PlanError, match="'instruction_id_list' has 'punctuation:none'"):
        load_suite(suite(tmp_path, [rows[0] | {"instruction_id_list": ["punctuation:none"]}]))


def test_items_whose_checker_cannot_run_are_left_out_and_said_so(tmp_path, monkeypatch):
    from harness.files import instructions

    rows = [{"question": str(i), "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for i in range(3)]
    monkeypatch.setattr(instructions, "unrunnable", lambda doc: "data is missing" if doc["prompt"] == "1" else "")
    (task,) = load_suite(suite(tmp_path, rows))
    assert task.items == 2
    assert "1 of 3 items are left out: data is missing" in task.note


# --- a scorer of one's own ---------------------------------------------------------------------------------------------


def test_a_python_scorer_beside_the_file(tmp_path):
    (tmp_path / "judge.py").write_text(
        "def vowels(output, row):\n    return {'share': sum(c in row['answer'] for c in output) / 4}\n"
    )
    path = suite(tmp_path, [{"question": "q", "answer": "aeiou"}], 'scorer = "judge.py:vowels"\nmax_tokens = 8')
    (task,) = load_suite(path)
    assert (task.metric, task.task._config.generation_kwargs["max_gen_toks"]) == ("share", 8)
    assert judged(path, "aaxx") == {"share": 0.5}
    before = task.task.docs[0]["source"]
    (tmp_path / "judge.py").write_text("def vowels(output, row):\n    return 1\n")
    (task,) = load_suite(path)
    assert task.task.docs[0]["source"] != before  # its items are other items now, so stored scores do not answer for them


def test_a_scorer_that_fails_stops_the_plan(tmp_path):
    (tmp_path / "judge.py").write_text("def wrong(output, row):\n    return row['missing']\n")
    with pytest.raises(PlanError, match=r"own.jsonl record 1 \(line 1\): scorer judge.py:wrong fails .*KeyError"):
        load_suite(suite(tmp_path, [{"question": "q"}], 'scorer = "judge.py:wrong"'))
    with pytest.raises(PlanError, match="is not found"):
        load_suite(suite(tmp_path, [{"question": "q"}], 'scorer = "none.py:f"'))


# --- few-shot ------------------------------------------------------------------------------------------------------------


def test_shots_come_from_a_declared_file_by_subject(tmp_path):
    examples = [{"question": f"Example {i}?", "choices": ["x", "y"], "answer": "A", "subject": f"s{i % 3}"} for i in range(9)]
    suite(tmp_path, examples, name="dev_part")
    suite(tmp_path, CHOICE, 'shots = 2\nexamples = "dev_part.jsonl"')
    (task,) = load_suite(str(tmp_path))  # the examples are no task of their own
    assert task.items == 12
    text = task.task.fewshot_context(task.task.docs[1], apply_chat_template=True, chat_template=lambda turns: turns)
    assert [turn["role"] for turn in text] == ["user", "assistant", "user", "assistant", "user"]
    assert text[1]["content"] == "x"
    assert text[-1]["content"] == "Which 1?"
    asked = {example["question"]: example["subject"] for example in examples}
    assert {asked[turn["content"]] for turn in text[:-1:2]} == {"s1"}


def test_shots_from_a_dev_part_are_not_evaluated(tmp_path):
    path = suite(tmp_path, CHOICE, "shots = 3\ndev = 4")
    file, again = read_item_file(Path(path)), read_item_file(Path(path))
    (docs,) = file.kinds.values()
    assert (len(docs), len(file.examples)) == (8, 4)
    assert not {doc["prompt"] for doc in docs} & {doc["prompt"] for doc in file.examples}
    assert file.examples == again.examples
    suite(tmp_path, CHOICE, "shots = 3\ndev = 4\nseed = 1")
    assert read_item_file(Path(path)).examples != file.examples


def test_without_a_chat_shots_are_text(tmp_path):
    rows = [{"question": f"{i} and", "answer": f"{i + 1}"} for i in range(4)]
    (task,) = load_suite(suite(tmp_path, rows, 'type = "continuation"\nshots = 1\ndev = 1'))
    (shot,) = task.task.shots(task.task.docs[0])
    context = task.task.fewshot_context(task.task.docs[0])
    assert context == f"{shot['prompt']} {shot['targets'][0]}\n\n{task.task.docs[0]['prompt']}"


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [
        ("shots = 2", "2 shots need `examples`"),
        ('shots = 1\nexamples = "none.jsonl"', "'none.jsonl' is not beside it"),
        ("shots = 1\ndev = 12", "leaves no item"),
        ('typ = "choice"', "did you mean 'type'"),
        ('shots = "two"', "'shots' is 'two'; give int"),
        ("shots = [", "is not TOML"),
    ],
)
def test_faults_of_a_sidecar_are_named(tmp_path, sidecar, said):
    with pytest.raises(PlanError, match=said):
        load_suite(suite(tmp_path, CHOICE, sidecar))


def test_a_sidecar_names_the_family_and_whether_it_is_seen(tmp_path):
    (task,) = load_suite(suite(tmp_path, CHOICE, 'family = "colours"\nseen = true'))
    assert (task.family, task.seen) == ("colours", True)


# --- through the evaluator ---------------------------------------------------------------------------------------------


def test_every_kind_goes_through_the_evaluator(tmp_path, base):
    (tmp_path / "judge.py").write_text("def half(output, row):\n    return 0.5\n")
    suite(tmp_path, CHOICE[:3], name="choice", sidecar="shots = 1\ndev = 1")
    suite(tmp_path, [{"question": "a", "answer": "b"}], 'type = "continuation"', "continuation")
    suite(tmp_path, [{"question": "a", "required": "x"}], "max_tokens = 4", "constraint")
    suite(tmp_path, [{"question": "a"}], 'scorer = "judge.py:half"\nmax_tokens = 4', "python")
    suite(tmp_path, [{"question": "a", "answer": "7 kg", "type": "numeric", "unit": "kg"}], "max_tokens = 4", "numeric")
    evaluator = Evaluator(load_suite(str(tmp_path)), ChatTemplate(base.tokenizer), base.tokenizer, max_length=256)
    primary = evaluator.score(base.load(torch.float32)).query("primary")
    assert primary.groupby("task")["metric"].first().to_dict() == {
        "choice": "acc", "constraint": "compliance", "continuation": "acc", "numeric": "numeric", "python": "score",
    }  # fmt: skip
    assert primary.loc[primary["task"] == "python", "score"].to_list() == [0.5]


# --- rules -----------------------------------------------------------------------------------------------------------------

RULES = """
rules:
  - name: disclaimer
    when: "(?i)invest"
    required: "not advice"
  - forbidden: ["(?i)guaranteed", "risk-free"]
  - {name: json, schema: {type: object, required: [amount]}}
  - bounds: {find: "rate of ([0-9.]+)", low: 0, high: 25}
"""


def test_rules_are_kept_or_broken(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    disclaimer, forbidden, schema, bounds = parse_rules(read_rules(str(tmp_path / "rules.yaml")))
    assert [disclaimer.keeps("x", prompt) for prompt in ("Hello", "Should I invest?")] == [None, False]
    assert disclaimer.keeps("This is not advice.", "Invest?")
    assert [forbidden.keeps(text) for text in ("Guaranteed!", "It depends.")] == [False, True]
    assert [schema.keeps(t) for t in ('{"amount": 3}', '```json\n{"amount": 3}\n```', "{}", "3 dollars")] == [
        True,
        True,
        False,
        False,
    ]
    assert [bounds.keeps(t) for t in ("a rate of 24.9 %", "a rate of 26", "no rate")] == [True, False, True]


def test_all_faults_of_rules_are_told_at_once():
    given = [
        {"required": "("},
        {"forbidden": []},
        {"schema": {"type": "no"}},
        {"bounds": {"find": "x"}},
        {"name": "a"},
        {"required": "a", "wen": "b"},
    ]
    with pytest.raises(PlanError) as error:
        parse_rules(given, "rules.yaml")
    assert [f"rules.yaml {n}:" in fault for n, fault in enumerate(error.value.faults, 1)] == [True] * 6
    for fault, word in zip(error.value.faults, ("regular", "[]", "JSON Schema", "low, high", "no check", "'wen'"), strict=True):
        assert word in fault
