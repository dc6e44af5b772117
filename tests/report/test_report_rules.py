"""Rules and classifications in the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_store import build

from harness.report.summary.summarise import summarise
from harness.report.tables.classes import class_table, macro_f1
from harness.report.tables.compliance import broken_table, compliance, compliance_table
from harness.report.write import write_report
from harness.store.comparisons import read_comparison
from harness.store.files import read_json, write_json

RULES = [
    {"name": "no apology", "forbidden": ["I am sorry"]},
    {"name": "small", "when": "question [0-9]:", "bounds": {"low": 0, "high": 12}},
]


def told(tmp_path, rules=RULES):
    folder, store = build(tmp_path, items=0.3, curves=False)
    record = read_json(folder / "comparison.json")
    write_json(folder / "comparison.json", record | {"rules": rules})
    return folder, store, summarise(read_comparison(folder, store), reps=200)


def answered(summary):
    return pd.concat([summary.texts(row.name) for row in summary.rows], ignore_index=True)


def test_shares_are_of_the_outputs_a_rule_is_about(tmp_path):
    _, _, summary = told(tmp_path)
    outputs = answered(summary).query("primary and task == 'finance_answers'")
    table = summary.computed(compliance_table).set_index(["row", "rule"])
    for row in ("base", "sft"):
        own = outputs[outputs["row"] == row]
        kept = ~own["output"].str.contains("I am sorry")
        assert table.loc[(row, "no apology"), "value"] == pytest.approx(kept.mean())
        assert table.loc[(row, "no apology"), "n"] == len(own["item"].unique())
        about = own["prompt"].str.contains("question [0-9]:")
        assert table.loc[(row, "small"), "n"] == own.loc[about, "item"].nunique() < len(own)
        assert compliance(summary, row).value <= kept.mean()
    sft = table.loc[("sft", "no apology")]
    assert sft["change"] == pytest.approx(sft["value"] - table.loc[("base", "no apology"), "value"])
    assert sft["low"] < sft["value"] < sft["high"]
    assert np.isnan(table.loc[("base", "no apology"), "change"])


@pytest.mark.usefixtures("unrendered")
def test_offending_outputs_are_listed(tmp_path):
    folder, store, summary = told(tmp_path)
    written = write_report(folder, store, reps=200)
    broken = pd.read_csv(folder / "broken.csv")
    offending = answered(summary).query("primary and task == 'finance_answers'")["output"].str.contains("I am sorry")
    assert broken["rules"].str.contains("no apology").sum() == offending.sum()
    page = (folder / "report.html").read_text()
    assert "offending outputs" in page
    assert "rules kept (%)" in (folder / "table.md").read_text()
    assert "compliance" in written.table


@pytest.mark.usefixtures("unrendered")
def test_without_rules_there_is_no_section(tmp_path):
    folder, store, summary = told(tmp_path, rules=[])
    assert summary.computed(compliance_table).empty
    assert summary.computed(broken_table).empty
    write_report(folder, store, reps=200)
    assert 'id="rules"' not in (folder / "report.html").read_text()


# --- classifications -----------------------------------------------------------------------------------------------------


def test_macro_f1_is_sklearns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 5, 200), rng.integers(0, 6, 200)  # 5: none of the labels
    counts = np.ones((1, 200), np.float32)
    reference = metrics.f1_score(gold, predicted, labels=range(5), average="macro")
    assert macro_f1(gold, predicted, 5, counts)[0] == pytest.approx(reference)
    twice = np.r_[counts, 2 * counts]
    assert macro_f1(gold, predicted, 5, twice)[1] == pytest.approx(reference)


def test_tasks_of_labels_get_their_f1(tmp_path):
    _, _, summary = told(tmp_path, rules=[])
    assert summary.computed(class_table).empty  # every item has an answer of its own there
    scores = answered(summary)
    labels = scores["item"].str.extract(r"(\d+)$")[0].astype(int) % 3
    named = scores["task"].eq("finance_answers") & scores["primary"]
    scores.loc[named, "target"] = labels[named].map({0: "good", 1: "bad", 2: "so so"})
    scores.loc[named, "output"] = np.where(scores["score"][named] == 1, scores["target"][named], "I am sorry")
    summary.__dict__["texts"] = lambda row: scores[scores["row"] == row]
    summary.made.clear()
    table = summary.computed(class_table).set_index("row")
    assert set(table["task"]) == {"finance_answers"}
    assert table.loc["sft", "labels"] == 3
    assert table.loc["sft", "f1"] > table.loc["base", "f1"]
    assert table.loc["sft", "low"] <= table.loc["sft", "f1"] <= table.loc["sft", "high"]
