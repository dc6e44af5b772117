"""A recipe that does not fit a model is refused when it is planned, in a sentence that names the layers there are."""

from __future__ import annotations

import pytest
import torch

from harness.recipes.recipe import parse_recipe
from harness.setup.recipe_trial import recipe_faults
from tests.architectures import Subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Makes a model of an architecture, once."""
    known = {}

    def make(name):
        if name not in known:
            known[name] = Subject(name, tmp_path_factory.mktemp("architecture"))
        return known[name]

    return make


REFUSED = {
    ("llama", "lora(targets='nosuch')"): "nosuch.*; its layers are named down_proj, gate_proj, k_proj, o_proj, q_proj",
    ("llama", "lora(targets='embed_tokens')"): "Embedding layers do not fold; name linear layers",
    ("qwen3", "lora(targets='q_proj,lm_head')"): r"lm_head\.weight is another layer's weight too \(tied\)",
    ("gpt2", "moe"): "no such linear layers.*; its layers are named c_attn, c_fc, c_proj",
    ("mamba", "lora"): "out_proj.*its layers are named dt_proj, in_proj, out_proj, x_proj",
    ("mamba", "expand"): "MambaBlock has no two branches",
    ("olmoe", "dora"): "use_dora",
    ("llama4_text", "lora(targets='router')"): "feed_forward.router returns more than one tensor",
}


@pytest.mark.parametrize(("name", "recipe"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(name, recipe, subject):
    import re

    (fault,) = recipe_faults(subject(name).base, [parse_recipe(recipe)])
    assert re.search(REFUSED[name, recipe], fault), fault
    assert fault.startswith(f"recipe '{parse_recipe(recipe).text}' does not fit this model: ")
    assert "\n" not in fault


FITTING = [
    ("llama", "lora(targets='q_proj,lm_head')"),
    ("gpt2", "lora+wd"),
    ("olmoe", "lora"),
    ("qwen2_moe", "expand"),
    ("deepseek_v3", "expand"),
    ("llama4_text", "expand"),
    ("llama", "sft"),
]


@pytest.mark.parametrize(("name", "recipe"), FITTING)
def test_what_fits_passes(name, recipe, subject):
    assert not recipe_faults(subject(name).base, [parse_recipe(recipe)])


def test_added_blocks_that_change_the_start_are_refused(subject, monkeypatch):
    """Planted fault: the outputs of routed experts are left as they are, as they were before."""
    home = type(parse_recipe("expand").methods[0]).trainable.__globals__
    kept = ("o_proj.weight", "shared_expert.down_proj.weight")
    monkeypatch.setitem(home, "_is_output", lambda name: name.endswith(kept))
    (fault,) = recipe_faults(subject("qwen2_moe").base, [parse_recipe("expand")])
    assert "does not begin as the base (logits differ by up to" in fault


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "llama4_text", "phimoe"])
def test_adapters_on_experts_fold(name, subject):
    """Experts stand as (E, out, in) in the first, as (E, in, out) in the second; routers of the last two stay as they are."""
    assert subject(name).lora() == "yes"


def test_experts_folded_the_wrong_way_are_found_out(subject, monkeypatch):
    """Planted fault: each expert is given the next one's factors."""
    from harness.models.adapters import Fold

    right = Fold._product
    monkeypatch.setattr(Fold, "_product", lambda self, down, up: torch.roll(right(self, down, up), 1, 0))
    assert subject("olmoe").lora() == "no: other logits"
