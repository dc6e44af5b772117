"""One checkpoint, or none: a folder is read as it is, or refused in a sentence that names what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.decoding import open_model
from harness.decoding.open_model import open_base
from harness.errors import PlanError
from harness.models.base_model import kept_buffers, weights_hash

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
LAYER = "model.layers.1"


@pytest.fixture
def folder(tiny_path, tmp_path) -> Path:
    """A good checkpoint, to be broken."""
    return Path(shutil.copytree(tiny_path, tmp_path / "model"))


def weights(folder, change):
    """Store other weights."""
    file = folder / "model.safetensors"
    save_file({k: v.clone().contiguous() for k, v in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def config(folder, **changes):
    """Store another configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def as_bin(folder, extra=None):
    """Store the weights as pickle."""
    torch.save(load_file(folder / "model.safetensors") | (extra or {}), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def adapter(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA"}))


def sharded(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    return sorted(folder.glob("model-*.safetensors"))


def twice(folder):
    """Shards beside a single file, of other weights perhaps."""
    whole = (folder / "model.safetensors").read_bytes()
    sharded(folder)
    (folder / "model.safetensors").write_bytes(whole)


def nest(folder):
    (folder / "checkpoint-20").mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        file.rename(folder / "checkpoint-20" / file.name)


def only_gguf(folder):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")


def in_parts(folder, name):
    (folder / "model.safetensors").rename(folder / name)


class Harmful:
    """Makes a file where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def to_float8(weights):
    return {k: v.to(torch.float8_e4m3fn) if "proj" in k else v for k, v in weights.items()}


BROKEN = {
    "a missing weight": (
        lambda f: weights(f, lambda w: {k: v for k, v in w.items() if f"{LAYER}.mlp.up_proj" not in k}),
        r"lack weights .*model\.layers\.1\.mlp\.up_proj\.weight; save or download",
    ),
    "a prefix": (lambda f: weights(f, lambda w: {"_orig_mod." + k: v for k, v in w.items()}), "'_orig_mod.' in them"),
    "text inside": (
        lambda f: weights(f, lambda w: {k.replace("layers.", "layers.module."): v for k, v in w.items()}),
        "'module.' in them",
    ),
    "a layer too many": (
        lambda f: weights(f, lambda w: w | {k.replace(LAYER, "model.layers.2"): v for k, v in w.items() if LAYER in k}),
        r"no place for: model\.layers\.2",
    ),
    "no head": (lambda f: config(f, tie_word_embeddings=False), r"lack weights .*lm_head\.weight"),
    "another shape": (lambda f: config(f, intermediate_size=32), r"other shapes .*\(64, 32\), not \(32, 32\)"),
    "NaN": (lambda f: weights(f, lambda w: w | {"model.norm.weight": torch.full((32,), torch.nan)}), r"model\.norm\.weight"),
    "infinity": (
        lambda f: weights(f, lambda w: w | {"model.norm.weight": torch.full((32,), -torch.inf)}),
        r"not finite .*model\.norm\.weight",
    ),
    "8 bits": (lambda f: weights(f, to_float8), r"quantised weights \(model\.layers"),
    "short embedding": (
        lambda f: (
            config(f, vocab_size=100),
            weights(f, lambda w: {k: v[:100] if "embed" in k else v for k, v in w.items()}),
        ),
        "100 rows, but the tokenizer has tokens beyond",
    ),
    "an adapter": (adapter, "adapter of some/base, not a model; merge it"),
    "quantised": (lambda f: config(f, quantization_config={"quant_method": "awq"}), r"quantised already \(awq"),
    "encoder-decoder": (lambda f: config(f, is_encoder_decoder=True), "is_encoder_decoder"),
    "vision": (lambda f: config(f, vision_config={"depth": 2}), "vision_config: it reads more than text"),
    "no causal model": (lambda f: config(f, model_type="vit"), "vit is no causal language model"),
    "own code": (
        lambda f: config(f, model_type="unheard", auto_map={"AutoConfig": "a.B"}),
        "'unheard', only in code of its own",
    ),
    "unknown architecture": (lambda f: config(f, model_type="unheard"), "does not have the architecture 'unheard'"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "pointer": (lambda f: (f / "model.safetensors").write_text(LFS), "model.safetensors is a Git LFS pointer"),
    "pointer to a tokenizer": (lambda f: (f / "tokenizer.json").write_text(LFS), "tokenizer.json is a Git LFS pointer"),
    "cut": (lambda f: cut(f / "model.safetensors", 50_000), r"model.safetensors is cut off \(50,000 bytes of"),
    "cut in its header": (lambda f: cut(f / "model.safetensors", 80), "model.safetensors is cut off"),
    "empty weights": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors is empty"),
    "cut pickle": (lambda f: (as_bin(f), cut(f / "pytorch_model.bin", 50_000)), "pytorch_model.bin is cut off"),
    "code in a pickle": (lambda f: as_bin(f, {"x": Harmful()}), "more than tensors, which is not run"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "none of model.safetensors, model.safetensors.index.json"),
    "a missing shard": (lambda f: sharded(f)[1].unlink(), "model-00002-of-0000.* is missing, though the index names it"),
    "a cut shard": (lambda f: cut(sharded(f)[0], 20_000), "model-00001-of-0000.* is cut off"),
    "another's shard": (lambda f: shutil.copy(*sharded(f)[:2]), "model-00002-of.* lacks .* which the index says"),
    "two checkpoints": (twice, "two checkpoints: model.safetensors, and the files that model.safetensors.index.json names"),
    "broken stops": (lambda f: (f / "generation_config.json").write_text('{"eos'), "generation_config.json is not JSON"),
    "pointer to a template": (
        lambda f: (f / "chat_template.jinja").write_text(LFS),
        "chat_template.jinja is a Git LFS pointer",
    ),
    "no tokenizer": (
        lambda f: [file.unlink() for file in f.glob("*token*")],
        "none of tokenizer.json, tokenizer.model, vocab.json",
    ),
    "no vocabulary": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer .*save the original tokenizer"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"model": 3}'), "tokenizer cannot be loaded"),
    "a parent": (nest, "no config.json here, but folders that have one: checkpoint-20"),
    "GGUF": (only_gguf, "only GGUF files"),
    "DeepSpeed's parts": (lambda f: in_parts(f, "zero_to_fp32.py"), "no weights: .*only DeepSpeed's parts of a checkpoint"),
    "FSDP's parts": (lambda f: in_parts(f, "pytorch_model_fsdp_0"), "no weights: .*only FSDP's parts of a checkpoint"),
    "a folder for weights": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
        "model.safetensors is a folder",
    ),
    "nothing but zeros": (lambda f: weights(f, lambda w: {k: v * 0 for k, v in w.items()}), "all its matrices are 0"),
    "sizes that do not fit": (
        lambda f: config(f, model_type="llama", num_attention_heads=3),
        "config.json cannot be used: .*multiple of",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_sentence(fault, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    damage, said = BROKEN[fault]
    damage(folder)
    with pytest.raises(PlanError, match=said) as refused:
        open_base(str(folder))
    assert len(refused.value.faults) == 1
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)
    assert not Path("harmed").exists()


READ = {
    "as it is": lambda f: None,
    "in shards": sharded,
    "as pickle": as_bin,
    "with buffers that older versions stored": lambda f: weights(
        f, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    ),
    "without the first part of names": lambda f: weights(f, lambda w: {k.removeprefix("model."): v for k, v in w.items()}),
    "with code of its own beside a known architecture": lambda f: config(f, auto_map={"AutoModelForCausalLM": "a.B"}),
}


@pytest.mark.parametrize("change", READ)
def test_one_set_of_weights_has_one_hash_however_it_is_stored(change, folder, base):
    """The tiny model's head is tied, so it is in none of these files."""
    READ[change](folder)
    assert open_base(str(folder)).hash == base.hash


def test_weights_that_transformers_changes_as_it_loads_them_are_said(folder, monkeypatch):
    """Youtu of transformers 5.23 does so: it blanks the padding's row of an embedding that stands in the file."""
    assert open_base(str(folder)).notes == ()
    name = "model.embed_tokens.weight"
    load = open_model.load_model

    def blanking(path, dtype):
        model = load(path, dtype)
        model.get_input_embeddings().weight.data[5] = 0
        return model

    monkeypatch.setattr(open_model, "load_model", blanking)
    (note,) = open_base(str(folder)).notes
    assert f"weights are not loaded as they stand in the files: {name}; transformers changes them" in note


def test_weights_changed_in_place_have_another_hash(folder, base):
    weights(folder, lambda w: w | {"model.norm.weight": w["model.norm.weight"] + 1e-6})
    assert open_base(str(folder)).hash != base.hash


def test_special_tokens_that_nothing_uses_need_no_embedding(folder, base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    assert open_base(str(folder)).hash == base.hash
    tokenizer.chat_template = "<image>" + str(tokenizer.chat_template)
    tokenizer.save_pretrained(folder)
    with pytest.raises(PlanError, match="<image>"):
        open_base(str(folder))


def test_what_a_checkpoint_holds_beside_parameters_is_hashed_too():
    model = torch.nn.Module()
    model.register_buffer("kept", torch.ones(2))
    model.register_buffer("computed", torch.ones(2), persistent=False)
    assert kept_buffers(model).keys() == {"kept"}
    before = weights_hash(kept_buffers(model))
    kept_buffers(model)["kept"].add_(1)
    assert weights_hash(kept_buffers(model)) != before


@pytest.mark.parametrize("name", ["nobody/no-such-model", "./nowhere", "/nowhere/at/all"])
def test_a_name_that_is_nowhere_is_refused_at_once(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PlanError, match=f"model '{name}'.*no (such )?folder"):
        open_base(name)


def test_an_unreachable_hub_is_asked_once(monkeypatch):
    from huggingface_hub import HfApi

    asked = []

    def unreachable(self, name, **options):
        asked.append(options["timeout"])
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(PlanError, match=r"the hub cannot be asked \(offline\)"):
        open_base("nobody/another-model")
    assert len(asked) == 1
