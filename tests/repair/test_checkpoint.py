"""`lethe repair`: a tuned checkpoint and an adapter, mended by formulas that are checked elsewhere."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from harness.checkpoints.loading import load_model
from harness.commands.cli import main
from harness.decoding.open_model import open_base
from harness.evaluation.evaluator import Evaluator
from harness.models.base_model import own_weights, save_model
from harness.setup import evaluations

NAME = "model.layers.0.mlp.up_proj.weight"
FIRST, LAST = "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def tuned(base, tmp_path):
    """(folder, weights) of the base moved at random."""
    generator = torch.Generator().manual_seed(0)
    start = own_weights(base.original(torch.float32))
    weights = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator) for name, tensor in start.items()}
    save_model(base, weights, tmp_path / "tuned")
    return tmp_path / "tuned", weights


def test_half_way_back(base, tuned, tmp_path, capsys):
    folder, weights = tuned
    assert main(["repair", base.path, str(folder), "--by", "wise(alpha=0.5)", "--to", str(tmp_path / "mended")]) == 0
    mended = own_weights(load_model(str(tmp_path / "mended"), torch.float32))
    start = own_weights(base.original(torch.float32))
    assert all(torch.allclose(mended[name], (start[name] + weights[name]) / 2, atol=1e-6) for name in start)
    assert "50.0% of the change's norm is left" in capsys.readouterr().out


def test_methods_chain_as_written_and_draw_by_the_seed(base, tuned, tmp_path):
    folder, _ = tuned
    found = []
    for place, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        arguments = ["--by", "dare(drop=0.5)+wise(alpha=0.5)", "--to", str(tmp_path / place), "--seed", seed]
        assert main(["repair", base.path, str(folder), *arguments]) == 0
        found.append(own_weights(load_model(str(tmp_path / place), torch.float32))[NAME])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_an_adapter_is_folded_first(base, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base.load(torch.float32), LoraConfig(target_modules=["up_proj"], r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    model.save_pretrained(tmp_path / "adapter")
    wanted = own_weights(model.merge_and_unload())[NAME]
    start = own_weights(base.original(torch.float32))[NAME]
    assert main(["repair", base.path, str(tmp_path / "adapter"), "--by", "wise(alpha=0.25)", "--to", str(tmp_path / "m")]) == 0
    assert torch.allclose(own_weights(open_base(str(tmp_path / "m")).original(torch.float32))[NAME], start.lerp(wanted, 0.25))


def test_what_cannot_be_repaired_is_refused_all_at_once(base, tuned, tmp_path, capsys):
    folder, _ = tuned
    assert main(["repair", base.path, str(folder), "--by", "ewc+dghard", "--to", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "ewc acts while a model is trained" in said and "is there already" in said and "dghard acts" not in said


def test_the_strength_is_chosen_on_dev_items_of_a_file(base, tuned, tmp_path, capsys, monkeypatch):
    """The last of the strengths asked that keeps what the base has; the items are the file's dev part."""
    folder, weights = tuned
    records = [{"instruction": f"Say {i}", "output": str(i)} for i in range(200)]
    (tmp_path / "general.json").write_text(json.dumps(records))
    asked = []

    def score(evaluator, model, **_):
        asked.append(evaluator)
        changed = next(model.parameters()).detach().float().sub(own_weights(base.original(torch.float32))[FIRST]).norm()
        return pd.DataFrame({"score": [0.5 if changed > 0.3 * CHANGE else 0.8]})

    own = own_weights(base.original(torch.float32))
    CHANGE = (weights[FIRST] - own[FIRST]).norm()
    monkeypatch.setattr(Evaluator, "score", score)
    monkeypatch.setattr(evaluations, "headline", lambda scores: {"retention": scores["score"].mean()})
    arguments = ["repair", base.path, str(folder), "--by", "interpolate", "--to", str(tmp_path / "m")]
    assert main([*arguments, "--general", str(tmp_path / "general.json")]) == 0
    out = capsys.readouterr().out
    assert "Strength 0.5 of the change was chosen: retention 0.800 on dev items" in out

    # The embedding is back where it was, the last block's weights stay as tuned.
    mended = own_weights(load_model(str(tmp_path / "m"), torch.float32))
    assert torch.allclose(mended[FIRST], own[FIRST]) and torch.allclose(mended[LAST], weights[LAST])
    assert len(asked) == 4 and sum(len(task.task.eval_docs) for task in asked[0].tasks) == 20


def test_what_decides_on_dev_items_needs_them(base, tuned, tmp_path, capsys):
    folder, _ = tuned
    arguments = ["repair", base.path, str(folder), "--to", str(tmp_path / "m")]
    assert main([*arguments, "--by", "interpolate"]) == 2
    assert "'interpolate' decides on general dev items; give --general FILE" in capsys.readouterr().err
    assert main([*arguments, "--by", "wise", "--general", "x.json"]) == 2
    assert "'wise' decides nothing on dev items" in capsys.readouterr().err
