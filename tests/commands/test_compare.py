"""Whole comparisons through the conductor: what is stored, repeated, resumed, reported. Slow: each trains real runs."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from harness.commands.cli import main
from harness.commands.compare import compare
from harness.errors import PlanError
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore
from tests.support.comparisons import carried_out, flags, hashes, lethe, mtimes, options

pytestmark = pytest.mark.slow

HALT = '''
import os
import time
from pathlib import Path

from harness.contract import Method, Run


class Halt(Method):
    """Plain fine-tuning that waits at half the budget until it is told to go on."""

    paper = "none"
    off = {}

    def stop(self, run: Run) -> bool:
        place = Path(__file__).parent
        if run.budget_spent > 0.5 and not (place / "halted").exists():
            (place / "written").write_text(str(os.getpid()))
            (place / "written").rename(place / "halted")
            while not (place / "go").exists():
                time.sleep(0.02)
        return False
'''


@pytest.fixture(scope="module")
def outcome(files, tiny_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    return out, compare(quiet=True, **options(files, tiny_path, out))


def test_leaves_everything_that_was_promised(outcome):
    folder = outcome[1].folder
    assert not outcome[1].failed
    for name in ("report.html", "table.md", "table.csv", "table.tex", "comparison.json"):
        assert (folder / name).stat().st_size > 100
    assert list((folder / "plots").glob("*.svg")) and list((folder / "plots").glob("*.png"))


def test_a_constant_answer_stands_in_the_table_and_splits_the_gain(outcome):
    """No model is behind it: it is scored on the domain's test items by their own scorers, and costs nothing."""
    table = outcome[1].report.table.set_index("row")
    line = table.loc["constant answer"]
    assert line["role"] == "constant" and np.isfinite(line["gain"]) and np.isnan(line["retention"])
    assert line["gain knowledge"] <= 0 and line["gain form"] + line["gain knowledge"] == pytest.approx(line["gain"])
    trained = table.loc["sft"]
    assert trained["gain form"] + trained["gain knowledge"] == pytest.approx(trained["gain"])
    assert not any("constant answer" in warning for warning in outcome[1].report.warnings)


def test_base_and_zero_budget_read_exactly_zero(outcome):
    table = outcome[1].report.table.set_index("row")
    for row in ("base", "zero budget"):
        assert table.loc[row, "gain"] == 0
    comparison = read_comparison(outcome[1].folder, RunStore(outcome[0] / "runs"))
    scores = comparison.scores.pivot_table(index=["task", "metric", "item"], columns="row", values="score")
    assert (scores["base"] - scores["zero budget"]).abs().max() == 0
    drift = comparison.scores.query("metric == 'kl_to_base' and row == 'zero budget'")
    assert len(drift) and (drift["score"] == 0).all()


def test_recipes_spent_the_same(outcome):
    runs = read_comparison(outcome[1].folder, RunStore(outcome[0] / "runs")).runs
    spent = [run["ledger"]["spent"] for run in runs if run["role"] == "recipe"]
    assert max(spent) / min(spent) < 1.02
    assert all(run["ledger"]["tokens"].get("general", 0) > 0 for run in runs if run["row"] == "mix")


def test_curves_hold_six_fractions(outcome):
    curve = read_comparison(outcome[1].folder, RunStore(outcome[0] / "runs")).curve
    assert sorted(curve.query("row == 'sft'")["fraction"].round(3).unique()) == [0.167, 0.333, 0.5, 0.667, 0.833, 1.0]


def test_a_second_time_trains_and_scores_nothing(outcome, files, tiny_path):
    before = mtimes(outcome[0], "runs/*/*.*") | mtimes(outcome[0], "runs/*/evals/*")
    compare(quiet=True, **options(files, tiny_path, outcome[0]))
    assert mtimes(outcome[0], "runs/*/*.*") | mtimes(outcome[0], "runs/*/evals/*") == before


def test_what_is_complete_and_may_only_be_read_is_read(outcome, files, tiny_path, monkeypatch, capsys):
    out = outcome[0]
    asked = flags(options(files, tiny_path, out))
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *more, **options):
        if set(mode) & set("wxa+") and path.is_relative_to(out):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", read_only)
    for made in out.glob("made-*.json"):
        made.unlink()
    before = mtimes(out, "**/*")
    assert main(["compare", *asked]) == 0
    said = capsys.readouterr()
    assert "sft" in said.out and f"no report was written: {out} may only be read" in " ".join(said.out.split())
    assert mtimes(out, "**/*") == before

    # What is not there cannot be made: that is said before anything is loaded for it.
    assert main(["compare", *asked, "--recipes", "low_lr"]) == 2
    said = capsys.readouterr()
    assert "stands on a disk that cannot be written; give --out a folder on another" in said.err and "runs," not in said.err


def test_a_new_suite_evaluates_and_trains_nothing(outcome, files, tiny_path):
    trained = mtimes(outcome[0], "runs/*/status.json")
    folder = carried_out(options(files, tiny_path, outcome[0], suites=f"{files['echo']} {files['pairs']}"))
    assert mtimes(outcome[0], "runs/*/status.json") == trained
    comparison = read_comparison(folder, RunStore(outcome[0] / "runs"))
    assert {"echo", "pairs"} <= set(comparison.scores["task"])


def test_one_more_recipe_trains_that_recipe_only(outcome, files, tiny_path):
    trained = mtimes(outcome[0], "runs/*/status.json")
    carried_out(options(files, tiny_path, outcome[0], recipes="sft mix low_lr"))
    now = mtimes(outcome[0], "runs/*/status.json")
    assert len(now) == len(trained) + 1 and trained.items() <= now.items()


def test_another_question_under_a_name_that_the_user_gave_is_refused(outcome, files, tiny_path):
    with pytest.raises(PlanError, match="budget was '1epochs', now '2epochs'"):
        compare(quiet=True, **options(files, tiny_path, outcome[0], budget="2epochs", name=outcome[1].folder.name))


def test_fewer_recipes_leave_the_other_rows_in_the_report(outcome, files, tiny_path):
    rows = {row["row"] for row in json.loads((outcome[1].folder / "comparison.json").read_text())["rows"]}
    record = json.loads((carried_out(options(files, tiny_path, outcome[0], recipes="sft")) / "comparison.json").read_text())
    assert {row["row"] for row in record["rows"]} == rows > {"sft"}
    assert set(record["plan"]["recipes"].split()) == rows - {"base", "zero budget", "constant answer"}


def test_a_row_that_was_trained_otherwise_is_left_out_and_named(outcome, files, tiny_path, tmp_path):
    out = shutil.copytree(outcome[0], tmp_path / "results")
    record = json.loads(
        (carried_out(options(files, tiny_path, out, recipes="sft", warmup=0.2)) / "comparison.json").read_text()
    )
    assert "mix" not in {row["row"] for row in record["rows"]}
    assert any("otherwise than the other rows" in note and "mix" in note for note in record["notes"])


def test_what_goes_wrong_is_a_row_and_the_rest_goes_on(files, tiny_path, tmp_path):
    recipes = "sft sft(lr=1e30) ewc(samples=100000)"
    outcome = compare(quiet=True, **options(files, tiny_path, tmp_path, recipes=recipes, budget="2e8flops"))
    table = outcome.report.table.set_index("row")["status"]
    assert table["sft"] == "done" and table["sft(lr=1e30)"] == "diverged" and table["ewc(samples=100000)"] == "overdrawn"
    assert len(outcome.failed) == 2
    assert "overdrawn" in (outcome.folder / "report.html").read_text()


def test_all_of_a_users_faults_come_together(files, tiny_path, tmp_path):
    with pytest.raises(PlanError) as caught:
        compare(
            quiet=True, **options(files, tiny_path, tmp_path, recipes="sfft mix(x=1)", budget="3parsecs", data="nowhere.json")
        )
    text = str(caught.value)
    assert all(word in text for word in ("sfft", "no setting 'x'", "3parsecs", "nowhere.json"))
    assert not (tmp_path / "runs").exists()


def steps(out: Path) -> int:
    """How many the runs of a store have logged."""
    return sum(log.read_text().count("\n") for log in (out / "runs").glob("*/log.jsonl"))


def test_kill_minus_nine_anywhere_then_the_same_bits(files, tiny_path, tmp_path):
    """The whole process tree is killed twice, at random moments after random steps, then left to end."""
    recipes = {"recipes": "sft lora+nlirg", "budget": "4epochs", "workers": 2, "checkpoint_every": 0.2}
    carried_out(options(files, tiny_path, tmp_path / "whole", **recipes))
    rng, most = random.Random(1), steps(tmp_path / "whole")
    asked = options(files, tiny_path, tmp_path / "cut", **recipes)
    for low, high in ((0.05, 0.5), (0.6, 1.0)):
        step = round(rng.uniform(low, high) * most)
        process = lethe(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while steps(tmp_path / "cut") < step and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert lethe(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() == 0
    one, two = (hashes(tmp_path / name) for name in ("whole", "cut"))
    assert one == two and len(one) == 4


@pytest.mark.parametrize("killed", ["run", "server"])
def test_a_killed_run_is_a_row_that_says_so(files, tiny_path, tmp_path, killed):
    """One run's own process is killed, or the one that forked it; the comparison goes on and the exit code says that not all
    is well."""
    (tmp_path / "halt.py").write_text(HALT)
    asked = options(files, tiny_path, tmp_path, recipes=f"{tmp_path}/halt.py:Halt low_lr", workers=1)
    process = lethe(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "halted").exists() and process.poll() is None:
        time.sleep(0.05)
    run = psutil.Process(int((tmp_path / "halted").read_text()))
    server = run.parent()
    assert server and server.num_threads() == 1  # others would not survive its forks
    (run if killed == "run" else server).kill()
    (tmp_path / "go").touch()
    _, errors = process.communicate()
    assert process.returncode == 1 and "out_of_memory" not in errors and "failed: its process was ended by signal 9" in errors
    assert errors.count("signal 9") == 1  # the other recipe ran
    psutil.wait_procs([run], timeout=60)
    assert not run.is_running() or run.status() == psutil.STATUS_ZOMBIE


def test_models_are_saved_at_the_fractions_asked_for_and_only_once(outcome, files, tiny_path, tmp_path):
    from transformers import AutoModelForCausalLM

    out = shutil.copytree(outcome[0], tmp_path / "results")  # which holds the run, without models
    asked = options(files, tiny_path, out, recipes="sft early_stop", checkpoints="0.5,1")
    record = json.loads((carried_out(asked) / "comparison.json").read_text())
    done = RunStore(out / "runs").run(next(row["key"] for row in record["rows"] if row["row"] == "sft"))
    assert sorted(path.name for path in (done.path / "models").iterdir()) == ["0.5", "1"]
    final = AutoModelForCausalLM.from_pretrained(done.model(1.0)).state_dict()
    kept = load_file(done.path / "weights" / "model.safetensors")
    assert all(torch.equal(final[name], tensor) for name, tensor in kept.items())
    stopped = RunStore(out / "runs").run(next(row["key"] for row in record["rows"] if row["row"] == "early_stop"))
    assert stopped.read("ledger")["accounts"]["dev"]["calls"] >= 2
    before = mtimes(out, "runs/*/models/*/*")
    carried_out(asked)
    assert before and before == mtimes(out, "runs/*/models/*/*")


def test_what_is_damaged_is_made_anew_with_the_same_bits(outcome, files, tiny_path, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(outcome[0], out)
    asked = options(files, tiny_path, out)
    store = RunStore(out / "runs")
    entries = read_comparison(carried_out(asked), store).runs
    runs = {entry["row"]: store.run(entry["key"]) for entry in entries if entry["role"] == "recipe"}
    scores = next(runs["sft"].evaluations.glob("final-*.parquet"))
    before = hashes(out), scores.read_bytes()
    scores.write_bytes(scores.read_bytes()[:-99])
    runs["mix"].log_path.write_text("[]")
    carried_out(asked)
    assert (hashes(out), scores.read_bytes()) == before
    assert scores.with_name(scores.name + ".damaged").exists() and (runs["mix"].path / "log.jsonl.damaged").exists()
    assert runs["sft"].damages() == [] == runs["mix"].damages()


def test_two_at_once_under_one_name_lose_no_row(files, tiny_path, tmp_path):
    """Of one question both add their rows; another question that ends meanwhile takes the next name."""
    asked = options(files, tiny_path, tmp_path)
    commands = [lethe(asked | {"recipes": "sft"}), lethe(asked | {"recipes": "mix"}), lethe(asked | {"budget": "0.5epochs"})]
    assert [command.wait(timeout=900) for command in commands] == [0, 0, 0]
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/comparison.json"))]
    rows = {record["plan"]["budget"]: {row["row"] for row in record["rows"]} for record in records}
    assert len(records) == 2 and rows["1epochs"] >= {"sft", "mix"} and rows["0.5epochs"] >= {"sft", "mix"}
    assert len({record["name"] for record in records}) == 2
