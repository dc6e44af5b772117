"""One run in two processes: the same losses as one, every token once, one ledger, killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import psutil
import pytest
import torch

from harness.commands.compare import carry_out, prepare
from harness.models.base_model import plain_weights, read_weights, weights_hash
from harness.plan.deepspeed import deepspeed_config
from harness.plan.load import make_plan
from harness.runs.events import Requeued
from harness.setup.specs import run_specs
from harness.store.files import read_json
from harness.store.runs import RunFolder, RunStore
from harness.training.data_parallel import split_step
from harness.training.engine import Alone, TrainedModel, make_optimizer
from harness.training.masters import Masters
from harness.workers.dispatch import run_all
from harness.workers.ranks import FaultKind, launch
from tests.support.rank_runs import compare, compare_training, short_in
from tests.support.ranks import (
    SETTINGS,
    lose_another,
    run_out,
    train_and_die,
    train_into,
    train_recipes,
    train_short,
)
from tests.support.training import make_run, small_files

RECIPES = ("sft", "lora", "nlirg", "ewc(samples=4)", "distill", "replay")
IN_PIECES = {"logits_at_once": 5 * 260}
"""Two processes run the head at five places at a time; the one that they are compared with at all places at once."""
SHARDED = ("l2sp(strength=20)", "si_proxy(steps=2)", "kl+wise", "lora+ewc(samples=4)")
"""Pulls on shards, coupled and not; a penalty; interpolation; pulls on what adapters fold to."""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_what_killed_a_process_is_told_before_what_the_other_made_of_it(lost):
    """Also where both are heard at once: when what the first says is looked at, neither is there any more."""

    def wait_for_their_end(event: dict[str, list[int]]) -> None:
        while any(map(psutil.pid_exists, event["processes"])):
            time.sleep(0.01)

    assert f"process {lost} of the run was ended by signal 9" in str(launch(lose_another, 2, (lost,), wait_for_their_end))


@pytest.mark.slow
def test_two_processes_train_as_one_does(base, reference, tmp_path):
    assert launch(train_recipes, 2, (base.path, RECIPES, tmp_path, None, IN_PIECES), lambda _: None) is None
    for recipe in RECIPES:
        compare(reference(recipe), tmp_path / recipe)
    run = make_run(base, "sft", **SETTINGS)
    run.engine.split_step = lambda step: split_step(step, 2)
    flops = sum(run.step_price(step)[0] for step, _ in zip(run.steps(), range(4), strict=False))
    assert json.loads((tmp_path / "sft" / "ledger.json").read_text())["flops"] == flops


@pytest.mark.slow
def test_where_one_of_two_runs_out_of_memory_both_halve(base, reference, tmp_path):
    assert launch(train_short, 2, (base.path, tmp_path), lambda _: None) is None
    compare_training(reference("sft"), tmp_path)
    assert short_in(tmp_path) == [2]


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "rank"), [("zero2", 0), ("zero3", 1)])
def test_where_a_sharded_rank_runs_out_of_memory_the_run_begins_again(zero, rank, tiny_path, tmp_path):
    """With less room from its last checkpoint, until one example at a time is too much: then it ends."""
    pytest.importorskip("deepspeed")
    sharded = {"gpus_per_run": 2, "deepspeed": zero, "budget": "5steps", "batch_size": 8, "precision": "float32"}
    asked = small_files(tmp_path, 60) | sharded | {"model": tiny_path, "max_length": 64, "limit": 4, "final_only": True}
    asked |= {"checkpoint_every": 0.0, "out": str(tmp_path / "results")}

    def made(micro_tokens: int, limit: int) -> tuple[RunFolder, list[Requeued]]:
        recipe = f"{Path(__file__).parents[1] / 'support' / 'short.py'}:Short(limit={limit}, begin=3, rank={rank})"
        material, evaluation, allowed = prepare(make_plan(asked | {"recipes": recipe, "micro_tokens": micro_tokens}))
        (spec,) = (dataclasses.replace(one, kinds=("final",)) for one in run_specs(material, allowed) if one.role == "recipe")
        store, told = RunStore(tmp_path / "runs"), []
        run_all([spec], material, evaluation, store, lambda _, event: told.append(event))
        return store.run(spec.key), [event for event in told if isinstance(event, Requeued)]

    short, lost = made(128, limit=64)
    assert short.status == "done" and len(lost) == 1 and not (short.path / "room.json").exists()
    (note,) = short.read("run")["happened"]["notes"]
    assert "ran out in step 3" in note and "at most 64 tokens" in note and short_in(short.path) == [3]
    plain, lost = made(64, limit=64)
    for a, b in zip(plain.log(), short.log(), strict=True):
        assert a["tokens"] == b["tokens"] and b["loss"] == pytest.approx(a["loss"], rel=2e-4)
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=2e-4)
    ledgers = [run.read("ledger") for run in (plain, short)]
    assert not lost and ledgers[0]["tokens"] == ledgers[1]["tokens"] and ledgers[0]["steps"] == ledgers[1]["steps"] == 5
    ended, lost = made(128, limit=0)
    assert ended.status == "out_of_memory" and "one example at a time" in ended.read("status")["reason"] and len(lost) == 1


@pytest.mark.slow
def test_who_ran_out_of_memory_is_why_a_run_ends_whatever_becomes_of_the_others(tmp_path):
    fault = launch(run_out, 2, (tmp_path / "told",), lambda _: None)
    assert fault is not None and fault.kind is FaultKind.OUT_OF_MEMORY
    assert fault.message.startswith("process 1: OutOfMemoryError: out of memory: CUDA")


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2-offload", "zero3"])
def test_sharded_by_deepspeed_they_train_as_one_does(zero, base, reference, tmp_path):
    pytest.importorskip("deepspeed")
    recipes = RECIPES + SHARDED
    config = deepspeed_config(zero, "float32")
    assert launch(train_recipes, 2, (base.path, recipes, tmp_path, config, IN_PIECES), lambda _: None) is None
    for recipe in recipes:
        compare(reference(recipe), tmp_path / recipe)


@pytest.mark.slow
def test_a_sharded_comparison_leaves_ordinary_models(tiny_path, tmp_path):
    pytest.importorskip("deepspeed")
    from transformers import AutoModelForCausalLM

    rows = [{"instruction": f"Add {i} and {i % 7}", "input": "", "output": str(i + i % 7)} for i in range(80)]
    items = [{"id": str(i), "question": f"Say {i}", "answer": str(i)} for i in range(4)]
    (tmp_path / "sums.json").write_text(json.dumps(rows))
    (tmp_path / "say.jsonl").write_text("\n".join(map(json.dumps, items)))
    asked = {"data": str(tmp_path / "sums.json"), "suites": str(tmp_path / "say.jsonl"), "model": tiny_path}
    spread = {"gpus_per_run": 2, "deepspeed": "zero3", "checkpoints": "1", "final_only": True}
    options = {"recipes": "sft", "budget": "4steps", "limit": 4, "max_length": 64, "precision": "float32"}
    folder, failed = carry_out(make_plan(asked | spread | options | {"out": str(tmp_path / "results")}), quiet=True)
    assert not failed
    (row,) = [row for row in (read_json(folder / "comparison.json") or {})["rows"] if row["role"] == "recipe"]
    run = RunStore(tmp_path / "results" / "runs").run(row["key"])
    model = AutoModelForCausalLM.from_pretrained(run.model(1.0), dtype=torch.float32)
    assert weights_hash(plain_weights(model)) == run.read("run")["happened"]["weights_hash"]
    assert run.read("ledger")["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("zero", [None, "zero3"])
def test_one_that_is_killed_ends_all_and_they_resume(zero, base, reference, tmp_path):
    config = deepspeed_config(zero, "float32") if zero else None
    if zero:
        pytest.importorskip("deepspeed")
    recipe = "ewc(samples=4)"
    fault = launch(train_and_die, 2, (base.path, recipe, tmp_path, config), lambda _: None)
    assert fault is not None and fault.kind is FaultKind.KILLED
    assert "process 1 of the run was ended by signal 9" in fault.message
    assert not (tmp_path / recipe / "weights.safetensors").exists()
    assert launch(train_recipes, 2, (base.path, [recipe], tmp_path, config), lambda _: None) is None
    assert len(RunFolder(tmp_path / recipe).log()) == 4
    compare(reference(recipe), tmp_path / recipe)


# --- in bf16 ---

BF16 = {"precision": "bfloat16"}


class Dealing(Alone):
    """One process that makes the micro-batches of two: its gradients are the sums of theirs."""

    def split_step(self, step):
        return split_step(step, 2)

    def build(self, wrapped, training, methods):
        masters = Masters(wrapped)
        return DealtModel(self, masters, make_optimizer(masters.tensors, training), methods)


class DealtModel(TrainedModel):
    """The model that `Dealing` trains."""

    def batches(self, run, step):
        batches = [batch for share in self.engine.split_step(step) for batch in run.batches(share)]
        for place, batch in enumerate(batches, 1):
            yield batch, True, place == len(batches)


def compare_bf16(one: Path, two: Path, start: dict[str, torch.Tensor]) -> None:
    """The first step's gradients are sums of the same numbers, in fp32; later steps drift apart by rounding alone."""
    logs = [RunFolder(folder).log() for folder in (one, two)]
    assert logs[1][0]["gradient_norm"] == pytest.approx(logs[0][0]["gradient_norm"], rel=1e-6)
    for a, b in zip(*logs, strict=True):
        assert {k: a[k] for k in ("tokens", "supervised", "spent")} == {k: b[k] for k in ("tokens", "supervised", "spent")}
        for key in ("loss", "task_loss", "gradient_norm"):
            assert b[key] == pytest.approx(a[key], rel=2e-3), key
    wanted, found = (read_weights(folder / "weights.safetensors") for folder in (one, two))
    apart = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted)
    moved = sum(float((wanted[name] - start[name]).square().sum()) for name in wanted if name in start)
    assert apart < 0.01 * moved


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero2-offload", "zero3"])
def test_sharded_in_bf16_they_train_as_one_process_does(zero, base, tmp_path):
    pytest.importorskip("deepspeed")
    recipes, start = ("sft", "lora", "l2sp(strength=20)", "ewc(samples=4)"), plain_weights(base.load(torch.float32))
    asked = (base.path, recipes, tmp_path / "two", deepspeed_config(zero, "bfloat16"), BF16)
    assert launch(train_recipes, 2, asked, lambda _: None) is None
    for recipe in recipes:
        run = make_run(base, recipe, **SETTINGS | BF16)
        run.engine = Dealing()
        train_into(run, tmp_path / "one" / recipe)
        compare_bf16(tmp_path / "one" / recipe, tmp_path / "two" / recipe, start)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_masters_begin_at_the_bases_fp32_values(zero, base, tmp_path):
    """Not at what the bf16 model holds: a training at rate 0 ends as the base to the last bit."""
    pytest.importorskip("deepspeed")
    asked = (base.path, ["sft"], tmp_path, deepspeed_config(zero, "bfloat16"), BF16 | {"learning_rate": 0.0})
    assert launch(train_recipes, 2, asked, lambda _: None) is None
    found, start = read_weights(tmp_path / "sft" / "weights.safetensors"), plain_weights(base.load(torch.float32))
    assert weights_hash(found) == weights_hash(start)
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in start.values())


@pytest.mark.slow
def test_in_bf16_they_resume(base, tmp_path):
    pytest.importorskip("deepspeed")
    config, recipe = deepspeed_config("zero3", "bfloat16"), "ewc(samples=4)"
    for name in ("killed", "whole"):
        work, reason = (train_and_die, "signal 9") if name == "killed" else (train_recipes, "")
        asked = recipe if name == "killed" else [recipe]
        fault = launch(work, 2, (base.path, asked, tmp_path / name, config, BF16), lambda _: None)
        assert reason in str(fault or "")
    assert launch(train_recipes, 2, (base.path, [recipe], tmp_path / "killed", config, BF16), lambda _: None) is None
    killed, whole = (read_weights(tmp_path / name / recipe / "weights.safetensors") for name in ("killed", "whole"))
    assert weights_hash(killed) == weights_hash(whole) and len(RunFolder(tmp_path / "killed" / recipe).log()) == 4
