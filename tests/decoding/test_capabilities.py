"""What a model can be asked at once is found by trying it, and answers are those of each prompt alone."""

from __future__ import annotations

import random

import pytest
import torch

from harness.decoding import capabilities, kv_cache
from harness.decoding.capabilities import Capabilities, capabilities_of, continuations, forward_faults, tried
from harness.decoding.generate import Prompt
from harness.errors import PlanError
from tests.architectures import build

torch.set_num_threads(1)
ABLE = {
    "llama": ("batched", True),
    "gpt_neo": ("batched", False),
    "mpt": ("batched", False),
    "falcon (ALiBi)": ("batched", False),
    "gemma2": ("batched", True),
    "mamba": ("cached", False),
    "jamba": ("cached", False),
    "rwkv": ("uncached", False),
}


def greedy(model, prompt, steps, stops):
    """The plain way: one prompt, all of it read again for each token."""
    said = []
    while len(said) < steps and not (said and said[-1] in stops):
        ids = torch.tensor([[*prompt, *said]])
        with torch.no_grad():
            said.append(int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax()))
    return said


@pytest.mark.parametrize("name", ABLE)
def test_batches_say_what_each_prompt_alone_says(name):
    """Windows of 8 tokens, far shorter than the prompts; rows that end early leave, others enter."""
    model = build(name)
    decoding, shares = ABLE[name]
    able = tried(model)
    assert (able.decoding, able.longest_shared > 0) == (decoding, shares)
    assert not list(forward_faults(model))
    rng = random.Random(0)
    prompts = [tuple(rng.choices(range(5, 60), k=n)) for n in (3, 30, 9, 9, 17, 2)]
    limits = [7, 3, 7, 1, 5, 9]
    stops = frozenset({1, 2, 3})
    found = continuations(
        model, [Prompt(p, n, lambda _: False) for p, n in zip(prompts, limits, strict=True)], stops, 200, room=80
    )
    assert found == [greedy(model, p, n, stops) for p, n in zip(prompts, limits, strict=True)]


def test_a_wrong_layout_of_the_cache_is_found_out(monkeypatch):
    """Planted fault: rows begin at one place, padding behind them, as they did before."""

    def to_the_front(mask, width):
        return mask.argsort(dim=1, descending=True, stable=True)[:, :width]

    model = build("mpt")
    monkeypatch.setattr(kv_cache, "_to_the_end", to_the_front)
    assert tried(model).decoding == "cached"


def test_a_model_that_cannot_be_decoded_is_refused():
    """Planted faults: with a cache all tokens are read as one and the same; then in every batch."""
    model = build("mamba")
    wrong = {"is": lambda inputs: inputs.get("use_cache")}

    def same(_, args, inputs):
        ids = inputs["input_ids"]
        return args, inputs | ({"input_ids": torch.full_like(ids, 5)} if wrong["is"](inputs) else {})

    model.register_forward_pre_hook(same, with_kwargs=True)
    assert tried(model).decoding == "uncached"
    wrong["is"] = lambda inputs: len(inputs["input_ids"]) > 1
    with pytest.raises(PlanError, match=r"MambaForCausalLM cannot be decoded: .*other logits"):
        tried(model)


def test_an_encoder_and_a_model_that_does_not_run_are_refused():
    assert "comes after them" in next(forward_faults(build("bert")))
    model = build("llama")
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(3, 3)
    assert "does not run on a few tokens (mat1 and mat2" in next(forward_faults(model))


def test_neighbours_in_a_batch_that_change_a_text_are_found_out():
    """Planted fault: something is normalised over the whole batch."""
    model = build("llama")
    model.model.norm.register_forward_hook(lambda _, __, out: out / out.std())
    assert "otherwise beside others" in next(forward_faults(model)) or "comes after" in next(forward_faults(model))


def test_a_kind_is_tried_once_a_process_and_what_wraps_it_is_another_kind(monkeypatch):
    asked = []
    monkeypatch.setattr(capabilities, "_known", {})
    monkeypatch.setattr(capabilities, "tried", lambda model: asked.append(model) or Capabilities(0, "batched"))
    model = build("llama")
    assert capabilities_of(model) == capabilities_of(build("llama"))
    model.model.layers[0].mlp.up_proj = torch.nn.Sequential(model.model.layers[0].mlp.up_proj)
    capabilities_of(model)
    assert len(asked) == 2


def test_what_a_model_cannot_do_is_said():
    assert not Capabilities(2048, "batched").notes
    assert [note.split(" on this")[0] for note in Capabilities(0, "cached").notes] == [
        "Prompts of unequal length cannot be continued together",
        "Texts that begin alike cannot share a row",
    ]


def test_trials_are_no_work_of_the_model(base):
    from harness.models.flops import executed, full_price

    model = base.load(torch.float32)
    with executed(model, full_price(base.path, False)) as work:
        capabilities._known.clear()
        capabilities_of(model)
        assert work.flops == work.tokens == 0


def test_decoding_under_an_adapter_is_counted_whole(base):
    """peft's model reads the prompts, the model inside it what follows."""
    from torch.utils.flop_counter import FlopCounterMode

    from harness.models.flops import executed, full_price
    from tests.support.training import make_run

    run = make_run(base, "lora(r=1, targets='q_proj')")
    model = run.wrap(run.load()).model.eval()
    model.set_attn_implementation("eager")
    prompts = [Prompt(tuple(range(5, 5 + n)), 12, lambda _: False) for n in (4, 20)]
    capabilities_of(model)
    with executed(model, full_price(base.path, False)) as work, FlopCounterMode(display=False) as counter:
        continuations(model, prompts, frozenset(), 200)
    assert work.flops == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.slow
def test_every_architecture_of_the_table_is_right_or_refused():
    """What is trained, stored, folded and decoded agrees; refusals are sentences, and nothing fails in another way."""
    from tests.architectures import KINDS, checked

    found = {name: checked(name) for name in KINDS}
    wrong = {name: said for name, said in found.items() if any(word.startswith("no:") for word in said.values())}
    assert not wrong
    assert sum(said["sft"] == "yes" for said in found.values()) >= 45
