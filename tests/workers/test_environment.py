"""The environment of runs, and whether Linux or somebody else ended a process."""

from __future__ import annotations

import os

import pytest

from harness.commands import compare
from harness.plan.plan import Plan
from harness.workers import environment
from harness.workers.environment import MemoryKills


@pytest.fixture
def counters(tmp_path, monkeypatch):
    paths = tmp_path / "vmstat", tmp_path / "memory.events"
    monkeypatch.setattr(environment, "COUNTERS", paths)
    return paths


def test_what_the_user_has_set_in_the_environment_stays(monkeypatch):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment.set_environment()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7" and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(("ray", "steps"), [(None, ["forkserver", "plan"]), ("auto", ["plan"])])
def test_libraries_load_while_a_comparison_plans(monkeypatch, ray, steps):
    done: list[str] = []

    class Planned(Exception):
        pass

    def prepare(plan):
        done.append("plan")
        raise Planned

    monkeypatch.setattr(compare, "start_forkserver", lambda: done.append("forkserver"))
    monkeypatch.setattr(compare, "prepare", prepare)
    with pytest.raises(Planned):
        compare.carry_out(Plan(ray=ray))
    assert done == steps


def test_a_kill_is_linuxs_only_where_it_counted_one_since(counters):
    counters[0].write_text("nr_free 5\noom_kill 3\n")
    kills = MemoryKills()
    assert not kills.any and kills.why.startswith("by somebody, not")
    counters[1].write_text("max 2\noom_kill 1\n")
    assert kills.any and "memory ran out" in kills.why
    assert not MemoryKills().any


def test_where_nothing_counts_nothing_is_claimed(counters):
    assert not MemoryKills().any and "or by the system" in MemoryKills().why


def test_the_status_of_a_killed_run_says_who_killed_it(counters, tmp_path):
    from types import SimpleNamespace

    from harness.store.runs import RunStore
    from harness.workers.local import settle_killed

    counters[0].write_text("oom_kill 3\n")
    kills, store = MemoryKills(), RunStore(tmp_path / "runs")
    for key, count, status in (("0" * 16, 3, "failed"), ("1" * 16, 4, "out_of_memory")):
        counters[0].write_text(f"oom_kill {count}\n")
        settle_killed(SimpleNamespace(key=key), store, -9, kills)  # type: ignore[arg-type]
        assert store.run(key).status == status and "signal 9" in store.run(key).read("status")["reason"]
    settle_killed(SimpleNamespace(key="2" * 16), store, -11, kills)  # type: ignore[arg-type]
    assert store.run("2" * 16).status == "failed"
