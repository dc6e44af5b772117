"""Kinds of forgetting: each kind planted and found, by rule and in a comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_store import build

from harness.report.tables.forgetting_kinds import kind_of, kind_table
from harness.report.write import write_report
from harness.store.files import read_json, write_json
from harness.store.schema import ITEM_COLUMNS


def near(value: float) -> np.ndarray:
    return value + np.random.default_rng(0).normal(0, 0.5, 1001)


NOTHING = np.full(1001, np.nan)


@pytest.mark.parametrize(
    "change, known, recovered, kind",
    [
        (-40, -1, NOTHING, "format"),  # what is likely stayed
        (-40, -1, near(95), "format"),
        (-40, -30, near(95), "recoverable"),
        (-40, -30, near(40), "true"),
        (-40, -30, near(80), "unclear"),
        (-40, -8, near(40), "unclear"),  # a fifth: the edge
        (-40, -30, NOTHING, "lost"),
        (-40, None, near(95), "recoverable"),  # nothing is generated in this family
        (+5, -30, NOTHING, "none"),
    ],
)
def test_the_rule(change, known, recovered, kind):
    said = near(change)
    other = None if known is None else known + np.random.default_rng(1).normal(0, 0.5, 1001)
    assert kind_of(said, other, recovered, float(np.quantile(said, 0.975))) == kind


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """`facts` loses half of its generated answers and no choice; `arithmetic` and `chat` lose half too.

    A probe brings arithmetic back, and chat not.
    """
    rows = {"base": ("base", "free", 0, 0), "sft": ("recipe", "free", 1, 0)}
    folder, store = build(tmp_path_factory.mktemp("kinds"), items=0.5, curves=False, rows=rows)
    record = read_json(folder / "comparison.json")
    for entry in record["rows"]:
        run = store.run(entry["key"])
        final = run.scores("final", "0" * 16)
        base = store.run(record["rows"][0]["key"]).scores("final", "0" * 16)
        half = final["item"].str.rsplit("-").str[-1].astype(int) % 2 == 0
        probed = base.assign(score=base["score"].where(~(half & (base["task"] == "chat")), 0.0))
        if entry["row"] == "sft":
            lost = half & final["task"].isin(["facts", "arithmetic", "chat"])
            run.write_scores("final", "0" * 16, base.assign(score=base["score"].where(~lost, 0.0)))
            cost = {"examples": 50, "epochs": 3, "batch_size": 10, "learning_rate": 1e-4, "ledger": {"flops": 3e12}}
            run.write("probe", cost)
        after = probed if entry["row"] == "sft" else base
        run.write_scores("probe", "2" * 16, after[after["primary"] & (after["group"] == "general")][list(ITEM_COLUMNS)])
        entry["evals"]["probe"] = "2" * 16
    write_json(folder / "comparison.json", record)
    return folder, store


@pytest.mark.usefixtures("unrendered")
def test_planted_kinds_are_found(comparison):
    report = write_report(*comparison, reps=50)
    found = report.summary.computed(kind_table).set_index("family")
    assert found["kind"].to_dict() == {"arithmetic": "recoverable", "chat": "true", "facts": "format", "grammar": "none"}
    assert found.loc["arithmetic", "recovered"] == 100 and found.loc["chat", "recovered"] < 20
    assert found.loc["facts", "known"] == 0 and found.loc["facts", "said"] < -30
    base = report.summary.scores.query("row == 'base' and task == 'chat' and primary")
    gone = base["item"].astype(str).str.rsplit("-").str[-1].astype(int) % 2 == 0
    assert found.loc["chat", "said"] == pytest.approx(-100 * (base["score"] * gone).mean())
    page = (report.folder / "report.html").read_text()
    assert 'id="kinds"' in page and "<td>3 T</td>" in page
    assert pd.read_csv(report.folder / "kinds.csv")["n"].min() > 0


@pytest.mark.usefixtures("unrendered")
def test_without_a_probe_a_loss_is_not_sorted_further(comparison):
    folder, store = comparison
    record = read_json(folder / "comparison.json")
    for entry in record["rows"]:
        entry["evals"].pop("probe")
    write_json(folder / "comparison.json", record)
    found = write_report(folder, store, reps=50).summary.computed(kind_table).set_index("family")["kind"]
    assert found[["arithmetic", "chat"]].to_list() == ["lost", "lost"] and found["facts"] == "format"
