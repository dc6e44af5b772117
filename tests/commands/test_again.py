"""Taking a stored comparison up again: what differs is named; what is exported is verified. The slow tests make real runs."""

from __future__ import annotations

import json
import os
import shutil
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from harness.bundled import ROOT
from harness.commands.cli import main
from harness.commands.compare import kept_pace
from harness.commands.recorded import plan_of, refuse_another_question
from harness.commands.reproduce import COSTS, differences, differing_versions
from harness.errors import PlanError
from harness.models.base_model import own_weights, save_model
from harness.plan.plan import Plan
from harness.store.files import read_record, write_record
from harness.store.hashes import Hashes, write_hashed
from harness.store.question import Question
from harness.store.runs import RunStore
from tests.report.fake_store import build
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


def evil(folder: Path) -> tuple[dict, Path]:
    """A record like that of the published comparison, in a folder, and the file that any code there would make."""
    ran = folder / "ran"
    text = f"open({str(ran)!r}, 'w')\n"
    for file in ("x.py", "s.py", "tasks.py"):
        (folder / file).write_text(text + "def score(output, row): return 1.0\n")
    (folder / "a,b").mkdir()
    (folder / "yaml").mkdir()
    (folder / "yaml" / "t.yaml").write_text("task: t\ndoc_to_text: !function tasks.score\n")
    for items in ("s", "t", "a,b/u"):
        (folder / f"{items}.jsonl").write_text('{"id": "1", "question": "q", "answer": "a"}\n')
        place = "../s.py" if "/" in items else "s.py"
        # as TOML may spell it, so that no reading by eye or by pattern finds it
        (folder / f"{items}.toml").write_text(f'"type" = "python"\n"scorer" = "{place[:-3]}\\u002epy:score"\n')
    return json.loads((ROOT / "results" / "published" / "finance" / "comparison.json").read_text()), ran


NAMED = {
    "a recipe's file": ({"recipes": "sft+{0}/x.py:X"}, "{0}/x.py"),
    "a list of recipes": ({"recipes": ["sft", "{0}/x.py:X"]}, "{0}/x.py"),
    "a suite's scorer": ({"suites": "{0}/s.jsonl"}, "{0}/s.py"),
    "a list of suites": ({"suites": ["{0}/s.jsonl"]}, "{0}/s.py"),
    "a suite with a comma in its name": ({"suites": "{0}/a,b/u.jsonl"}, "{0}/a,b/../s.py"),
    "a test file's scorer": ({"test": "{0}/t.jsonl"}, "{0}/s.py"),
    "one test file among several": ({"test": "{0}/none.jsonl+{0}/t.jsonl"}, "{0}/s.py"),
    "tasks of lm-eval": ({"suites": "{0}/yaml"}, "{0}/yaml"),
}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("command", ["reproduce", "export --retrain"])
def test_code_that_a_downloaded_folder_names_does_not_run(named, command, tmp_path, capsys, monkeypatch):
    options, code = NAMED[named]
    folder, _ = build(tmp_path / "results", curves=False, items=0.02)
    record, ran = evil(tmp_path)
    for name, value in options.items():
        texts = [text.format(tmp_path) for text in (value if isinstance(value, list) else [value])]
        record["plan"][name] = texts if isinstance(value, list) else texts[0]
    own = read_record(folder) or {}
    own["rows"] = [row | ({"recipe": texts[-1]} if "recipes" in options else {}) for row in own["rows"]]
    write_record(folder, own | {"plan": record["plan"] | {"ray": "ray://elsewhere:10001", "report_to": "wandb"}})
    pd.DataFrame({"row": ["base", "sft"]}).to_csv(folder / "table.csv", index=False)

    # What comes after the check is not done here: the plan that would be carried out is looked at.
    plans: list[Plan] = []

    def seen(plan: Plan) -> None:
        plans.append(plan)
        raise PlanError("far enough")

    # export takes `prepare` from compare when it is imported, which must not be while it is replaced there.
    monkeypatch.setattr("harness.commands.export.prepare", seen)
    monkeypatch.setattr("harness.commands.compare.prepare", seen)
    monkeypatch.setattr("harness.commands.recorded.make_plan", lambda options: Plan(**options))
    arguments = ["reproduce", str(folder), "--out", str(tmp_path / "again")]
    if command != "reproduce":
        arguments = ["export", folder.name, "--retrain", "--recipe", "sft", "--to", str(tmp_path / "model"), "--out"]
        arguments.append(str(folder.parent))
    assert main(arguments) == 2 and plans == []
    said = capsys.readouterr().err
    assert "the record runs code of its own" in said and f"--code {code.format(tmp_path)}" in said
    assert main([*arguments, "--code", str(tmp_path / "other.py")]) == 2 and plans == []

    # Named, it may run; a cluster and what a record reports to are nobody's to choose but the user's.
    assert main([*arguments, "--code", code.format(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("far enough\n") and not ran.exists()
    (plan,) = plans
    assert plan.ray is None and plan.report_to is None


def test_a_record_without_code_is_taken_up_beside_tasks_of_lm_eval(tmp_path, monkeypatch):
    (tmp_path / "task.yaml").write_text("task: x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for test in (None, ""):
        record = {"plan": {"data": str(ROOT / "suites" / "phantom" / "data" / "finance.json"), "test": test, "recipes": "sft"}}
        assert plan_of(record).recipe_texts == ["sft"]


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


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_an_exported_checkpoint_has_the_rights_that_the_umask_gives(base, tmp_path, mask):
    import torch

    weights = own_weights(base.load(torch.float32))
    before = os.umask(mask)
    try:
        save_model(base, weights, tmp_path / "model")
    finally:
        os.umask(before)
    files = [tmp_path / "model", *(tmp_path / "model").rglob("*")]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in files}
    for path in files:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


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
    assert main(arguments) == 2 and "table.csv is not what was written" in capsys.readouterr().err
    # A table that was false from the beginning has a hash that fits. Nothing trains a second time.
    Hashes(out).add_files("table.csv")
    assert main(arguments) == 1
    assert "1 values of" in capsys.readouterr().out


def test_a_damaged_pace_is_set_aside_and_said(tmp_path, capsys):
    path = tmp_path / "pace-1.json"
    assert kept_pace(path) is None and capsys.readouterr().err == ""
    write_hashed(path, {"seconds_a_flop": 2.5})
    assert kept_pace(path) == 2.5
    path.write_text(path.read_text().replace("2.5", "3.5"))
    assert kept_pace(path) is None and not path.exists() and path.with_name("pace-1.json.damaged").exists()
    assert f"{path} is not what was written" in capsys.readouterr().err
