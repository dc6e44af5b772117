"""Runs over several nodes of a Ray cluster: what fits, where ranks are, and the same bits as on one machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands.compare import prepare
from harness.errors import PlanError
from harness.plan.deepspeed import ranks_of
from harness.plan.load import make_plan
from harness.runs.events import Event, Requeued
from harness.setup.material import gather
from harness.setup.specs import run_specs
from harness.store.lease import Lost
from harness.store.runs import RunStore
from harness.training.data_parallel import Together
from harness.training.step import Cramped
from harness.workers.dispatch import run_all
from harness.workers.pace import pace
from harness.workers.ray_cluster import Resources, connect, describe, slots_per_node
from harness.workers.ray_gang import Gang, interface
from tests.support.cluster import two_nodes
from tests.support.ranks import whereabouts
from tests.support.settings import settings
from tests.support.training import small_files

FAULT = '''
import os
import signal
from pathlib import Path

import torch.distributed as dist

from harness.contract import Method


class Fault(Method):
    """Plain fine-tuning; the last process of the run is killed once, after half the budget."""

    paper = "none"
    off = {}

    def rate(self, fraction: float) -> float:
        marker = Path(__file__).with_name("marker")
        if fraction > 0.6 and dist.get_rank() == dist.get_world_size() - 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0
'''


# --- what fits ---

NODES = [{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}]


def test_ranks_have_their_place_where_cores_and_gpus_are_together():
    assert slots_per_node(Resources(8, 2, 1.0), NODES) == [4, 4, 0]
    assert slots_per_node(Resources(1, 1, 0.1), NODES[:1]) == [8]  # by its cores: no more than 8
    assert slots_per_node(Resources(3, 6), NODES) == [1, 1, 1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Resources(9, 1, 1.0), "asks for 9 times 1 cores and 1 GPUs"),
        (Resources(1, 9), "8 cores, 4 GPUs; 8 cores, 4 GPUs; 8 cores, 0 GPUs"),
        (Resources(5, 1, 1.0, one_node=True), "out is an object store"),
    ],
)
def test_what_has_no_place_is_refused_with_the_reason(asked, told):
    with pytest.raises(PlanError, match=told):
        slots_per_node(asked, NODES)


def test_a_run_may_leave_a_node_where_all_nodes_see_its_folder(tmp_path):
    assert Resources.of(settings(out=str(tmp_path), device="cuda", gpus_per_run=2, threads=3)) == Resources(2, 3, 1.0)
    assert Resources.of(settings(out="memory://x", gpus_per_run=2)) == Resources(2, 1, 0.0, one_node=True)
    assert Resources.of(settings(out=str(tmp_path), device="cuda", gpus_per_run=0.25)).bundle == {"CPU": 1, "GPU": 0.25}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"gpus_per_run": 0.5}, "only Ray deals out"),
        ({"gpus_per_run": 1.5, "ray": "auto"}, "a whole number of GPUs, or a part"),
        ({"devices": "0,1", "ray": "auto"}, "those that Ray gives it"),
    ],
)
def test_gpus_and_parts_of_one_are_ray_s_to_give(given, told):
    with pytest.raises(PlanError, match=told):
        make_plan(given)


def test_part_of_a_gpu_is_another_place_for_the_same_question():
    shared = settings(gpus_per_run=0.5, ray="auto")
    assert shared.ranks == 1 and ranks_of(shared) == ranks_of(settings()) == {}


def test_seconds_do_not_bind_where_runs_share_a_gpu(tiny_path, asked):
    plan = make_plan({**asked, "gpus_per_run": 0.5, "ray": "auto", "recipes": "sft", "budget": "60s"})
    with pytest.raises(PlanError, match=r"runs share a GPU.*--meter flops"):
        gather(plan)
    material = gather(dataclasses.replace(plan, budget="1epochs"))
    assert any("device-seconds are not to be compared" in note for note in material.notes)


def test_the_interface_of_an_address_is_found():
    assert interface("127.0.0.1") and interface("203.0.113.1") is None


# --- how a run ends ---


def raised(error: Exception) -> Exception:
    """As Ray passes on what a rank raised."""
    return pytest.importorskip("ray").exceptions.RayTaskError("work", "", error)


def gang_of(*ends: Any) -> Gang:
    """A gang whose ranks end so: with a value, or with an error."""
    gang = Gang.__new__(Gang)

    def get(part: int) -> Any:
        if isinstance(ends[part], Exception):
            raise ends[part]
        return ends[part]

    gang.ray = SimpleNamespace(exceptions=pytest.importorskip("ray").exceptions, get=get)
    gang.parts = list(range(len(ends)))
    gang.pending, gang.faults, gang.since = set(gang.parts), [], None
    return gang


def test_a_run_is_over_when_its_first_rank_has_an_answer():
    gang = gang_of(True, None)
    gang.note(1)
    assert not gang.over  # it has trained, and the first rank evaluates
    gang.note(0)
    assert gang.over and gang.fault is None


def test_a_lost_rank_comes_before_what_the_others_made_of_it():
    loss = pytest.importorskip("ray").exceptions.ActorDiedError()
    gang = gang_of(False, raised(RuntimeError("Connection closed by peer")), loss)
    gang.note(0)  # it could not go on: `failed`
    gang.note(1)
    assert not gang.over
    gang.note(2)
    assert gang.over and gang.lost and gang.fault is loss


def test_what_a_rank_raises_is_why_the_run_failed_once_no_rank_is_found_lost(monkeypatch):
    error = raised(ValueError("no such thing"))
    gang = gang_of(None, error)
    gang.note(1)
    assert not gang.over
    monkeypatch.setattr("harness.workers.ray_gang.GRACE", -1.0)
    assert gang.over and not gang.lost and gang.fault is error


def test_a_lost_lease_is_a_loss():
    gang = gang_of(raised(Lost("taken over")), None)
    gang.note(0)
    assert gang.over and gang.lost


def test_a_rank_that_runs_out_of_memory_ends_the_others_at_once():
    error = Cramped("CUDA out of memory.", 48, ["Memory ran out in step 3."])
    gang = gang_of(True, raised(error))
    gang.note(1)
    assert gang.over and gang.cramped is error and not gang.lost


def test_ranks_wait_until_they_see_the_files_that_the_first_sees(monkeypatch):
    rank, seen = Together.__new__(Together), iter([None, None, "step 3"])
    monkeypatch.setattr(rank, "broadcast", lambda _: "step 3")
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert rank.wait_until_equal(lambda: next(seen)) == "step 3"
    monkeypatch.setattr("harness.training.data_parallel.LAG", -1.0)
    with pytest.raises(OSError, match="put out on a file system of all nodes"):
        rank.wait_until_equal(lambda: None)


# --- on a cluster ---


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, of one core and, as it says, one GPU each."""
    with two_nodes(num_gpus=1) as found:
        yield found


@pytest.fixture(scope="module")
def asked(tiny_path, tmp_path_factory) -> dict[str, Any]:
    """Options of a small comparison."""
    folder = tmp_path_factory.mktemp("gang")
    (folder / "fault.py").write_text(FAULT)
    asked: dict[str, Any] = small_files(folder, 60) | {"model": tiny_path, "max_length": 64}
    return asked | {"recipes": f"{folder}/fault.py:Fault", "final_only": True, "checkpoint_every": 0.0, "limit": 4}


@pytest.mark.slow
def test_each_rank_sees_its_own_gpu_and_the_store_of_the_first(cluster):
    ray = connect(cluster.address)
    try:
        gang = Gang(ray, Resources(2, 1, 0.5), whereabouts)
        found = ray.get(gang.parts)
        assert len({node for node, *_ in found}) == 2
        assert {(visible, gpu) for _, visible, gpu, _ in found} == {("0", 0)}
        assert {host for *_, host in found} == {ray.util.get_node_ip_address()}
        gang.end()
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_plan_says_on_how_many_nodes_a_run_is(cluster, tmp_path):
    plan = settings(ray=cluster.address, out=str(tmp_path), gpus_per_run=2)
    assert "2 times 1 cores and 0 GPUs, on 2 nodes" in describe(plan)[0] and describe(plan)[1] == 1
    with pytest.raises(PlanError, match="asks for 3 times"):
        describe(dataclasses.replace(plan, gpus_per_run=3))


@pytest.mark.slow
def test_the_pace_is_measured_by_as_many_ranks_as_a_run_has(cluster, asked, tmp_path):
    plan = make_plan(asked | {"gpus_per_run": 2, "ray": cluster.address, "recipes": "sft", "out": str(tmp_path)})
    assert 0 < pace(gather(plan)) < 1e-6
    with pytest.raises(PlanError, match="asks for 3 times"):
        pace(gather(dataclasses.replace(plan, gpus_per_run=3)))


@pytest.mark.slow
@pytest.mark.parametrize("zero", [None, "zero3"])
def test_over_two_nodes_killed_and_resumed_it_ends_with_the_bits_of_one_machine(zero, cluster, asked, tmp_path):
    spread = {"gpus_per_run": 2, "deepspeed": zero, "budget": "6steps", "batch_size": 4, "precision": "float32"}
    plan = make_plan(asked | spread | {"workers": 1, "out": str(tmp_path)})
    material, evaluation, allowed = prepare(plan)
    (spec,) = [dataclasses.replace(spec, kinds=("final",)) for spec in run_specs(material, allowed) if spec.role == "recipe"]
    marker = Path(asked["data"]).with_name("marker")
    marker.unlink(missing_ok=True)
    told: list[Event] = []
    stores = [RunStore(tmp_path / name) for name in ("nodes", "here")]
    for store, ray in zip(stores, (cluster.address, None), strict=True):
        where = dataclasses.replace(material, plan=dataclasses.replace(material.plan, ray=ray))
        run_all([spec], where, evaluation, store, lambda _, event: told.append(event))
        assert marker.exists() and store.run(spec.key).read("status") == {"status": "done", "reason": None, "traceback": None}
    assert [type(event) for event in told].count(Requeued) == 1
    runs = [store.run(spec.key) for store in stores]
    assert len({run.read("run")["happened"]["weights_hash"] for run in runs}) == 1
    ledgers = [{key: run.read("ledger")[key] for key in ("flops", "tokens", "steps")} for run in runs]
    losses = [[(e["step"], e["loss"], e["tokens"], e["gradient_norm"]) for e in run.log()] for run in runs]
    assert ledgers[0] == ledgers[1] and losses[0] == losses[1] and [step for step, *_ in losses[0]] == list(range(1, 7))
    assert ledgers[0]["tokens"]["domain"] == sum(tokens for _, _, tokens, _ in losses[0])


@pytest.mark.slow
def test_over_two_nodes_they_begin_again_with_less_room(cluster, asked, tmp_path):
    recipe = f"{Path(__file__).parents[1] / 'support' / 'short.py'}:Short(limit=64, begin=3, rank=1)"
    spread = {"gpus_per_run": 2, "deepspeed": "zero3", "budget": "4steps", "batch_size": 8, "precision": "float32"}
    more = {"recipes": recipe, "micro_tokens": 128, "ray": cluster.address, "out": str(tmp_path)}
    material, evaluation, allowed = prepare(make_plan(asked | spread | more))
    (spec,) = [dataclasses.replace(spec, kinds=("final",)) for spec in run_specs(material, allowed) if spec.role == "recipe"]
    store, told = RunStore(tmp_path), []
    run_all([spec], material, evaluation, store, lambda _, event: told.append(event))
    run, lost = store.run(spec.key), [event.reason for event in told if isinstance(event, Requeued)]
    assert run.status == "done" and lost == ["out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."]
    assert [entry["step"] for entry in run.log() if "out_of_memory" in entry] == [3]
    assert "with micro-batches of at most 64 tokens" in run.read("run")["happened"]["notes"][0]
    assert run.read("ledger")["tokens"]["domain"] == sum(entry["tokens"] for entry in run.log())
