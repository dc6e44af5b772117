"""What `lethe diff` says of two runs whose differences are known, and of files that are not lm-eval's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.diff.diff import Diff, diff
from harness.diff.difference import mcnemar
from harness.diff.lm_eval_run import LmEvalRun, Sample, read_both, read_run
from harness.diff.shown import cells, markdown, page, remarks
from harness.errors import PlanError
from harness.stats.analysis import DETECTABLE, analyse

DATE = "2026-01-01T00-00-00.000001"


def run_of(values: Sequence[float], task: str = "sums", metric: str = "acc", **changes: Any) -> LmEvalRun:
    """A run with one metric; document i is `doc i`."""
    samples = [Sample(i, f"doc {i}", f"prompt {i}", "none", {metric: value}, f"doc {i}") for i, value in enumerate(values)]
    return LmEvalRun("model", {task: tuple(samples)}, **changes)


def coins(n: int, share: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < share) for _ in range(n)]


def sole(before: LmEvalRun, after: LmEvalRun) -> Any:
    (difference,) = diff(before, after).differences
    return difference


def test_interval_is_that_of_the_projects_paired_statistics():
    before, after = coins(400, 0.6, 1), coins(400, 0.5, 2)
    difference = sole(run_of(before), run_of(after))
    fixed = {"seed": 0, "task": "sums", "metric": "acc", "family": "f", "group": "domain", "seen": pd.NA, "chance": 0.0}
    fixed |= {"channel": "choice", "primary": True, "higher_better": True}
    parts = [
        pd.DataFrame({"row": row, "item": [str(i) for i in range(400)], "cluster": pd.NA, "score": scores}).assign(**fixed)
        for row, scores in (("base", before), ("tuned", after))
    ]
    gain = analyse(pd.concat(parts, ignore_index=True), "base").estimate("gain", "tuned")
    change = difference.change
    assert change.value == pytest.approx(gain.value)
    assert [change.low, change.high] == pytest.approx([gain.low, gain.high], abs=0.35)  # two draws of a bootstrap
    assert change.detectable == pytest.approx(DETECTABLE * np.std(np.subtract(after, before)) * 100 / 20, rel=0.06)


def test_pairing_makes_the_interval_narrow():
    before = coins(1000, 0.5, 1)
    after = [1.0 - score if i % 25 == 0 else score for i, score in enumerate(before)]
    change = sole(run_of(before), run_of(after)).change
    assert change.high - change.low < 3  # unpaired: 2 · 1.96 · √(2 · 0.25 / 1000) is 8.8 points


def test_draws_of_kinds_of_documents_are_draws_of_documents():
    """Scores of 0 and 1 are drawn by kind; the same scores, each a little different, document by document."""
    before, after = coins(400, 0.6, 1), coins(400, 0.5, 2)
    moved = [score + 1e-9 * i for i, score in enumerate(after)]
    by_kind, by_document = sole(run_of(before), run_of(after)).change, sole(run_of(before), run_of(moved)).change
    # the second is no share: it is shown as it is scored
    assert by_kind.se == pytest.approx(100 * by_document.se, rel=0.05)
    assert [by_kind.low, by_kind.high] == pytest.approx([100 * by_document.low, 100 * by_document.high], abs=0.6)


def test_two_tasks_are_drawn_independently():
    before, after = coins(400, 0.6, 1), coins(400, 0.5, 2)
    runs = []
    for scores in (before, after):
        runs.append(LmEvalRun("m", {name: run_of(scores).samples["sums"] for name in ("one", "two")}))
    result = diff(*runs)
    (mean,) = result.means
    assert mean.change.se == pytest.approx(result.differences[0].change.se / np.sqrt(2), rel=0.06)


def grouped(scores: dict[str, Sequence[float]], printed: float) -> LmEvalRun:
    """A run of a group `g` with a printed score, of the tasks named."""
    samples = {task: run_of(values, task).samples[task] for task, values in scores.items()}
    told = {task: {"acc,none": float(np.mean(values))} for task, values in scores.items()}
    return LmEvalRun("m", samples, told | {"g": {"acc,none": printed}}, groups={"g": tuple(scores)})


def test_a_group_whose_tasks_do_not_give_its_score_has_no_interval():
    parts = {"one": coins(40, 0.5, 1), "two": coins(20, 0.5, 2)}
    by_size = float(np.mean([*parts["one"], *parts["two"]]))
    right, wrong = grouped(parts, by_size), grouped(parts, 0.123)
    assert [group.before / 100 for group in diff(right, right).groups] == [pytest.approx(by_size)]
    result = diff(right, wrong)
    assert not result.groups
    assert result.without_interval == {"g": {"acc,none": (by_size, 0.123)}}
    fewer = grouped({"one": parts["one"]}, float(np.mean(parts["one"])))
    assert not diff(right, fewer).groups


def test_neither_torch_nor_pandas_nor_scipy_is_loaded():
    code = "import sys, harness.diff.diff, harness.diff.shown; print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_mcnemar_is_the_exact_binomial_test():
    from scipy.stats import binomtest

    for lost, won in ((0, 0), (1, 0), (3, 12), (9, 9), (40, 15), (5200, 4800)):
        expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
        assert mcnemar(lost, won) == pytest.approx(expected)


def test_flips_are_named_and_lower_is_better_turns_them_round():
    before, after = [1.0, 1.0, 0.0, 0.0] * 5, [1.0, 0.0, 1.0, 0.0] * 5
    rising = sole(run_of(before), run_of(after))
    assert [document.doc_id for document in rising.lost] == [1, 5, 9, 13, 17]
    assert [document.doc_id for document in rising.won] == [2, 6, 10, 14, 18]
    told = {"rising": {"sums": {"acc": False}}}
    falling = sole(run_of(before, **told), run_of(after, **told))
    assert falling.lost == rising.won


def test_documents_are_paired_by_content_whatever_their_number():
    before = run_of(coins(30, 0.5, 1))
    samples = [Sample(100 + s.doc_id, s.content, s.prompt, s.filter, s.values, s.words) for s in before.samples["sums"]]
    difference = sole(before, LmEvalRun("other", {"sums": tuple(reversed(samples))}))
    assert (difference.change.value, difference.change.n) == (0, 30)


def test_a_document_that_was_changed_is_unmatched_on_both_sides():
    before, after = run_of(coins(30, 0.5, 1)), run_of(coins(30, 0.5, 1))
    changed = after.samples["sums"][4]
    other = Sample(4, "another", changed.prompt, "none", changed.values, "another")
    after = LmEvalRun("b", {"sums": (*after.samples["sums"][:4], other, *after.samples["sums"][5:])})
    (task,) = diff(before, after).tasks
    assert [[document.doc_id for document in only] for only in task.only] == [[4], [4]]
    assert any("1 documents are in A alone: 4 (doc 4)" in line for line in remarks(diff(before, after)))


def test_equal_documents_are_paired_in_order():
    samples = [Sample(i, "same", "", "none", {"acc": float(i % 2)}, "same") for i in range(12)]
    before = LmEvalRun("a", {"sums": tuple(samples)})
    after = LmEvalRun("b", {"sums": tuple(samples[:10])})
    result = diff(before, after)
    assert (result.differences[0].change.n, result.differences[0].change.value) == (10, 0)
    assert [document.doc_id for document in result.tasks[0].only[0]] == [10, 11]


def test_other_prompts_few_shot_and_versions_are_said():
    before = run_of(coins(20, 0.5, 1), shots={"sums": 0}, versions={"sums": 1})
    other = [Sample(s.doc_id, s.content, "chat " + s.prompt, "none", s.values, s.words) for s in before.samples["sums"]]
    notes = diff(before, LmEvalRun("b", {"sums": tuple(other)}, shots={"sums": 5}, versions={"sums": 2})).notes
    assert any("20 of 20 prompts are not the same text" in note for note in notes)
    assert "sums: few-shot examples: 0 in A, 5 in B." in notes
    assert "sums: version of the task: 1 in A, 2 in B." in notes


def test_several_answers_to_one_document_weigh_as_lm_eval_weighs_them():
    """IFEval gives a list of yes and no a document; its score is over all of them."""
    lists = [[True, False, False], [True], [True, True]]
    entries = [Sample(i, str(i), "", "none", {"inst": value}, "") for i, value in enumerate(lists)]
    run = LmEvalRun("a", {"t": tuple(entries)}, {"t": {"inst,none": 4 / 6}})
    assert sole(run, run).before == pytest.approx(400 / 6)


def test_a_score_that_the_samples_do_not_give_has_no_interval():
    run = run_of(coins(20, 0.5, 1), scores={"sums": {"acc,none": 0.123}})
    result = diff(run, run)
    assert not result.differences
    assert result.tasks[0].unpaired == {"acc,none": (0.123, 0.123)}


def test_few_documents_say_nothing_and_a_mean_stands_over_several_tasks():
    ones, noughts = run_of([1.0] * 5), run_of([0.0] * 5)
    assert sole(ones, noughts).outcome == "too few"
    joined = [LmEvalRun("m", run.samples | run_of([0.0, 1.0] * 10, "t").samples) for run in (ones, noughts)]
    (mean,) = diff(*joined).means
    assert (mean.task, mean.before, mean.after, mean.change.n) == ("mean of 2 tasks", 75.0, 25.0, 25)


def test_what_a_document_says_is_never_markup():
    wicked = "<script>alert(1)</script>"
    samples = [Sample(i, f"{i}", "", "none", {"acc": float(i % 2)}, wicked) for i in range(12)]
    before = LmEvalRun(wicked, {"a|b": tuple(samples)})
    after = LmEvalRun("b", {"a|b": tuple(Sample(s.doc_id, s.content, "", "none", {"acc": 1.0}, s.words) for s in samples)})
    result: Diff = diff(before, after)
    assert "<script>" not in page(result)
    assert "<script>" not in markdown(result)
    assert "a\\|b" in markdown(result)
    assert cells(result.differences[0])["won"] == "6"


def write(folder: Path, lines: Sequence[Any], task: str = "sums", date: str = DATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"samples_{task}_{date}.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {"doc_id": number, "doc": {"q": f"q {number}"}, "filter": "none", "metrics": ["acc"], "acc": 1.0} | changes


def test_a_run_without_samples_is_named_as_empty(tmp_path):
    with pytest.raises(PlanError, match="holds no sample, nor does any other file of this run"):
        read_run(str(write(tmp_path / "empty", [])))


def test_all_faults_of_both_runs_are_told_at_once(tmp_path):
    write(tmp_path / "a", [entry(0), "{cut"])
    write(tmp_path / "b", [{"text": "no sample"}])
    with pytest.raises(PlanError) as caught:
        read_both(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [fault.partition(" is not")[0].partition(" has no")[0] for fault in caught.value.faults] == [
        f"samples_sums_{DATE}.jsonl, line 2",
        f"samples_sums_{DATE}.jsonl, line 1",
    ]


def test_a_sample_whose_metrics_are_no_names_is_refused(tmp_path):
    for number, metrics in enumerate((3, {"acc": 1.0}, [["acc"]])):
        write(tmp_path / str(number), [entry(0), entry(1, metrics=metrics)])
        with pytest.raises(PlanError, match="line 2: its field 'metrics' has another type"):
            read_run(str(tmp_path / str(number)))


def test_folders_without_samples_or_with_several_models_are_refused(tmp_path):
    (tmp_path / f"results_{DATE}.json").write_text('{"results": {}}')
    with pytest.raises(PlanError, match="--log_samples"):
        read_run(str(tmp_path))
    write(tmp_path / "one", [entry(0)])
    write(tmp_path / "two", [entry(0)])
    with pytest.raises(PlanError, match="several models; name one"):
        read_run(str(tmp_path))


def test_runs_without_a_shared_document_are_refused():
    with pytest.raises(PlanError, match="share no document"):
        diff(run_of([1.0]), run_of([1.0], task="other"))


def test_the_newest_samples_of_a_task_count(tmp_path):
    write(tmp_path, [entry(0, acc=0.0)])
    write(tmp_path, [entry(0, acc=1.0)], date="2026-02-01T00-00-00.000001")
    run = read_run(str(tmp_path))
    assert run.samples["sums"][0].values == {"acc": 1.0}
    assert any("1 older samples" in note for note in run.notes)
    assert read_run(str(write(tmp_path, [entry(0, acc=0.5)]))).samples["sums"][0].values == {"acc": 0.5}


def test_files_that_do_not_list_their_metrics_are_read_too(tmp_path):
    lines = [{name: value for name, value in entry(number).items() if name != "metrics"} for number in range(3)]
    run = read_run(str(write(tmp_path, lines)))
    assert [sample.values for sample in run.samples["sums"]] == [{"acc": 1.0}] * 3
