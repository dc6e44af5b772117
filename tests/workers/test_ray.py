"""A comparison on a Ray cluster of two nodes: lost workers, and the same bits as one process after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.errors import PlanError
from harness.workers.ray_cluster import connect
from harness.workers.ray_queue import interrupts
from tests.support.cluster import two_nodes
from tests.support.comparisons import carried_out, hashes, lethe
from tests.support.training import small_files

FAULT = """
import os
import signal
from pathlib import Path
from typing import Any

from harness.contract import Method, Run


class Fault(Method):
    \"\"\"Plain fine-tuning whose process is killed once, at half the budget.\"\"\"

    paper = "none"
    off = {}

    def stop(self, run: Run) -> bool:
        marker = Path(__file__).with_name("marker")
        if run.budget_spent > 0.5 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return False
"""


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PlanError, match=r"pip install 'lethe\[ray\]'"):
        connect("auto")


def test_an_interrupt_that_is_swallowed_is_raised_at_the_next_look():
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as check:
        check()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, on this machine."""
    with two_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def asked(tiny_path, tmp_path_factory) -> dict[str, Any]:
    """Options of a small comparison; one recipe's process is killed once."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "fault.py").write_text(FAULT)
    asked = small_files(folder, 120) | {"model": tiny_path, "recipes": f"{folder}/fault.py:Fault lora"}
    return asked | {"budget": "4epochs", "max_length": 64, "batch_size": 8, "final_only": True, "checkpoint_every": 0.0}


@contextmanager
def driver_of(asked: dict[str, Any], **more: Any) -> Iterator[subprocess.Popen]:
    """`lethe compare` with these options, ended with the block."""
    process = lethe(asked | more, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_the_bits_are_those_of_serial_runs(cluster, asked, tmp_path):
    marker = Path(asked["data"]).parent / "marker"
    marker.unlink(missing_ok=True)
    with driver_of(asked, ray=cluster.address, out=str(tmp_path / "spread")) as spread:
        told = " ".join(spread.communicate(timeout=900)[1].split())
    assert spread.returncode == 0, told
    assert marker.exists() and told.count("queued again, from its last checkpoint") == 1
    carried_out(asked | {"workers": 1, "out": str(tmp_path / "serial")})
    assert hashes(tmp_path / "spread") == hashes(tmp_path / "serial") and len(hashes(tmp_path / "serial")) == 4
    run = next(path for path in (tmp_path / "spread" / "runs").glob("*/run.json") if "Fault" in path.read_text())
    starts = [json.loads(line) for line in (run.parent / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in starts] == list(range(1, len(starts) + 1))
    assert len(list((run.parent / "leases").iterdir())) == 2


def rests(log: Path) -> bool:
    """Whether nobody writes for two seconds."""
    size = log.stat().st_size
    time.sleep(2)
    return log.stat().st_size == size


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_the_same_command_goes_on(cluster, asked, tmp_path):
    (Path(asked["data"]).parent / "marker").touch()
    deadline = time.monotonic() + 900
    with driver_of(asked, ray=cluster.address, out=str(tmp_path), budget="2000epochs", recipes="sft") as driver:
        while not (logs := list(tmp_path.glob("runs/*/checkpoint/progress.json"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert logs and driver.poll() is None
        os.kill(driver.pid, signal.SIGINT)
        assert driver.wait(timeout=300) == 130
    assert any(rests(logs[0].parents[1] / "log.jsonl") for _ in range(30)) and logs[0].exists()


@pytest.mark.slow
def test_a_run_that_fits_no_node_is_refused(cluster, asked, tmp_path):
    with driver_of(asked, ray=cluster.address, out=str(tmp_path), threads=3) as driver:
        told = driver.communicate(timeout=900)[1]
    assert driver.returncode == 2 and "asks for 3 cores" in told
