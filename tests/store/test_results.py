"""`--out` means the same to every command, whether it is a folder or an object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.commands import check
from harness.commands.annotate.forms import export_forms
from harness.commands.export import export
from harness.errors import PlanError
from harness.gate.evidence import read_evidence
from harness.models.base_model import read_weights, save_weights
from harness.store import lease
from harness.store.files import place, read_json, write_atomic, write_json
from harness.store.results import open_results, results_of
from tests.report.fake_store import build
from tests.support.gate_evidence import evidence


def test_a_comparison_that_is_not_there_is_said_with_those_that_are(out):
    with pytest.raises(PlanError, match="run `lethe compare` first"):
        open_results(out).record("finance")
    write_json(place(out) / "finance" / "comparison.json", {"name": "finance", "rows": []})
    assert open_results(out).record("finance")["name"] == "finance" and open_results(out).names() == ["finance"]
    with pytest.raises(PlanError, match="did you mean 'finance'"):
        open_results(out).record("finanse")
    with pytest.raises(PlanError, match="did you mean 'finance'"):
        export("finanse", "there", out=out)
    results, name = results_of(f"{out}/finance")
    assert results.record(name)["name"] == "finance"


def test_a_record_is_held_from_the_look_to_the_write(out, monkeypatch):
    """Eight commands that add a row to what they read: none of the eight rows is lost."""
    monkeypatch.setattr(lease, "LOOK", 0.01)
    record = place(out) / "finance" / "comparison.json"

    def add(row: int) -> None:
        with open_results(out).recording():
            rows = (read_json(record) or {"rows": []})["rows"]
            write_json(record, {"rows": [*rows, row]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert sorted(read_json(record)["rows"]) == list(range(8))
    assert open_results(out).names() == ["finance"]


def test_forms_are_written_from_wherever_the_results_are(out, tmp_path):
    folder, _ = build(place(out), curves=False)
    files = export_forms(folder.name, str(tmp_path / "forms"), annotators=1, out=out)
    assert [file.exists() for file in files] == [True]
    assert len(list((place(out) / "finance" / "people").iterdir())) == 1


def test_what_a_check_measured_goes_there_too(out, monkeypatch, tmp_path):
    measured = evidence()
    monkeypatch.setattr(check, "measure", lambda *_: measured)
    monkeypatch.setattr(check, "decide", lambda *_: type("Verdict", (), {"exit_code": 0}))
    monkeypatch.setattr(check, "read_policy", lambda *_: object())
    monkeypatch.setattr(check, "announce", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    assert check.check(out=out) == 0
    assert read_evidence(place(out) / "check" / "evidence.json") == measured
    assert not list(Path().glob("s3:*")) and not list(Path().glob("memory:*"))


def test_weights_are_read_from_there(out, tmp_path):
    torch = pytest.importorskip("torch")
    save_weights({"w": torch.arange(3.0)}, tmp_path / "w.safetensors")
    write_atomic(place(out) / "w.safetensors", (tmp_path / "w.safetensors").read_bytes())
    assert torch.equal(read_weights(place(out) / "w.safetensors")["w"], torch.arange(3.0))
