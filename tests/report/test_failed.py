"""Runs that did not end well give no number to any table, whatever they had scored and spent before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from fake_store import ROWS, build

from harness.report.summary.summarise import summarise
from harness.report.tables.main_table import full_table
from harness.store.comparisons import read_comparison
from harness.store.files import read_json, write_json
from harness.store.runs import RunFolder, RunStore
from harness.vocabulary import EvalKind, Status

KEY = "0" * 16
TABLES = ("scores", "curve", "path", "dev", "stages", "quality", "probe", "points")
"""The tables of scores of a comparison."""


def failed_run(folder: Path, store: RunStore, status: str | None) -> RunFolder:
    """The second run of `lora`, ended so, after it had scored everything and spent far more than all others."""
    record = read_json(folder / "comparison.json")
    entry = next(entry for entry in record["rows"] if entry["row"] == "lora" and entry["seed"] == 1)
    run = store.run(entry["key"])
    scores = run.scores(EvalKind.FINAL, KEY)
    assert scores is not None
    for kind in EvalKind:
        run.write_scores(kind, KEY, scores.assign(score=1.0, stage=1))
    entry["evals"] = dict.fromkeys(EvalKind, KEY)
    ledger = run.read("ledger")
    run.write("ledger", ledger | {"flops": 1e30, "seconds": 1e30, "spent": 1e30})
    trial = entry | {"trial": "lora: r=4", "recipe": "lora(r=4)", "selected": False, "plain": False}
    record["trials"] = [trial, trial | {"evals": {"dev": KEY}}]
    write_json(folder / "comparison.json", record)
    if status is None:
        run.remove("status")
    else:
        run.write("status", {"status": status, "reason": "because", "traceback": None})
    return run


def table_of(folder: Path, store: RunStore) -> pd.DataFrame:
    """The table without what tells of the failure itself, and of the compute that trials took: that was spent."""
    table = full_table(summarise(read_comparison(folder, store), reps=100))
    return table.drop(columns=[name for name in table if name in ("status", "reason") or str(name).startswith("tuning")])


@pytest.mark.parametrize("status", [*(status for status in Status if status != Status.DONE), None])
def test_no_number_of_a_run_that_failed_is_counted(tmp_path, status):
    rows = {name: ROWS[name] for name in ("base", "sft", "lora")}
    folder, store = build(tmp_path, rows=rows, seeds=(0, 1), items=0.2)
    failed_run(folder, store, status)
    comparison = read_comparison(folder, store)
    for name in TABLES:
        table = getattr(comparison, name)
        rows_and_seeds = set(zip(table["row"], table["seed"], strict=True))
        assert not rows_and_seeds & {("lora", 1), ("lora: r=4", 1)}, name


def test_the_table_is_that_of_a_comparison_without_the_run(tmp_path):
    rows = {name: ROWS[name] for name in ("base", "sft", "lora")}
    folder, store = build(tmp_path, rows=rows, seeds=(0, 1), items=0.2)
    run = failed_run(folder, store, Status.FAILED)
    counted = table_of(folder, store)
    for kind in EvalKind:
        run.drop_scores(kind, KEY)
    run.remove("ledger")
    pd.testing.assert_frame_equal(counted, table_of(folder, store))
