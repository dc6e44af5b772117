"""Texts that begin alike are read once, and have the logits they have alone."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicLayer

from harness.checkpoints.loading import load_model
from harness.decoding import generate, kv_cache, likelihood, prefix_tree
from harness.decoding.likelihood import Continuation

torch.set_num_threads(1)
HEAD = tuple(range(5, 29))
TEXTS = [HEAD + tail for tail in ((30,), (30, 31, 32), (40, 41), (40, 41, 42, 43), (7,))]


@pytest.fixture(scope="module")
def model(tiny_path):
    """As initialised it hardly attends to anything."""
    model = load_model(tiny_path, torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 6 if "proj" in name else 1
    return model


@contextmanager
def reading(model):
    """Counts the tokens that a model reads, padding included."""
    counted = []
    handle = model.register_forward_pre_hook(
        lambda _, __, inputs: counted.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    yield counted
    handle.remove()


def test_a_row_holds_each_common_beginning_once():
    (row,) = prefix_tree.rows_of(TEXTS, 100, 1000)
    assert len(row.tokens) == len(HEAD) + 1 + 2 + 2 + 2 + 1
    for text, places in row.places.items():
        assert [row.tokens[place] for place in places] == list(text)
        assert [row.positions[place] for place in places] == list(range(len(text)))
        visible = np.zeros((len(row.tokens),) * 2, bool)
        row.show(visible)
        assert visible[places[-1]].nonzero()[0].tolist() == sorted(places)


def test_rows_are_shared_only_where_that_is_cheaper():
    assert len(prefix_tree.rows_of(TEXTS, 100, 1000)) == 1
    assert len(prefix_tree.rows_of(TEXTS, 30, 1000)) == 2  # too long for one
    assert len(prefix_tree.rows_of(TEXTS, 0, 1000)) == len(TEXTS)
    assert (
        len(prefix_tree.rows_of([(5, *range(6, 60)), (5, *range(60, 120))], 1000, 16)) == 2
    )  # attention would cost more than it saves


def test_shared_rows_score_like_texts_alone(model):
    asked = [Continuation(text[:n], text[n:]) for text in TEXTS for n in (1, 24)]
    alone = likelihood.score(model, asked, 1000)
    together = likelihood.score(model, asked, 1000, prefix_tree.longest_shared(model))
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], abs=1e-4)
    assert [same for _, same in together] == [same for _, same in alone]


def test_sentences_of_a_pair_share_what_they_have_in_common(model):
    pair = [Continuation((1,), HEAD + tail) for tail in ((30, 31, 50), (32, 31, 50))]
    with reading(model) as alone:
        expected = likelihood.score(model, pair, 1000)
    with reading(model) as together:
        found = likelihood.score(model, pair, 1000, 100)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert sum(alone) == 2 * 27
    assert sum(together) == 25 + 2 + 2


def test_a_model_that_shows_texts_to_each_other_reads_them_alone(model):
    assert prefix_tree.longest_shared(model) == prefix_tree.LONGEST
    blind = model.register_forward_pre_hook(lambda _, args, inputs: (args, inputs | {"attention_mask": None}), with_kwargs=True)
    assert prefix_tree.longest_shared(model) == 0
    blind.remove()


def test_virtual_tokens_are_read_with_every_text(model, tiny_path):
    from peft import PromptTuningConfig, get_peft_model

    wrapped = get_peft_model(
        load_model(tiny_path, torch.float32), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    assert prefix_tree.longest_shared(wrapped) == 0


def test_local_attention_shares_rows_within_its_span():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "sliding_window": 30}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        local = MistralForCausalLM(MistralConfig(**sizes, **heads, pad_token_id=0, initializer_range=0.2)).eval()
    longest = prefix_tree.longest_shared(local)
    assert longest == 30
    asked = [Continuation(text[:20], text[20:]) for text in TEXTS]
    found = likelihood.score(local, asked, 1000, longest)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in likelihood.score(local, asked, 1000)], abs=1e-4)


def test_prompts_that_begin_alike_are_read_once_and_answered_alike(model):
    prompts = [generate.Prompt(text, 6, lambda _: False) for text in [*TEXTS, TEXTS[0]]]
    with reading(model) as alone:
        expected = generate.continuations(model, prompts, frozenset(), 1000)
    with reading(model) as together:
        found = generate.continuations(model, prompts, frozenset(), 1000, longest=100)
    assert found == expected
    assert found[0] == found[-1]
    assert alone[0] == 5 * 28  # the repeated prompt is not read twice
    assert together[0] == len(HEAD) + 8


def test_a_cache_with_room_is_written_in_place():
    states = torch.randn(2, 1, 5, 4)
    filled = DynamicLayer()
    filled.update(states, states)
    layer = kv_cache.Growing(filled)
    steps = [torch.randn(2, 1, 1, 4) for _ in range(4)]
    seen = [layer.update(step, step)[0] for step in steps]
    assert torch.equal(seen[-1], torch.cat([states, *steps], 2))
    assert {keys.data_ptr() for keys in seen} == {seen[0].data_ptr()}
    layer.reorder_cache(torch.tensor([1]))
    keys, _ = layer.update(steps[0][:1], steps[0][:1])
    assert torch.equal(keys, torch.cat([states[1:], *(step[1:] for step in steps), steps[0][:1]], 2))
