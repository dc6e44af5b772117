"""One run in two processes: the same losses as one, every token once, one ledger, killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import Counter
from functools import cache
from pathlib import Path

import psutil
import pytest
import torch

from harness.commands.compare import carry_out, prepare
from harness.errors import PlanError
from harness.models.adapters import Silenced
from harness.models.base_model import plain_weights, read_weights, weights_hash
from harness.models.forward import features_at
from harness.plan.deepspeed import deepspeed_config, zero_of
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.recipes.recipe import parse_recipe, unsharded
from harness.runs.events import Requeued
from harness.setup.material import gather
from harness.setup.specs import run_specs
from harness.store.files import read_json
from harness.store.lease import Lost
from harness.store.runs import RunFolder, RunStore
from harness.training.data_parallel import split_step
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.loop import train
from harness.training.shards import Span
from harness.training.step import Cramped
from harness.training.zero import Zero
from harness.workers.dispatch import run_all
from harness.workers.process import device_slots
from harness.workers.ranks import FaultKind, launch
from tests.support.ranks import (
    SETTINGS,
    lose_another,
    run_out,
    tell_gpus,
    train_and_die,
    train_into,
    train_recipes,
    train_short,
)
from tests.support.settings import settings
from tests.support.short import Short
from tests.support.training import examples, make_run, small_files, trained
from tests.training.test_train import Killed, killed_at

RECIPES = ("sft", "lora", "nlirg", "ewc(samples=4)", "distill", "replay")
IN_PIECES = {"logits_at_once": 5 * 260}
"""Two processes run the head at five places at a time; the one that they are compared with at all places at once."""
SHARDED = ("l2sp(strength=20)", "si_proxy(steps=2)", "kl+wise", "lora+ewc(samples=4)")
"""Pulls on shards, coupled and not; a penalty; interpolation; pulls on what adapters fold to."""


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 5, 32])
def test_every_example_is_dealt_to_one_rank_whatever_its_order(n, size):
    step = list(examples(n))
    shares = split_step(step, size)
    assert Counter(e.id for share in shares for e in share) == Counter(e.id for e in step)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    random.Random(0).shuffle(step)
    assert split_step(step, size) == shares


def test_shares_have_nearly_equal_tokens():
    tokens = [sum(map(len, share)) for share in split_step(list(examples(64)), 4)]
    assert max(tokens) - min(tokens) <= 24  # the longest example


def test_a_ledger_counts_what_each_rank_did_once():
    ranks = [Ledger("flops", 100.0), Ledger("flops", 100.0)]
    for ledger in ranks:
        with ledger.charge("fisher", 8.0, Counter(general=2), torch.device("cpu")):
            pass
    for ledger in ranks:  # what all know already is not summed again
        ledger.restore(ranks[0].record())
    for ledger, flops in zip(ranks, (3.0, 4.0), strict=True):
        with ledger.charge("train", flops, Counter(domain=5), torch.device("cpu")):
            pass
    parts = [ledger.fresh() for ledger in ranks]
    for ledger in ranks:
        ledger.merge(parts)
        ledger.merge([ledger.fresh(), ledger.fresh()])  # nothing new: nothing moves
    assert ranks[0].record() == ranks[1].record()
    assert ranks[0].spent == 15.0 and ranks[0].classes == Counter(general=2, domain=10)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Lost("memory"), FaultKind.LOST),
        (Cramped("no memory", 1, []), FaultKind.CRAMPED),
        (torch.OutOfMemoryError("no room"), FaultKind.OUT_OF_MEMORY),
        (MemoryError(), FaultKind.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), FaultKind.OUT_OF_MEMORY),
        (ValueError("process 0: Lost: Cramped: out of memory"), FaultKind.OTHER),
    ],
)
def test_what_becomes_of_a_run_follows_from_the_kind_of_an_error_not_from_its_words(error, kind):
    assert FaultKind.of(error) is kind


def test_spans_cover_a_weight_once():
    weight = torch.randn(3, 5)
    spans = [Span(0, 8, 8), Span(8, 15, 8)]
    assert torch.equal(torch.cat([span.of(weight) for span in spans])[:15], weight.flatten())
    assert spans[1].of(weight)[-1] == 0


@pytest.mark.parametrize(("own", "wanted"), [({}, 100), ({"reduce_bucket_size": 7}, 7)])
def test_a_bucket_is_no_larger_than_what_is_trained_unless_the_user_says_so(own, wanted):
    engine = Zero.__new__(Zero)
    engine.config = {"zero_optimization": {"stage": 3} | own, "steps_per_print": 1}
    assert engine._fitting(100) == {"zero_optimization": {"stage": 3, "reduce_bucket_size": wanted}, "steps_per_print": 1}


# --- what a plan may ask ---


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"zero_optimization": {"stage": 1}}, "stage is 2 or 3, not 1"),
        ({"zero_optimization": {"stage": 3}, "optimizer": {"type": "Adam"}}, "sets optimizer"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offload_param.device is cpu or none"),
    ],
)
def test_a_deepspeed_file_that_decides_too_much_is_refused(config, fault, tmp_path):
    (tmp_path / "ds.json").write_text(json.dumps(config))
    with pytest.raises(PlanError, match=fault):
        make_plan({"deepspeed": str(tmp_path / "ds.json")})


def test_auto_in_a_deepspeed_file_is_left_to_us(tmp_path):
    given = {
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"},
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
    }
    (tmp_path / "ds.json").write_text(json.dumps(given))
    assert zero_of(str(tmp_path / "ds.json")) == {"zero_optimization": {"stage": 3}}
    config = deepspeed_config("zero2", "bfloat16")
    assert config["gradient_clipping"] == 0.0 and config["data_types"] == {"grad_accum_dtype": "fp32"}


def test_faults_of_devices_are_named_together():
    with pytest.raises(PlanError) as caught:
        make_plan({"devices": "0", "gpus_per_run": 2, "deepspeed": "zero4"})
    assert len(caught.value.faults) == 2
    assert all(word in str(caught.value.faults) for word in ("devices names 1", "zero2, zero3"))


@pytest.mark.parametrize("recipe", ["unfreeze", "lora+early_stop", "qlora"])
def test_what_cannot_be_sharded_is_refused_with_the_reason(recipe):
    assert "cannot be sharded" in unsharded(parse_recipe(recipe), stages=False)
    assert not unsharded(parse_recipe("ewc+nlirg"), stages=False)


def test_runs_at_once_share_devices_out(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_slots(settings(), 2) == [None, None]
    assert device_slots(settings(devices="4,5,6,7", gpus_per_run=2), 2) == ["4,5", "6,7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device_slots(settings(gpus_per_run=2), 2) == ["0,1", "2,3"]


def test_devices_are_counted_among_those_that_the_environment_shows(monkeypatch):
    """A scheduler that gave this process the GPUs 4 to 7 gave it no others."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,GPU-1f")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device_slots(settings(gpus_per_run=2), 2) == ["4,5", "6,GPU-1f"]
    assert device_slots(settings(devices="1,3"), 2) == ["5", "GPU-1f"]
    with pytest.raises(PlanError, match="names GPU 7 but torch sees 4 GPUs"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        gather(Plan(devices="6,7", device="cuda"))


def test_ranks_see_the_gpus_of_the_run_that_starts_them(monkeypatch):
    """They are forked by a server whose environment is older than the run's."""
    told = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert launch(tell_gpus, 1, (), told.append) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert launch(tell_gpus, 1, (), told.append) is None
    assert launch(tell_gpus, 1, (), told.append, slot="5") is None
    assert [event["gpus"] for event in told] == [None, "2,3", "5"]


# --- what one process makes ---


@cache
def alone(base, recipe: str, folder: Path) -> Path:
    train_into(make_run(base, recipe, **SETTINGS), folder / recipe)
    return folder / recipe


@pytest.fixture(scope="module")
def reference(base, tmp_path_factory):
    """What one process makes of a recipe."""
    folder = tmp_path_factory.mktemp("alone")
    return lambda recipe: alone(base, recipe, folder)


# --- memory that runs out ---


def short_of_memory(run, limit: int, once: bool = True):
    """Let forward passes over more than `limit` tokens fail: the first of them, or each."""
    forward, failed = run.features, []

    def features(model, batch):
        if batch.tokens.numel() > limit and not (once and failed):
            failed.append(batch.tokens.numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(model, batch)

    run.features = features
    return failed


def test_where_memory_runs_out_micro_batches_are_halved_and_steps_stay(base, tmp_path):
    plain = make_run(base, "sft")
    wanted, _ = trained(plain, tmp_path / "plain")
    run = make_run(base, "sft")
    failed = short_of_memory(run, limit=60)
    found, progress = trained(run, tmp_path / "short")
    logs = [RunFolder(tmp_path / name).log() for name in ("plain", "short")]
    assert failed and run.room == 48
    assert [e["tokens"] for e in logs[0]] == [e["tokens"] for e in logs[1]]
    assert logs[1][0]["out_of_memory"] == "micro-batches of at most 48 tokens from here on"
    assert "out_of_memory" not in logs[1][1] and "from step 1 on" in progress.notes[0]
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


def test_what_a_failed_backward_pass_left_goes_into_no_step(base, reference, tmp_path):
    run = make_run(base, "sft", **SETTINGS)
    run.methods = (Short(limit=32, begin=2),)
    train_into(run, tmp_path)
    compare_training(reference("sft"), tmp_path)
    assert short_in(tmp_path) == [2]


def test_where_the_teacher_runs_out_of_memory_the_model_stays_in_training(base, tmp_path, monkeypatch):
    failed = []

    def short(model, batch, **options):
        if isinstance(model, Silenced) and not failed:
            failed.append(batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return features_at(model, batch, **options)

    monkeypatch.setattr("harness.losses.head.features_at", short)
    run = make_run(base, "lora+distill", allowed=2)
    trained(run, tmp_path)
    assert failed and run.model.training


def test_a_run_begins_again_with_the_room_that_its_folder_tells(base, tmp_path):
    """Whatever its checkpoint says; the log tells where room changed, once, however often the run is killed."""
    for stop in (3, 4, 5):  # in the step behind the last checkpoint
        with pytest.raises(Killed):
            train(make_run(base, "sft"), tmp_path, lambda *_: None, killed_at(stop), checkpoint_every=0.0)
        RunFolder(tmp_path).write("room", {"room": 48, "notes": ["begun again"]})
    run = make_run(base, "sft")
    _, progress = trained(run, tmp_path)
    assert run.room == 48 and progress.notes == ["begun again"] and short_in(tmp_path) == [3]


def test_one_example_that_does_not_fit_ends_the_run(base, tmp_path):
    run = make_run(base, "sft")
    short_of_memory(run, limit=0, once=False)
    with pytest.raises(torch.OutOfMemoryError, match="one example at a time is too much"):
        trained(run, tmp_path)


# --- two processes ---


def short_in(folder: Path) -> list[int]:
    """The steps that memory was short in, as the log tells."""
    return [entry["step"] for entry in RunFolder(folder).log() if "out_of_memory" in entry]


def compare_training(one: Path, two: Path) -> None:
    """The same steps, losses and weights to rounding."""
    for a, b in zip(RunFolder(one).log(), RunFolder(two).log(), strict=True):
        assert {k: a[k] for k in ("tokens", "supervised", "spent")} == {k: b[k] for k in ("tokens", "supervised", "spent")}
        for key in ("loss", "task_loss", "penalty", "gradient_norm", "rate"):
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=2e-5), key
    wanted, found = (read_weights(folder / "weights.safetensors") for folder in (one, two))
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-3, atol=5e-5) for name in wanted)


def compare(one: Path, two: Path) -> None:
    """The same training; every token charged once."""
    compare_training(one, two)
    ledgers = [json.loads((folder / "ledger.json").read_text()) for folder in (one, two)]
    assert ledgers[0]["tokens"] == ledgers[1]["tokens"] and ledgers[0]["steps"] == ledgers[1]["steps"]
    assert ledgers[1]["flops"] == pytest.approx(ledgers[0]["flops"], rel=0.1)  # padding differs


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

    def batches(self, run, step):
        batches = [batch for share in self.split_step(step) for batch in run.batches(share)]
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
