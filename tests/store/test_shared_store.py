"""The store on local files, in memory and on an S3 server: whole files, one writer at a time, work that moves on."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.plan.load import make_plan
from harness.report.write import write_report
from harness.store import lease as leases
from harness.store.comparisons import read_comparison
from harness.store.files import create, is_local, names, place, read_bytes, read_json, write_json
from harness.store.lease import Lease, Lost, Watch, leased
from harness.store.runs import RunFolder, RunStore
from harness.store.workspace import PACKED, workspace
from tests.report.fake_store import build
from tests.support.plots import unrendered
from tests.support.stores import KINDS


@pytest.fixture
def root(out) -> Path:
    """An empty place of each kind, as a path."""
    path = place(out)
    if is_local(path):
        path.mkdir()
    return path


@pytest.fixture(scope="module")
def local_report(tmp_path_factory) -> Path:
    """The report of a small comparison on local files."""
    folder, store = build(tmp_path_factory.mktemp("there"), curves=False, items=0.05)
    with unrendered():
        write_report(folder, store, reps=20)
    return folder


def test_json_is_written_whole_and_found_again(root):
    assert read_json(root / "a" / "x.json") is None and names(root / "a") == []
    write_json(root / "a" / "x.json", {"a": 1})
    write_json(root / "a" / "x.json", {"a": 2})
    assert read_json(root / "a" / "x.json") == {"a": 2} and names(root / "a") == ["x.json"]


def test_one_of_many_creates_a_file(root):
    assert [create(root / "b" / "x", str(i)) for i in range(3)] == [True, False, False]
    assert (root / "b" / "x").read_text() == "0"


@pytest.mark.parametrize("text", ["nowhere://x", "memory:/x"])
def test_places_that_cannot_be_are_refused(text):
    with pytest.raises(PlanError, match=r"cannot be opened|lives in one process"):
        place(text) if "://" in text else make_plan({"out": text})


@pytest.mark.parametrize("out", KINDS[1:], indirect=True)
@pytest.mark.usefixtures("unrendered")
def test_a_store_and_its_report_lie_anywhere(root, local_report):
    folder, store = build(root, curves=False, items=0.05)
    write_report(folder, store, reps=20)
    assert len(store.keys()) == len(read_comparison(folder, store).runs)
    for name in ("table.csv", "report.html", "plots/heat_map.svg"):
        assert read_bytes(folder / name) == (local_report / name).read_bytes()


def test_a_lease_keeps_others_out_until_it_is_given_back(root):
    watch = Watch()
    with leased(root / "run") as held:
        assert watch.free(root / "run") is None and not Lease(root / "run", 1).take()
        held.check()
    assert watch.free(root / "run") == 2
    with leased(root / "run"):
        assert names(root / "run" / "leases") == ["000001.json", "000002.json"]


def abandoned(run: Path, **changes) -> None:
    lease = Lease(run, 1)
    lease.record |= changes
    assert lease.take()


def test_what_a_dead_process_of_this_host_held_is_free_at_once(root):
    process = multiprocessing.get_context("spawn").Process(target=time.time)
    process.start()
    process.join()
    abandoned(root / "run", pid=process.pid)
    assert Watch().free(root / "run") == 2


def test_what_another_host_held_is_free_once_its_beat_stands_still(root, monkeypatch):
    abandoned(root / "run", host="elsewhere")
    watch = Watch()
    assert watch.free(root / "run") is None
    monkeypatch.setattr(leases, "LEASE", 0.0)
    assert watch.free(root / "run") == 2
    write_json(root / "run" / "leases" / "000001.json", {"host": "elsewhere", "beat": 1})
    assert watch.free(root / "run") is None  # it lives


def test_a_holder_that_was_silent_too_long_writes_no_more(root, monkeypatch):
    monkeypatch.setattr(leases, "PERIOD", 0.01)
    with leased(root / "run") as held:
        assert Lease(root / "run", 2).take()
        while not held.lost:
            time.sleep(0.01)
        with pytest.raises(Lost):
            held.check()


@pytest.mark.parametrize("out", KINDS[1:], indirect=True)
def test_work_goes_on_elsewhere_from_the_checkpoint_that_was_sent(root):
    run = RunFolder(root / ("0" * 16))
    with pytest.raises(Lost), workspace(run) as here:
        (here.local / "log.jsonl").write_text('{"step": 1}\n')
        (here.local / "checkpoint").mkdir()
        (here.local / "checkpoint" / "progress.json").write_text("1")
        here.push_checkpoint()
        (here.local / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
        raise Lost
    with workspace(run) as here:
        assert (here.local / "checkpoint" / "progress.json").read_text() == "1"
        (here.local / "evals").mkdir()
        (here.local / "evals" / "final.parquet").write_bytes(b"scores")
        (here.local / "checkpoint" / "progress.json").unlink()
        (here.local / "checkpoint").rmdir()
        RunFolder(here.local).write("status", {"status": "done"})
    assert run.status == "done" and (run.path / "evals" / "final.parquet").read_bytes() == b"scores"
    assert not {PACKED, "checkpoint"} & set(names(run.path))
    assert [entry["step"] for entry in run.log()] == [1]


def test_the_status_arrives_last_and_goes_first(monkeypatch):
    run = RunFolder(place(f"memory://{uuid.uuid4().hex}") / ("0" * 16))
    sent: list[str] = []
    with workspace(run) as here:
        for name in ("ledger", "run", "status"):
            RunFolder(here.local).write(name, {})
        for name in ("_send", "_remove"):
            act = getattr(here, name)
            monkeypatch.setattr(here, name, lambda what, act=act, name=name: (sent.append(f"{name} {what}"), act(what)))
        here.push()
        (here.local / "status.json").unlink()
        RunFolder(here.local).write("run", {"again": True})
        here.push()
    assert sent[3:5] == ["_send hashes.json", "_send status.json"] and sent.index("_remove ['status.json']") < len(sent) - 2


def _writer(root: str, folder: str, seconds: float) -> None:
    """Take each of three runs in turn, and write as its owner only."""
    for key in "abc":
        with leased(place(root) / key):
            alone = Path(folder) / key
            alone.mkdir()  # fails where another is inside
            run = RunFolder(place(root) / key)
            count = (run.read("run") or {"count": 0})["count"]
            time.sleep(seconds)
            run.write("run", {"count": count + 1})
            alone.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_many_writers_at_once_lose_nothing(kind, s3, tmp_path, monkeypatch):
    root = str(tmp_path / "store") if kind == "local" else f"{s3}/{uuid.uuid4().hex}"
    monkeypatch.setattr(leases, "LOOK", 0.02)
    processes = [multiprocessing.Process(target=_writer, args=(root, str(tmp_path), 0.02)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert [RunStore(place(root)).run(key).read("run")["count"] for key in "abc"] == [6, 6, 6]
