"""What a plan may ask of runs in several processes, how devices are shared out, and what is counted once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from harness.errors import PlanError
from harness.plan.deepspeed import deepspeed_config, zero_of
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.recipes.recipe import parse_recipe, unsharded
from harness.setup.material import gather
from harness.store.lease import Lost
from harness.store.runs import RunStore
from harness.training.data_parallel import split_step
from harness.training.ledger import Ledger
from harness.training.shards import Span
from harness.training.step import Cramped
from harness.training.zero import Zero
from harness.vocabulary import Status
from harness.workers.process import device_slots, settle
from harness.workers.ranks import FaultKind, launch
from tests.support.ranks import lose_memory_first, tell_gpus
from tests.support.settings import settings
from tests.support.training import examples


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


@pytest.mark.parametrize("stored", Status)
def test_the_end_that_a_run_has_stored_stays_where_another_rank_fails_because_of_it(stored, tmp_path):
    store = RunStore(tmp_path)
    spec = SimpleNamespace(key="1" * 16)
    store.run(spec.key).path.mkdir(parents=True)
    store.run(spec.key).end(stored, "what rank 0 stored")
    settle(spec, store, Status.FAILED, "process 1: RuntimeError: connection closed")  # type: ignore[arg-type]
    kept = store.run(spec.key).read("status")
    failed = stored == Status.FAILED
    assert kept["status"] == stored and kept["reason"].startswith("process 1" if failed else "what rank 0")


def test_memory_that_ran_out_is_the_cause_even_if_what_it_caused_is_read_first(tmp_path):
    def receive(event: str) -> None:
        time.sleep(3)  # meanwhile both ranks have said why they end

    fault = launch(lose_memory_first, 2, (tmp_path / "told",), receive)
    assert fault is not None and fault.kind is FaultKind.OUT_OF_MEMORY and fault.message.startswith("process 0")
