"""`lethe repair`: a tuned checkpoint and an adapter, mended by formulas that are checked elsewhere."""

from __future__ import annotations

import pytest
import torch

from harness.checkpoints.loading import load_model
from harness.commands.cli import main
from harness.decoding.open_model import open_base
from harness.models.base_model import own_weights, save_model

NAME = "model.layers.0.mlp.up_proj.weight"


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
