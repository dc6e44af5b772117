"""Models tuned elsewhere, opened: every form gives the weights that it stands for, and what differs from the base is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import PlanError
from harness.measured.forms import Form
from harness.measured.tuned import load_tuned, open_tuned
from harness.models.base_model import BaseModel, own_weights, save_model, save_weights
from harness.plan.measured import MeasuredRow, read_measured
from tests.support.training import make_run, trained, trained_model


def weights_of(path: str | Path, base: BaseModel) -> dict[str, Any]:
    """The weights that are scored."""
    return own_weights(load_tuned(open_tuned(str(path), base), base, torch.float32))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def lora(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with low-rank adapters: its weights as the harness folds them, its checkpoint, its adapter, its run folder."""
    folder = tmp_path_factory.mktemp("lora")
    run = make_run(base, "lora(r=2)")
    weights, _ = trained(run, folder / "run")
    trained_model(run).save_pretrained(folder / "adapter")
    save_model(base, weights, folder / "checkpoint")
    stored = folder / "stored"
    (stored / "weights").mkdir(parents=True)
    save_weights(weights, stored / "weights" / "model.safetensors")
    asked = {"recipe": "lora(r=2)", "model": {"name": base.path, "hash": base.hash}}
    (stored / "run.json").write_text(json.dumps({"asked": asked}))
    return {"weights": weights, "folder": folder}


def copied(base: BaseModel, folder: Path, **config: Any) -> Path:
    """The base's checkpoint with entries of its configuration changed."""
    shutil.copytree(base.path, folder)
    told = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def test_checkpoint_run_and_merged_adapter_are_the_weights_of_the_run_bit_for_bit(lora, base):
    folder = lora["folder"]
    forms = {"checkpoint": Form.CHECKPOINT, "adapter": Form.ADAPTER, "stored": Form.RUN}
    for name, form in forms.items():
        tuned = open_tuned(str(folder / name), base)
        assert tuned.form is form
        assert tuned.own is None
        assert same(own_weights(load_tuned(tuned, base, torch.float32)), lora["weights"]), name
    moved = lora["weights"]["model.layers.0.self_attn.q_proj.weight"]
    assert not torch.equal(moved, own_weights(base.original(torch.float32))["model.layers.0.self_attn.q_proj.weight"])
    assert "merged into the base's weights" in " ".join(open_tuned(str(folder / "adapter"), base).notes)


def test_the_base_itself_is_a_tuned_model_that_differs_in_nothing(base):
    tuned = open_tuned(base.path, base)
    assert tuned.notes == ()
    assert tuned.record()["differs"] == {}
    assert same(weights_of(base.path, base), own_weights(base.original(torch.float32)))


def test_an_adapter_that_does_not_fold_stays_around_the_base(base, tmp_path):
    run = make_run(base, "prefix(tokens=3)")
    trained(run, tmp_path / "run")
    trained_model(run).save_pretrained(tmp_path / "adapter")
    tuned = open_tuned(str(tmp_path / "adapter"), base)
    assert "kept around the base" in " ".join(tuned.notes)
    model = load_tuned(tuned, base, torch.float32)
    tokens = torch.tensor([[1, 20, 30, 40]])
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
        theirs = trained_model(run).eval()(input_ids=tokens).logits
        torch.testing.assert_close(logits, theirs, rtol=0, atol=1e-6)
        assert not torch.allclose(logits, base.original(torch.float32)(input_ids=tokens).logits, atol=1e-3)


def test_an_adapter_of_another_model_is_refused(lora, base, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(lora["folder"] / "adapter", adapter)
    told = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(told | {"target_modules": ["q_proj"]}))
    with pytest.raises(PlanError, match="has no place for"):
        open_tuned(str(adapter), base)


def test_a_run_on_another_base_is_refused_and_so_is_one_without_weights(lora, base, tmp_path):
    stored = tmp_path / "stored"
    shutil.copytree(lora["folder"] / "stored", stored)
    told = json.loads((stored / "run.json").read_text())
    told["asked"]["model"]["hash"] = "0" * 16
    (stored / "run.json").write_text(json.dumps(told))
    with pytest.raises(PlanError, match="was trained on"):
        open_tuned(str(stored), base)
    (stored / "weights" / "model.safetensors").unlink()
    with pytest.raises(PlanError, match="weights were not kept"):
        open_tuned(str(stored), base)


def test_missing_and_unexpected_weights_are_refused_by_name(base, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(base, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    gone = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights | {"model.layers.9.mlp.up_proj.weight": gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PlanError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        open_tuned(str(folder), base)


def test_another_template_is_asked_in_its_own(base, tmp_path):
    folder = copied(base, tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("<s>assistant", "<s>bot"))
    tuned = open_tuned(str(folder), base)
    assert tuned.kinship.template == "another chat template: it is asked in its own."
    assert tuned.own is not None
    assert tuned.kinship.has_distance


def test_a_folder_without_tokenizer_or_template_is_asked_as_the_base(base, tmp_path):
    folder = copied(base, tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    assert "asked in the base's" in " ".join(open_tuned(str(folder), base).notes)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    tuned = open_tuned(str(folder), base)
    assert "asked with the base's" in " ".join(tuned.notes)
    assert tuned.own is None


def test_added_tokens_are_named_and_leave_no_distance_from_the_base(base, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    tokenizer.add_tokens(["<tool>"])
    model = AutoModelForCausalLM.from_pretrained(base.path)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tuned = open_tuned(str(tmp_path), base)
    assert tuned.kinship.tokens == "another vocabulary: 1 added (<tool>)."
    assert not tuned.kinship.has_distance
    assert "distance from the base and its held-out loss are left out" in " ".join(tuned.notes)


def test_another_size_is_a_comparison_of_two_models(base, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(base.path)
    config.num_hidden_layers, config.layer_types = 1, config.layer_types[:1]
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base.path).save_pretrained(tmp_path)
    tuned = open_tuned(str(tmp_path), base)
    assert "compares two models" in tuned.kinship.architecture
    assert tuned.own is None  # the same tokens, template and context: asked the very same


def test_quantised_weights_are_read_back_and_said(base, tmp_path):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(base.path, quantization_config=quantised, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base.path).save_pretrained(tmp_path)
    tuned = open_tuned(str(tmp_path), base)
    assert tuned.form is Form.QUANTISED
    assert "read back" in " ".join(tuned.notes)
    weights, start = weights_of(tmp_path, base), own_weights(base.original(torch.float32))
    name = "model.layers.0.mlp.up_proj.weight"
    assert weights[name].dtype is torch.float32
    codes, state = quantize_4bit(start[name], quant_type="nf4")
    assert torch.equal(weights[name], dequantize_4bit(codes, state))
    assert not torch.equal(weights[name], start[name])
    assert torch.equal(weights["model.embed_tokens.weight"], start["model.embed_tokens.weight"])


def test_a_gguf_file_is_read_back_and_said(base, tmp_path):
    gguf = pytest.importorskip("gguf", reason="it is not installed: `pip install gguf`")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(base.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    start = own_weights(Qwen2ForCausalLM(config))
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    kind, quantised = gguf.GGMLQuantizationType.Q8_0, "model.layers.0.mlp.up_proj.weight"
    codes = gguf.quants.quantize(start[quantised].numpy(), kind)
    for name, weight in start.items():
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name == quantised:
            writer.add_tensor(place, codes, raw_dtype=kind)
        else:
            writer.add_tensor(place, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    tuned = open_tuned(str(tmp_path / "model.gguf"), base)
    assert tuned.form is Form.GGUF
    notes = " ".join(tuned.notes)
    assert "read back by transformers" in notes
    assert "asked with the base's" in notes
    expected = start | {quantised: torch.from_numpy(gguf.quants.dequantize(codes, kind))}
    assert not torch.equal(expected[quantised], start[quantised])
    assert same(own_weights(load_tuned(tuned, base, torch.float32)), expected)


def test_equal_models_in_other_folders_are_one_answer_and_others_are_not(lora, base, tmp_path):
    first = open_tuned(str(lora["folder"] / "checkpoint"), base)
    shutil.copytree(lora["folder"] / "checkpoint", tmp_path / "copy")
    assert open_tuned(str(tmp_path / "copy"), base).hash == first.hash
    assert open_tuned(base.path, base).hash != first.hash
    told = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    (tmp_path / "copy" / "generation_config.json").write_text(json.dumps(told | {"eos_token_id": [3, 5]}))
    assert open_tuned(str(tmp_path / "copy"), base).hash != first.hash


def test_rows_and_seeds_are_read_from_one_option(tmp_path):
    (tmp_path / "a=b").mkdir()
    text = f"one=x/a,x/b x/c/ '{tmp_path / 'a=b'}' me/model"
    assert read_measured(text) == (
        MeasuredRow("one", ("x/a", "x/b")),
        MeasuredRow("c", ("x/c/",)),
        MeasuredRow("a=b", (str(tmp_path / "a=b"),)),
        MeasuredRow("model", ("me/model",)),
    )


def test_all_faults_of_the_option_are_told_at_once():
    with pytest.raises(PlanError) as caught:
        read_measured("base=x a=y b/a c=")
    assert len(caught.value.faults) == 3
    with pytest.raises(PlanError, match="close the quotes"):
        read_measured("'x")
