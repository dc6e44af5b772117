"""Comparisons from two machines joined: what fits, what is refused and by which name, what the report then says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.commands.merge import merge
from harness.errors import PlanError
from harness.store.comparisons import read_comparison
from harness.store.files import RECORD_HASH, write_json
from harness.store.hashes import HASHES
from harness.store.runs import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from fake_store import ROWS, build

FEW = {"base": ROWS["base"], "zero budget": ROWS["zero budget"]}


@pytest.fixture
def machines(tmp_path, monkeypatch, unrendered):
    """Two machines: one ran sft, the other lora; the report of what is merged has few draws."""
    import harness.report.write

    real = harness.report.write.write_report
    monkeypatch.setattr("harness.report.write.write_report", lambda folder, store: real(folder, store, reps=200))
    made = []
    for name, row in (("a", "sft"), ("b", "lora")):
        folder, _ = build(tmp_path / name, rows=FEW | {row: ROWS[row]}, items=0.2, curves=False)
        change(
            folder / "comparison.json", lambda record: record.update(question={"budget": "3epochs", "model": "ab"}, trials=[])
        )
        made.append(folder)
    return made, tmp_path / "c" / "finance"


def change(path: Path, how) -> None:
    record = json.loads(path.read_text())
    how(record)
    record.pop(RECORD_HASH, None)
    write_json(path, record)
    (path.parent / HASHES).unlink(missing_ok=True)


def test_rows_of_both_stand_in_one_table(machines):
    folders, to = machines
    merge(folders, to)
    joint = read_comparison(to, RunStore(to.parent / "runs"))
    assert [run["row"] for run in joint.runs] == ["base", "zero budget", "sft", "lora"]
    apart = [read_comparison(folder, RunStore(folder.parent / "runs")).scores for folder in folders]
    for row, table in (("sft", apart[0]), ("lora", apart[1])):
        own = joint.scores[joint.scores["row"] == row]["score"].tolist()
        assert own == table[table["row"] == row]["score"].tolist()
    assert "lora" in (to / "table.md").read_text()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (lambda r: r.update(protocol="2"), "protocol differs: '1' in"),
        (lambda r: r["question"].update(budget="600s"), "budget differs: '3epochs' in"),
        (lambda r: r["question"].update(precision="bf16"), "precision differs: None in"),
        (lambda r: [row["evals"].update(final="1" * 16) for row in r["rows"]], "evaluation 'final'"),
    ],
)
def test_what_is_not_comparable_is_refused_by_name(machines, how, text):
    folders, to = machines
    change(folders[1] / "comparison.json", how)
    with pytest.raises(PlanError, match=text) as caught:
        merge(folders, to)
    assert not to.exists() and str(folders[1]) in str(caught.value)


def test_all_faults_come_together(machines):
    folders, to = machines
    change(folders[1] / "comparison.json", lambda r: (r.update(protocol="2"), r["question"].update(budget="600s")))
    with pytest.raises(PlanError) as caught:
        merge(folders, to)
    assert len(caught.value.faults) == 2


def test_the_same_row_under_another_version_of_torch_is_refused(machines, tmp_path):
    folders, to = machines
    other, store = build(tmp_path / "d", rows=FEW | {"sft": ROWS["sft"]}, items=0.2, curves=False)
    change(other / "comparison.json", lambda r: r.update(question={"budget": "3epochs", "model": "ab"}, trials=[]))
    assert "the first is kept" in " ".join(merge([folders[0], other], to))
    key = next(run["key"] for run in read_comparison(other, store).runs if run["row"] == "sft")
    change(store.run(key).path / "run.json", lambda r: r["where"]["packages"].update(torch="2.14.0"))
    with pytest.raises(PlanError, match=r"sft \(seed 0\): torch differs: '2\.13\.0' and '2\.14\.0'"):
        merge([folders[0], other], tmp_path / "e" / "finance")


def test_a_run_that_failed_here_is_taken_from_where_it_ended(machines, tmp_path):
    folders, to = machines
    other, _ = build(tmp_path / "d", rows=FEW | {"sft": ROWS["sft"]}, items=0.2, curves=False)
    change(other / "comparison.json", lambda r: r.update(question={"budget": "3epochs", "model": "ab"}, trials=[]))
    store = RunStore(folders[0].parent / "runs")
    key = next(run["key"] for run in read_comparison(folders[0], store).runs if run["row"] == "sft")
    store.run(key).write("status", {"status": "failed", "reason": "lost power", "traceback": None})
    merge([folders[0], other], to)
    joint = read_comparison(to, RunStore(to.parent / "runs"))
    assert {run["status"] for run in joint.runs} == {"done"}


def test_bases_that_score_otherwise_are_named(machines):
    folders, to = machines
    store = RunStore(folders[1].parent / "runs")
    run = store.run(next(e["key"] for e in read_comparison(folders[1], store).runs if e["role"] == "base"))
    scores = run.scores("final", "0" * 16)
    scores.loc[scores.index[:3], "score"] += 0.5
    run.write_scores("final", "0" * 16, scores)
    merge(folders, to)
    assert "scores the base otherwise in 3 of" in " ".join(json.loads((to / "comparison.json").read_text())["notes"])


def test_a_link_in_a_run_is_not_followed(machines, tmp_path):
    """A downloaded folder would bring a file of this machine into what is published next."""
    folders, to = machines
    secret = tmp_path / "secret"
    secret.write_text("password")
    run = next(path for path in sorted((folders[1].parent / "runs").iterdir()) if path.is_dir())
    (run / "notes.txt").symlink_to(secret)
    with pytest.raises(PlanError, match=r"notes\.txt is a link, and links are not followed"):
        merge(folders, to)
    assert not to.exists() and not (to.parent / "runs").exists()


def test_one_or_none_cannot_be_merged(machines, tmp_path):
    folders, to = machines
    with pytest.raises(PlanError, match="two comparisons or more"):
        merge(folders[:1], to)
    with pytest.raises(PlanError, match=r"holds no comparison\.json"):
        merge([folders[0], tmp_path], to)


def test_records_without_a_question_or_rows_are_merged_or_refused_in_words(machines):
    """An early record has no question: what the other one asks is then named, field by field."""
    folders, to = machines
    change(folders[1] / "comparison.json", lambda record: record.pop("question"))
    with pytest.raises(PlanError, match=r"budget differs: '3epochs' in .*None in"):
        merge(folders, to)
    change(folders[0] / "comparison.json", lambda record: record.pop("question"))
    merge(folders, to)
    change(folders[1] / "comparison.json", lambda record: record.update(rows=[]))
    with pytest.raises(PlanError, match="lists no rows"):
        merge(folders, to.with_name("other"))
