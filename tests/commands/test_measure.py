"""`lethe measure` and `MEASURED=`: a measured model scores as the compared row does, bit for bit. Slow: real runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.commands.cli import main
from harness.measured.forms import Form
from harness.store.comparisons import read_comparison, read_texts
from harness.store.runs import RunStore
from harness.vocabulary import Role, Track
from tests.support.comparisons import carried_out, options

pytestmark = pytest.mark.slow


KEPT = """
from harness.contract import Method
from harness.toolbox import low_rank


class Kept(Method):
    adds, folds, lr_scale = "linear", True, 10.0

    def trainable(self, model, run):
        wrapped = low_rank(model, "all-linear", r=2, lora_alpha=4, lora_dropout=0.0)
        # an empty model is wrapped too, to know what a step costs
        if model.device.type != "meta":
            self.model = wrapped
        return wrapped

    def stop(self, run):
        self.model.save_pretrained("{adapter}")
        return False
"""
"""LoRA that leaves its adapter as peft writes it, after every step."""


@pytest.fixture(scope="module")
def compared(files, tiny_path, tmp_path_factory):
    """A comparison of two recipes, and the same with its own models measured in it."""
    out = tmp_path_factory.mktemp("results")
    adapter, method = out / "adapter", out / "kept.py"
    method.write_text(KEPT.format(adapter=adapter))
    # in fp32, as a run's final weights are: what peft saves in bf16 is rounded
    asked = options(files, tiny_path, out, recipes=f"sft {method}:Kept", checkpoints="1", final_only=True, precision="float32")
    folder = carried_out(asked)
    record = json.loads((folder / "comparison.json").read_text())
    runs = {row["row"]: out / "runs" / row["key"] for row in record["rows"] if row["role"] == Role.RECIPE}
    tuned, lora = runs.pop("sft"), runs.popitem()[1]
    places = {"checkpoint": tuned / "models" / "1", "stored": tuned, "adapter": adapter, "folded": lora, "itself": tiny_path}
    carried_out(asked | {"measured": " ".join(f"{row}={place}" for row, place in places.items())})
    return out, folder, tuned


def test_a_runs_own_checkpoint_adapter_and_folder_score_as_its_row_bit_for_bit(compared):
    out, folder, _ = compared
    comparison = read_comparison(folder, RunStore(out / "runs"))
    rows = {run["row"]: run for run in comparison.runs}
    (lora,) = {row for row, run in rows.items() if run["role"] == Role.RECIPE} - {"sft"}
    same = {"checkpoint": "sft", "stored": "sft", "adapter": lora, "folded": lora, "itself": "base"}
    assert {rows[name]["track"] for name in same} == {Track.MEASURED}
    record = json.loads((folder / "comparison.json").read_text())
    forms = {row["row"]: row["measured"]["form"] for row in record["rows"] if row["row"] in same}
    assert forms["adapter"] == Form.ADAPTER
    assert forms["folded"] == forms["stored"] == Form.RUN
    assert rows["stored"]["ledger"] is None
    assert "epochs" not in rows["stored"]["run"]["happened"]
    texts = read_texts([rows[name] for name in (*same, *set(same.values()))], comparison.store, "final")
    texts = pd.concat([texts, read_texts(comparison.runs, comparison.store, "quality")])
    parts = {row: part.drop(columns=["row"]).reset_index(drop=True) for row, part in texts.groupby("row")}
    for measured, trained in same.items():
        pd.testing.assert_frame_equal(parts[measured], parts[trained], check_exact=True)
    for name in ("sft", lora):
        assert not parts[name]["score"].equals(parts["base"]["score"])


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


def test_python_gets_a_table_of_pandas_twice_in_one_process_and_from_any_folder(compared, files, tiny_path, tmp_path):
    """The folder has packages of the user's own that are called like Lethe's; places are read from there."""
    out, _, run = compared
    for name in ("harness", "suites"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is a package of the user')")
    shutil.copytree(run / "models" / "1", tmp_path / "my model")
    options = f"suites={files['echo']!r}, out={str(out)!r}, device='cpu', quiet=True"
    code = (
        "import pathlib, lethe\n"
        f"for number, tuned in enumerate([{{'mine': ['my model', {str(run)!r}]}}, pathlib.Path('my model')]):\n"
        f"    lethe.measure({tiny_path!r}, tuned, {options}).to_json(f'{{number}}.json')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = [pd.read_json(tmp_path / file).set_index("row") for file in ("0.json", "1.json")]
    assert [list(table.index[2:]) for table in tables] == [["mine"], ["my model"]]
    seeds, alone = tables[0].loc["mine"], tables[1].loc["my model"]
    assert seeds["seeds"] == 2
    assert alone["kl_to_base held out"] == pytest.approx(seeds["kl_to_base held out"])
    assert alone["kl_to_base held out"] > 0


@pytest.mark.filterwarnings("ignore")  # TRL's and transformers' own affairs
def test_models_that_trl_tuned_are_measured(compared, files, tiny_path, tmp_path, capsys):
    """By TRL's own trainer, as its users call it: one of full weights, one with an adapter of its own saving."""
    trl = pytest.importorskip("trl", reason="TRL is not installed: `pip install trl`")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [
        {"messages": [{"role": "user", "content": f"Grade {i}"}, {"role": "assistant", "content": "buy"}]} for i in range(16)
    ]
    for name, peft in (("full", None), ("lora", LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))):
        settings = trl.SFTConfig(
            output_dir=str(tmp_path / "runs"), max_steps=4, per_device_train_batch_size=8, learning_rate=1e-2, report_to=[],
            save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, max_length=64,
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(tiny_path), args=settings, train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(tiny_path), peft_config=peft,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(str(tmp_path / name))
    out, _, _ = compared
    capsys.readouterr()
    words = ["measure", tiny_path, str(tmp_path / "full"), str(tmp_path / "lora"), "--name", "trl"]
    assert main([*words, "--suites", files["echo"], "--out", str(out), "--device", "cpu", "--json"]) == 0
    table = pd.DataFrame(json.loads(capsys.readouterr().out)).set_index("row")
    for row in ("full", "lora"):
        assert table.loc[row, "tuning"] == "budget unknown"
        assert table.loc[row, "kl_to_base held out"] > 0
        assert np.isfinite(table.loc[row, ["change", "change low", "change high"]].astype(float)).all()
