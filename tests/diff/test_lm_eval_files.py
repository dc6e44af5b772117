"""`lethe diff` on files that lm-eval itself writes, for the embedded base and a model tuned from it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.commands.cli import main
from harness.diff.diff import Diff, diff
from harness.diff.lm_eval_run import read_both
from harness.diff.shown import remarks

ROOT = Path(__file__).resolve().parents[2]
CHOICE = """
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: brier_score, aggregation: brier_score, higher_is_better: false}}
  - {{metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}}
"""
TEXTS = """
task: letters_texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - {{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}
  - {{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}}
"""
ANSWERS = """
task: letters_answers
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: gold_text
generation_kwargs: {{until: ["\\n"], max_gen_toks: 2}}
repeats: 2
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
filter_list:
  - name: first
    filter: [{{function: take_first}}]
  - name: word
    filter: [{{function: regex, regex_pattern: "(\\\\w+)"}}, {{function: take_first}}]
"""
GROUPS = {
    "letters_by_size": """
group: letters_by_size
task: [letters_choice, letters_short]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
  - {metric: mcc, aggregation: mean, weight_by_size: true}
""",
    "letters_alike": """
group: letters_alike
task: [letters_by_size, letters_texts]
aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: false}]
""",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Folders that lm-eval wrote for the base and for a tuned copy, and what it printed."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.bundled import embedded

    folder = tmp_path_factory.mktemp("lm-eval")
    rng = random.Random(0)
    words = ["the bank", "a bond", "the fund", "an asset", "the price", "a share"]
    documents = []
    for number in range(40):
        question = f"In year {1900 + number} {rng.choice(words)} paid for"
        documents.append({"question": question, "choices": [f" {word}" for word in rng.sample(words, 3)], "gold": number % 3})
        documents[-1]["gold_text"] = documents[-1]["choices"][0].split()[0]
    data = folder / "documents.jsonl"
    data.write_text("\n".join(map(json.dumps, documents)))
    (folder / "tasks").mkdir()
    short = folder / "short.jsonl"
    short.write_text("\n".join(map(json.dumps, documents[:16])))
    for name, text in (("choice", CHOICE), ("texts", TEXTS), ("answers", ANSWERS)):
        (folder / "tasks" / f"{name}.yaml").write_text(text.format(file=data, task="letters_choice"))
    (folder / "tasks" / "short.yaml").write_text(CHOICE.format(file=short, task="letters_short"))
    for name, text in GROUPS.items():
        (folder / "tasks" / f"{name}.yaml").write_text(text)

    home = embedded().model
    base = AutoModelForCausalLM.from_pretrained(home, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(home)
    printed = {"base": _evaluated(base, tokenizer, folder, "base")}
    optimizer = torch.optim.SGD(base.parameters(), lr=0.5)
    tokens = tokenizer([d["question"] + " the bank" for d in documents[:8]], return_tensors="pt", padding=True)["input_ids"]
    for _ in range(2):
        base(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    printed["tuned"] = _evaluated(base.eval(), tokenizer, folder, "tuned")
    return {"folder": folder, "printed": printed}


def _evaluated(model: Any, tokenizer: Any, folder: Path, name: str) -> dict[str, Any]:
    """Let lm-eval score a model and write its files, as its command does with --output_path and --log_samples."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(folder / name))
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu")
    results = simple_evaluate(
        lm,
        tasks=["letters_alike", "letters_answers"],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
        evaluation_tracker=tracker,
        limit=36 if name == "tuned" else None,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return results["results"]


@pytest.fixture(scope="module")
def result(runs: dict[str, Any]) -> Diff:
    return diff(*read_both(str(runs["folder"] / "base"), str(runs["folder"] / "tuned")))


def test_scores_of_each_task_are_what_lm_eval_printed(runs, result):
    scored = {(one.task, one.metric, one.filter): one for one in result.differences}
    assert {task for task, _, _ in scored} == {"letters_choice", "letters_short", "letters_texts", "letters_answers"}
    for (task, metric, chosen), difference in scored.items():
        for run, alone in zip(("base", "tuned"), difference.alone, strict=True):
            printed = runs["printed"][run][task][f"{metric},{chosen}"]
            assert alone / difference.scale == pytest.approx(printed, rel=1e-9), (task, metric, run)
    assert ("letters_choice", "brier_score", "none") in scored
    changed = scored["letters_texts", "word_perplexity", "none"]
    assert changed.before != changed.after
    assert not changed.rising


def test_groups_are_averaged_as_lm_eval_averages_them(runs, result):
    """By size the two runs weigh their tasks differently: 40 and 16 documents, 36 and 16."""
    assert [(group.task, group.metric) for group in result.groups] == [("letters_alike", "acc"), ("letters_by_size", "acc")]
    for group in result.groups:
        printed = [runs["printed"][run][group.task]["acc,none"] for run in ("base", "tuned")]
        assert [score / group.scale for score in group.alone] == pytest.approx(printed, rel=1e-9)
        assert group.change.n == 36 + 16
        assert group.change.low < group.change.high
    alike, by_size = result.groups
    assert alike.before != by_size.before
    printed = [runs["printed"][run]["letters_by_size"]["mcc,none"] for run in ("base", "tuned")]
    assert list(result.without_interval["letters_by_size"]["mcc,none"]) == pytest.approx(printed)
    assert any(line.startswith("letters_by_size: mcc is not what") for line in remarks(result))


def test_two_filters_are_two_lines_and_a_corpus_metric_has_no_interval(runs, result):
    assert {one.filter for one in result.differences if one.task == "letters_answers"} == {"first", "word"}
    choice = next(task for task in result.tasks if task.task == "letters_choice")
    assert set(choice.unpaired) == {"mcc,none"}
    printed = [runs["printed"][run]["letters_choice"]["mcc,none"] for run in ("base", "tuned")]
    assert list(choice.unpaired["mcc,none"]) == pytest.approx(printed)


def test_documents_of_one_run_alone_are_counted_and_named(result):
    for task in result.tasks:
        if task.task == "letters_short":
            assert (len(task.documents), task.only) == (16, ((), ()))
            continue
        assert len(task.documents) == 36
        assert [document.doc_id for document in task.only[0]] == [36, 37, 38, 39]
        assert task.only[0][0].words.startswith("In year 1936")
        assert task.only[1] == ()


def test_a_run_against_itself_is_exactly_zero(runs):
    place = str(runs["folder"] / "base")
    result = diff(*read_both(place, place))
    for difference in (*result.differences, *result.groups, *result.means):
        change = difference.change
        assert (change.value, change.low, change.high) == (0, 0, 0)
        assert difference.lost in (None, ())
        assert difference.outcome == "no difference seen"


def test_the_command_prints_a_table_and_writes_its_files(runs, tmp_path, capsys):
    folder = runs["folder"]
    assert main(["diff", str(folder / "base"), str(folder / "tuned"), "--to", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "letters_texts" in text
    assert "4 documents are in A alone" in text
    kept = json.loads((tmp_path / "diff.json").read_text())
    assert [entry["doc_id"] for entry in kept["tasks"][0]["only_a"]] == [36, 37, 38, 39]
    assert "| letters_choice | acc |" in (tmp_path / "diff.md").read_text()
    assert "<script" not in (tmp_path / "diff.html").read_text()


def test_json_is_all_that_is_printed_where_it_is_asked_for(runs, capsys):
    folder = runs["folder"]
    main(["diff", str(folder / "base"), str(folder / "tuned"), "--json"])
    assert {entry["task"] for entry in json.loads(capsys.readouterr().out)["differences"]} >= {"letters_choice"}
