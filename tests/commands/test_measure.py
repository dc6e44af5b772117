"""`lethe measure` and `MEASURED=`: a measured model scores as the compared row does, bit for bit. Slow: real runs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from harness.commands.cli import main
from harness.store.comparisons import read_comparison, read_texts
from harness.store.runs import RunStore
from harness.vocabulary import Role, Track
from tests.support.comparisons import carried_out, options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(files, tiny_path, tmp_path_factory):
    """A comparison of one recipe, and the same with its own models measured in it."""
    out = tmp_path_factory.mktemp("results")
    asked = options(files, tiny_path, out, recipes="sft", checkpoints="1", final_only=True)
    folder = carried_out(asked)
    record = json.loads((folder / "comparison.json").read_text())
    key = next(row["key"] for row in record["rows"] if row["row"] == "sft")
    run = out / "runs" / key
    carried_out(asked | {"measured": f"checkpoint={run / 'models' / '1'} stored={run} itself={tiny_path}"})
    return out, folder, run


def test_a_runs_own_checkpoint_and_folder_score_as_its_row_bit_for_bit(compared):
    out, folder, _ = compared
    comparison = read_comparison(folder, RunStore(out / "runs"))
    rows = {run["row"]: run for run in comparison.runs}
    assert {rows[name]["track"] for name in ("checkpoint", "stored", "itself")} == {Track.MEASURED}
    assert rows["stored"]["ledger"] is None
    assert "epochs" not in rows["stored"]["run"]["happened"]
    texts = read_texts([rows[name] for name in ("base", "sft", "checkpoint", "stored", "itself")], comparison.store, "final")
    texts = pd.concat([texts, read_texts(comparison.runs, comparison.store, "quality")])
    parts = {row: part.drop(columns=["row"]).reset_index(drop=True) for row, part in texts.groupby("row")}
    for name, same in (("checkpoint", "sft"), ("stored", "sft"), ("itself", "base")):
        pd.testing.assert_frame_equal(parts[name], parts[same], check_exact=True)
    assert not parts["sft"]["score"].equals(parts["base"]["score"])


def test_the_command_measures_without_data_and_its_control_reads_exactly_zero(compared, files, tiny_path, capsys):
    out, _, run = compared
    words = ["measure", tiny_path, f"tuned={run / 'models' / '1'},{run}", f"itself={tiny_path}"]
    words += ["--suites", files["echo"], "--out", str(out), "--device", "cpu", "--json"]
    assert main(words) == 0
    table = pd.DataFrame(json.loads(capsys.readouterr().out)).set_index("row")
    assert list(table["role"]) == [Role.BASE, Role.CONTROL, Role.MEASURED, Role.MEASURED]
    for row in ("zero budget", "itself"):
        assert (table.loc[row, ["change", "change low", "change high"]] == 0).all()
    assert table.loc["tuned", "seeds"] == 2
    assert table.loc["tuned", ["epochs", "device seconds", "flops"]].isna().all()
    assert table["gain"].isna().all()
    assert np.isfinite(table.loc["tuned", "kl_to_base held out"])
