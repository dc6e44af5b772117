"""Taking a stored comparison up again: what differs is named; what is exported is verified. The slow tests make real runs."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from harness.bundled import ROOT
from harness.commands.cli import main
from harness.commands.recorded import plan_of, refuse_another_question
from harness.commands.reproduce import COSTS, differences, differing_versions
from harness.errors import PlanError
from harness.plan.plan import Plan
from harness.store.hashes import Hashes
from harness.store.question import Question
from harness.store.runs import RunStore
from tests.support.training import small_files


def table(**changes) -> pd.DataFrame:
    fixed = {
        "row": ["base", "sft"],
        "gain": [0.0, 12.345678901234567],
        "worst family": ["facts", None],
        "device seconds": [0.0, 5.0],
    }
    return pd.DataFrame(fixed | changes).set_index("row")


def found(one: pd.DataFrame, other: pd.DataFrame) -> list[tuple]:
    published = pd.read_csv(StringIO(one.to_csv())).set_index("row")
    return [(d.row, d.column, d.published, d.now) for d in differences(published, other)]


def test_the_same_table_has_no_differences():
    assert found(table(), table()) == []


def test_every_value_that_differs_is_named():
    other = table(gain=[0.0, 12.345678901234569], **{"device seconds": [0.0, 6.0]})
    assert found(table(), other) == [
        ("sft", "gain", 12.345678901234567, 12.345678901234569),
        ("sft", "device seconds", 5.0, 6.0),
    ]
    assert "device seconds" in COSTS
    assert found(table(), table().drop(index="sft")) == [("sft", "the whole row", "there", None)]
    assert [one[1] for one in found(table(), table().drop(columns="worst family"))] == ["worst family"]


def test_differing_machines_and_versions_are_named():
    then = {"git": {"commit": "1"}, "packages": {"torch": "2.13.0"}, "machine": {"processor": "a"}}
    now = {"git": {"commit": "1"}, "packages": {"torch": "2.14.0"}, "machine": {"processor": "b", "gpu": None}}
    assert differing_versions(then, now) == ["machine processor: a, here b", "packages torch: 2.13.0, here 2.14.0"]
    assert differing_versions({}, now) == ["its machine and versions were not recorded"]


def test_a_record_from_the_checkout_is_found_from_anywhere(tmp_path, monkeypatch):
    record = json.loads((ROOT / "results" / "published" / "finance" / "comparison.json").read_text())
    monkeypatch.chdir(tmp_path)
    plan = plan_of(record, out=str(tmp_path))
    assert isinstance(plan, Plan) and plan.budget == record["plan"]["budget"] and plan.out == str(tmp_path)
    assert Path(plan.data).is_file() and Path(str(plan.model)).is_dir() and Path(str(plan.general)).is_file()


def test_code_that_only_a_record_names_does_not_run(tmp_path):
    record = json.loads((ROOT / "results" / "published" / "finance" / "comparison.json").read_text())
    ran = tmp_path / "ran"
    evil = f"open({str(ran)!r}, 'w')\n"
    (tmp_path / "x.py").write_text(evil)
    (tmp_path / "s.py").write_text(evil + "def score(output, row): return 1.0\n")
    (tmp_path / "s.jsonl").write_text('{"id": "1", "question": "q", "answer": "a"}\n')
    (tmp_path / "s.toml").write_text('type = "python"\nscorer = "s.py:score"\n')
    record["plan"] |= {"recipes": f"sft+{tmp_path}/x.py:X", "suites": f"{tmp_path}/s.jsonl", "ray": "ray://elsewhere:10001"}
    with pytest.raises(PlanError) as caught:
        plan_of(record, out=str(tmp_path))
    (fault,) = caught.value.faults
    assert f"--code {tmp_path}/x.py" in fault and f"--code {tmp_path}/s.py" in fault and not ran.exists()
    record["plan"]["recipes"] = "sft"
    plan = plan_of(record, [f"{tmp_path}/s.py"], out=str(tmp_path))
    assert plan.ray is None and plan.suites == f"{tmp_path}/s.jsonl"


def test_another_question_is_refused_field_by_field():
    with pytest.raises(PlanError) as caught:
        refuse_another_question(
            {"question": {"model": "a", "data": "b", "tune": 0}}, Question({"model": "c", "data": "d", "tune": 0}), Path("x")
        )
    assert len(caught.value.faults) == 2 and "model was 'a', here it is 'c'" in caught.value.faults[1]


def test_a_record_without_plan_or_question_is_refused_in_words(tmp_path):
    with pytest.raises(PlanError, match="holds no plan, so it cannot be made again"):
        plan_of({"name": "old", "rows": []})
    with pytest.raises(PlanError, match="does not record what it asked"):
        refuse_another_question({"rows": []}, Question({"model": "a"}), tmp_path)


def scored(*values: float | None) -> pd.DataFrame:
    items = [f"i{n}" for n in range(len(values))]
    return pd.DataFrame(
        {"task": "t", "metric": "acc", "item": items, "primary": True, "score": pd.Series(values, dtype="float64")}
    )


def test_every_item_of_a_sample_is_held_against_the_stored_one():
    from harness.commands.export import compared

    stored = scored(1.0, 0.0, None, 0.25, 1.0)
    assert compared(scored(1.0, 0.0, None, 0.25), stored) == (0, 4)
    assert compared(scored(1.0, 1.0, 0.0, 0.25 + 1e-9), stored) == (2, 4)
    assert compared(scored(1.0, 0.0, None, 0.25, 1.0, 1.0), stored) == (1, 6)  # the last was never scored
    with pytest.raises(PlanError, match="does not hold them"):
        compared(stored, None)


def test_misuse_exits_with_2(tmp_path, capsys):
    assert main(["export", "nowhere", "--to", str(tmp_path / "x"), "--out", str(tmp_path)]) == 2
    assert main(["reproduce", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("holds no comparison.json") == 2


# --- with real runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tiny_path, tmp_path_factory) -> Path:
    """A tiny comparison: results/domain of plain fine-tuning and of one recipe that cannot be exported."""
    from harness.commands.compare import compare

    folder = tmp_path_factory.mktemp("published")
    files = small_files(folder) | {"model": tiny_path}
    small = {"budget": "6steps", "learning_rate": 1e-2, "max_length": 64, "batch_size": 8, "final_only": True, "name": "domain"}
    outcome = compare(quiet=True, out=str(folder / "results"), recipes="sft prompt", **files, **small)
    assert not outcome.failed
    return outcome.folder


def export(published: Path, to: Path, *more: str) -> int:
    return main(["export", published.name, "--recipe", "sft", "--to", str(to), "--out", str(published.parent), *more])


def weights_of(published: Path, row: str) -> Path:
    record = json.loads((published / "comparison.json").read_text())
    key = next(entry["key"] for entry in record["rows"] if entry["row"] == row)
    return RunStore(published.parent / "runs").run(key).path / "weights"


@pytest.mark.slow
def test_the_checkpoint_is_loaded_by_transformers_and_scores_as_in_the_table(published, tmp_path, capsys):
    from huggingface_hub import ModelCard
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert export(published, tmp_path / "model") == 0
    assert "score as in the table" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    trained = load_file(weights_of(published, "sft") / "model.safetensors")
    assert all(bool((trained[name] == value).all()) for name, value in model.named_parameters())
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template
    assert ModelCard.load(tmp_path / "model" / "README.md").data.eval_results
    assert export(published, tmp_path / "model") == 2  # never over what is there


@pytest.mark.slow
def test_weights_that_were_not_kept_are_trained_again_bit_for_bit(published, tmp_path, capsys):
    out = shutil.copytree(published.parent, tmp_path / "results")
    shutil.rmtree(weights_of(out / "domain", "sft"))
    assert export(out / "domain", tmp_path / "model") == 2
    assert "--retrain" in capsys.readouterr().err
    assert export(out / "domain", tmp_path / "model", "--retrain") == 0
    assert not list(out.glob(".export.*"))


@pytest.mark.slow
def test_what_was_not_measured_is_not_exported(published, tmp_path, capsys):
    import torch
    from safetensors.torch import load_file, save_file

    out = shutil.copytree(published.parent, tmp_path / "results")
    path = weights_of(out / "domain", "sft") / "model.safetensors"
    weights = load_file(path)
    save_file({name: value + 1e-6 * torch.ones_like(value) for name, value in weights.items()}, path)
    assert export(out / "domain", tmp_path / "model") == 2
    assert "not those that were scored" in capsys.readouterr().err and not (tmp_path / "model").exists()


@pytest.mark.slow
def test_scores_that_are_not_the_tables_refuse_the_checkpoint(published, tmp_path, capsys):
    out = shutil.copytree(published.parent, tmp_path / "results")
    run = weights_of(out / "domain", "sft").parent
    file = next((run / "evals").glob("final-*.parquet"))
    scores = pd.read_parquet(file)
    scores.loc[scores["primary"], "score"] = 1.0 - scores.loc[scores["primary"], "score"]
    scores.to_parquet(file)
    # with its hash, since a file that is not what was written is refused before
    Hashes(run).add_files(f"evals/{file.name}")
    assert export(out / "domain", tmp_path / "model") == 2
    assert "score otherwise than in the table" in capsys.readouterr().err and not (tmp_path / "model").exists()


@pytest.mark.slow
def test_what_does_not_fold_is_not_exported(published, tmp_path, capsys):
    arguments = ["export", "domain", "--recipe", "prompt", "--to", str(tmp_path / "x"), "--out", str(published.parent)]
    assert main(arguments) == 2
    assert "does not fold" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_is_reproduced_and_a_false_value_is_found(published, tmp_path, capsys):
    out = shutil.copytree(published, tmp_path / "domain")
    arguments = ["reproduce", str(out), "--only", "sft", "--out", str(tmp_path / "again")]
    assert main(arguments) == 0
    assert "Reproduced: every value" in capsys.readouterr().out
    table = pd.read_csv(out / "table.csv")
    table.loc[table["row"] == "sft", "gain"] += 0.25
    table.to_csv(out / "table.csv", index=False)
    assert main(arguments) == 1  # nothing trains a second time
    assert "1 values of" in capsys.readouterr().out
