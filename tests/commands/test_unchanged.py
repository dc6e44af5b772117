"""A comparison of which nothing has changed is recognised, and whatever has changed is noticed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.commands.unchanged import remember, unchanged
from harness.plan.load import make_plan
from harness.plan.plan import Plan
from harness.setup import machine
from harness.store.files import write_json

FACTS = {"device": "cpu", "precision": "float32"}


@pytest.fixture
def made(tmp_path, monkeypatch) -> tuple[Plan, Path]:
    """A plan over files of this machine, and the folder of its comparison, as if it had just been made."""
    monkeypatch.setattr(machine, "facts", lambda _: FACTS)
    for name in ("model", "suite"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "suite" / "echo.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    (tmp_path / "data.json").write_text("[]")
    options = {"data": "data.json", "model": "model", "suites": "suite", "out": "results"}
    monkeypatch.setattr("harness.plan.early.check_files", lambda _: None)  # the model's files are made up
    plan = make_plan({key: str(tmp_path / value) for key, value in options.items()})
    folder, run = tmp_path / "results" / "data-model", tmp_path / "results" / "runs" / "0123456789abcdef"
    write_json(folder / "comparison.json", {"rows": [{"key": run.name}], "trials": []})
    (folder / "report.html").write_text("report")
    for name in ("status.json", "run.json"):
        write_json(run / name, {"status": "done"})
    (run / "evals").mkdir()
    (run / "evals" / "final-0.parquet").write_bytes(b"scores")
    return plan, folder


def later() -> float:
    """A time at which all files have settled."""
    return time.time() + 10


def test_the_same_again_is_recognised(made):
    plan, folder = made
    assert unchanged(plan) is None
    remember(plan, folder, "the table", later())
    again = unchanged(plan)
    assert again is not None and again.folder == folder and again.shown == "the table"


@pytest.mark.parametrize("change", [("the table", "the tablet"), ("{", "[{"), ('"files"', '"flies"')])
def test_a_damaged_note_is_none(made, change):
    plan, folder = made
    remember(plan, folder, "the table", later())
    (note,) = folder.parent.glob("runs/made-*.json")
    note.write_text(note.read_text().replace(*change, 1))
    assert unchanged(plan) is None
    remember(plan, folder, "the table", later())
    assert unchanged(plan) is not None


def replaced_in_place(root: Path) -> None:
    """Other content of the same size, its time of modification set back."""
    file = root / "model" / "model.safetensors"
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"WEIGHTS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size


CHANGES = {
    "a model replaced in place": replaced_in_place,
    "data": lambda root: (root / "data.json").write_text("[1]"),
    "one more suite file": lambda root: (root / "suite" / "more.jsonl").write_text("{}"),
    "a report removed": lambda root: (root / "results" / "data-model" / "report.html").unlink(),
    "scores removed": lambda root: (root / "results" / "runs" / "0123456789abcdef" / "evals" / "final-0.parquet").unlink(),
    "a run that failed since": lambda root: write_json(root / "results" / "runs" / "0123456789abcdef" / "status.json", {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_noticed(made, tmp_path, change):
    plan, folder = made
    remember(plan, folder, "", later())
    time.sleep(0.01)  # more than a tick of the clock that files are stamped by
    CHANGES[change](tmp_path)
    assert unchanged(plan) is None


def test_another_machine_and_another_plan_are_noticed(made, monkeypatch):
    plan, folder = made
    remember(plan, folder, "", later())
    monkeypatch.setattr(machine, "facts", lambda _: FACTS | {"precision": "bfloat16"})
    assert unchanged(plan) is None
    monkeypatch.setattr(machine, "facts", lambda _: FACTS)
    same = {"data": plan.data, "model": plan.model, "suites": plan.suites, "out": plan.out}
    assert unchanged(make_plan(same)) is not None
    assert unchanged(make_plan(same | {"seeds": 2})) is None


def test_what_changed_while_it_was_read_is_not_remembered(made):
    plan, folder = made
    remember(plan, folder, "", time.time() - 60)
    assert unchanged(plan) is None


@pytest.mark.parametrize("changes", [{"model": "org/name"}, {"suites": "arc_challenge"}, {"suites": "standard"}])
def test_what_may_be_on_the_hub_is_not_remembered(made, changes):
    plan, folder = made
    other = make_plan({"data": plan.data, "model": plan.model, "suites": plan.suites, "out": plan.out} | changes)
    remember(other, folder, "", later())
    assert unchanged(other) is None
