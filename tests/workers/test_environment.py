"""Whether Linux or somebody else ended a process."""

from __future__ import annotations

import pytest

from harness.workers import environment
from harness.workers.environment import MemoryKills


@pytest.fixture
def counters(tmp_path, monkeypatch):
    paths = tmp_path / "vmstat", tmp_path / "memory.events"
    monkeypatch.setattr(environment, "COUNTERS", paths)
    return paths


def test_a_kill_is_linuxs_only_where_it_counted_one_since(counters):
    counters[0].write_text("nr_free 5\noom_kill 3\n")
    kills = MemoryKills()
    assert not kills.any and kills.why.startswith("by somebody, not")
    counters[1].write_text("max 2\noom_kill 1\n")
    assert kills.any and "memory ran out" in kills.why
    assert not MemoryKills().any


def test_where_nothing_counts_nothing_is_claimed(counters):
    assert not MemoryKills().any and "or by the system" in MemoryKills().why
