"""A model is scored the same wherever its blocks stand, and however little memory there is to score in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.commands.compare import prepare
from harness.contract import blocks_of
from harness.decoding import likelihood
from harness.decoding.generate import Prompt, batched, continuations
from harness.decoding.likelihood import Continuation
from harness.evaluation.codec import Codec
from harness.evaluation.drift import Drift
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.models import placement
from harness.models.base_model import empty_model
from harness.models.batches import collate
from harness.models.forward import logits_at
from harness.models.placement import LEAST, has_room, placed, places_of, size_of, spread, token_budget_of, while_memory_runs_out
from harness.plan.load import make_plan
from harness.recipes.registry import methods
from harness.runs.execute import execute
from harness.setup.specs import run_specs
from harness.store.runs import RunStore
from harness.tokens.chat_template import ChatTemplate
from harness.training.engine import Alone, TrainedModel
from tests.support.training import examples, make_run, small_files

CPU = torch.device("cpu")
ADDING = sorted(name for name, method in methods().items() if method.adds and not method.folds)


@pytest.fixture
def model(base):
    return base.load(torch.float32)


def room_for(model, blocks: int) -> float:
    """Bytes that hold everything but all blocks, and so many of them."""
    own = blocks_of(model)
    return size_of(model) - size_of(own) + sum(size_of(own[place]) for place in range(blocks))


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_blocks_without_room_stay_and_visit_and_the_logits_are_the_same(model, blocks):
    there, batch = spread(model, CPU, room_for(model, blocks)), collate(examples(4))
    own, copies = blocks_of(model), blocks_of(there)
    shared = [a.self_attn.q_proj.weight is b.self_attn.q_proj.weight for a, b in zip(own, copies, strict=True)]
    assert shared == [place >= blocks for place in range(len(own))]
    with torch.no_grad():
        assert torch.equal(logits_at(there, batch), logits_at(model, batch))
    assert shared == [a.self_attn.q_proj.weight is b.self_attn.q_proj.weight for a, b in zip(own, copies, strict=True)]


def test_a_visiting_block_computes_with_weights_of_the_device(model):
    there, seen = spread(model, CPU, room_for(model, 0)), []
    layer = blocks_of(there)[0].mlp.up_proj
    layer.register_forward_hook(lambda module, *_: seen.append(module.weight))
    logits_at(there, collate(examples(1)))
    assert seen[0] is not layer.weight and torch.equal(seen[0], layer.weight)


def test_a_block_leaves_the_device_where_memory_runs_out_too(model):
    there = spread(model, CPU, room_for(model, 0))
    block = blocks_of(there)[0]

    def full(*_):
        raise torch.OutOfMemoryError

    handle = block.mlp.register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        logits_at(there, collate(examples(1)))
    handle.remove()
    assert block.mlp.up_proj.weight is blocks_of(model)[0].mlp.up_proj.weight


def test_answers_are_decoded_the_same(model):
    prompts = [Prompt(example.tokens, 6, lambda _: False) for example in examples(5)]
    there = spread(model, CPU, room_for(model, 1))
    assert continuations(there, prompts, frozenset({3}), 256) == continuations(model, prompts, frozenset({3}), 256)


@pytest.mark.parametrize("name", ADDING)
def test_what_methods_add_goes_along(name, base):
    """A wrapped model in the host's memory is scored by a copy: nothing in the copy may refer to the original."""
    run = make_run(base, name)
    wrapped, batch = run.wrap(run.load()).model.eval(), collate(examples(3))
    with torch.no_grad():
        there, wanted = spread(wrapped, CPU, room_for(wrapped, 1)), logits_at(wrapped, batch)
        for parameter in wrapped.parameters():
            if all(parameter is not own for own in there.parameters()):
                parameter.zero_()
        assert torch.equal(logits_at(there, batch), wanted)


def test_on_a_cpu_a_model_is_scored_where_it_is(model):
    assert placed(model, "cpu") is model and has_room(model, "cpu")


def test_a_device_with_room_holds_all_and_one_without_holds_what_it_can(model, monkeypatch):
    total = 100 * size_of(model)
    free = {"enough": 0.25 * total + size_of(model), "half": 0.25 * total + room_for(model, 1)}
    device = torch.device("meta")  # it stands for a GPU: tensors can be sent there
    for name, held in (("enough", 2), ("half", 1)):
        monkeypatch.setattr(placement, "memory_of", lambda _, name=name: (free[name], total))
        there = [next(block.parameters()).device == device for block in blocks_of(placed(model, device))]
        assert sum(there) == held and has_room(model, device) is (name == "enough")


def test_a_gpu_scores_as_much_at_once_as_it_has_memory_for(base, monkeypatch):
    budgets = []
    for total in (1e6, 5e6, 2e7, 1e12):
        monkeypatch.setattr(placement, "memory_of", lambda _, total=total: (total, total))
        budgets.append(token_budget_of(empty_model(base.path)))
    assert budgets[0] == LEAST and budgets[1] < budgets[2] < budgets[3] == placement.MOST
    assert all(budget & (budget - 1) == 0 for budget in budgets)
    assert token_budget_of(base.load(torch.float32)) == placement.TOKENS["cpu"]


def test_logits_of_a_batch_are_bounded(model, monkeypatch):
    monkeypatch.setattr(placement, "LOGITS", 4 * 260 * 10)
    assert places_of(model) == 10
    found = list(batched(range(1, 8), lambda n: n, 100, lambda n: n, 10))
    assert [sum(group) for group in found] == [7, 6, 9, 6] and sorted(n for group in found for n in group) == [*range(1, 8)]
    assert list(batched([50], lambda n: n, 10, lambda n: n, 10)) == [[50]], "what is larger goes alone"


class Small:
    """Stands for a device on which more than so many padded tokens do not fit."""

    def __init__(self, model: nn.Module, tokens: int):
        self.tokens, self.refused = tokens, 0
        model.register_forward_pre_hook(self.look, with_kwargs=True)

    def look(self, _, args, inputs):
        if inputs["input_ids"].numel() > self.tokens:
            self.refused += 1
            raise torch.OutOfMemoryError("planted")


def likelihoods(model, base):
    asked = [Continuation(example.tokens[:5], example.tokens[5:]) for example in examples(40)]
    return [value for value, _ in likelihood.score(model, asked, 2048)]


def drifts(model, base):
    drift = Drift(lambda: base.load(torch.float32), examples(40), base.tokenizer.decode, 2048)
    return [values["nll"] for _, values in drift.measure(model)]


def answers(model, base):
    lm = EvaluatedModel(model, Codec(base.tokenizer, ChatTemplate(base.tokenizer)), token_budget=2048)
    prompts = [Prompt(example.tokens, 3, lambda _: False) for example in examples(40)]
    said = lm.continued(prompts, [(3, ())] * len(prompts))
    return [token for _, answer in sorted(said.items()) for token in answer]


@pytest.mark.parametrize("most", [32, 64])
def test_no_pass_has_more_logits_than_that(most, model, base, monkeypatch):
    monkeypatch.setattr(placement, "LOGITS", 4 * 260 * most)
    passes = []
    model.get_output_embeddings().register_forward_hook(lambda *told: passes.append(told[2].shape[1]))
    wanted = [ask(model, base) for ask in (likelihoods, drifts)]
    assert max(passes) <= most < sum(passes) / 5
    monkeypatch.undo()
    assert [ask(model, base) for ask in (likelihoods, drifts)] == [pytest.approx(one, abs=1e-4) for one in wanted]


@pytest.mark.parametrize("ask", [likelihoods, drifts, answers])
def test_scores_are_the_same_where_memory_runs_out(ask, model, base):
    wanted, device = ask(model, base), Small(model, 512)
    assert ask(model, base) == pytest.approx(wanted, abs=1e-4) and device.refused == 2


def test_a_budget_is_halved_until_it_fits_and_no_further_than_the_least():
    tried = []

    def work(budget: int) -> str:
        tried.append(budget)
        if budget > 500:
            raise torch.OutOfMemoryError
        return "done"

    assert while_memory_runs_out(work, 2000) == "done" and tried == [2000, 1000, 500]
    with pytest.raises(torch.OutOfMemoryError):
        while_memory_runs_out(lambda _: work(1000), 1024)


def test_what_trains_steps_aside_and_is_back(monkeypatch):
    """With stand-ins for tensors on a GPU: here is none."""

    class There:
        def __init__(self, device: str):
            self.device, self.data, self.moves = torch.device(device), self, []

        def cpu(self):
            self.moves.append("cpu")
            return self

        def to(self, device):
            self.moves.append(str(device))
            return self

    parameter, quantised, master, here = There("cuda"), There("cuda"), There("cuda"), There("cpu")
    quantised.quant_state = None  # type: ignore[attr-defined]
    forgotten: list[int] = []
    wrapped = SimpleNamespace(model=SimpleNamespace(parameters=lambda: iter([parameter, quantised])))
    masters: Any = SimpleNamespace(wrapped=wrapped, tensors=[master, here], forget_start=lambda: forgotten.append(1))
    optimizer: Any = SimpleNamespace(state={})
    trained = TrainedModel(Alone(), masters, optimizer, ())
    with pytest.raises(RuntimeError), trained.aside():
        assert (parameter.moves, master.moves) == (["cpu"], ["cpu"]) and forgotten
        raise RuntimeError
    assert (parameter.moves, master.moves) == (["cpu", "cuda"], ["cpu", "cuda"])
    assert not quantised.moves and not here.moves


def test_scores_in_bf16_have_keys_of_their_own_and_a_zero_budget_is_the_base(tiny_path, tmp_path):
    found = {}
    for scoring in ("float32", "bfloat16"):
        places = {**small_files(tmp_path), "out": str(tmp_path / scoring)}
        fixed = {"model": tiny_path, "recipes": "sft", "budget": "4steps", "max_length": 64, "limit": 8, "final_only": True}
        material, plan, allowed = prepare(make_plan(fixed | places | {"scoring": scoring}))
        assert any("scored in bfloat16" in note for note in plan.notes) is (scoring == "bfloat16")
        for spec in run_specs(material, allowed)[:2]:
            folder = RunStore(tmp_path / scoring).run(spec.key)
            execute(spec, material, RunStore(tmp_path / scoring), plan.open(material), lambda _: None)
            found[scoring, spec.row] = folder.scores("final", plan.keys["final"])["score"].to_numpy()
        found[scoring, "keys"] = set(plan.keys.values())
    assert not found["float32", "keys"] & found["bfloat16", "keys"]
    assert np.array_equal(found["bfloat16", "base"], found["bfloat16", "zero budget"], equal_nan=True)
    assert not np.array_equal(found["bfloat16", "base"], found["float32", "base"], equal_nan=True)
    assert found["bfloat16", "base"] == pytest.approx(found["float32", "base"], abs=0.1, nan_ok=True)
