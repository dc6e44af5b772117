"""Damage of stored files is noticed before they are used, named with the cure, set aside and made anew."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands.cli import main
from harness.errors import PlanError
from harness.report.verify import verify
from harness.report.write import write_files
from harness.store.comparisons import (
    READ_AGAIN,
    TABLE,
    TRADEOFF,
    VERDICT,
    read_comparison,
    read_reported,
    read_table,
    read_verdict,
)
from harness.store.hashes import HASHES, Damaged, Hashes, read_hashed, write_hashed
from harness.store.journal import Journal
from harness.store.lease import Watch
from harness.store.provenance import host
from harness.store.results import Results, results_of
from harness.store.runs import RunFolder, RunStore
from tests.support.stores import a_file


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def anothers(path: Path) -> None:
    """Another run's file of the same name, whole in itself."""
    run = path if path.parent.name == "runs" else path.parent
    while run.parent.name != "runs":
        run = run.parent
    other = next(each for each in sorted(run.parent.iterdir()) if each != run and (each / path.relative_to(run)).exists())
    data = (other / path.relative_to(run)).read_bytes()
    path.write_bytes(data if data != path.read_bytes() else data + b" ")


def killed(path: Path, data: str) -> None:
    """What a kill leaves: the file, and nothing of what comes after."""
    path.write_text(data)
    raise OSError


DAMAGES: tuple[Callable[[Path], None], ...] = (flip, cut, empty, gone, folder_instead, anothers)
FILES = ("run.json", "ledger.json", "status.json", "evals")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_report_of_damaged_files_names_them_and_the_cure(folder, name, damage):
    path = a_file(folder, name)
    damage(path)
    store = RunStore(folder.parent / "runs")
    with pytest.raises(PlanError) as error:
        read_comparison(folder, store)
    (fault,) = error.value.faults
    assert str(path) in fault and "lethe compare" in fault
    found = verify(results_of(folder)[0])
    assert len(found.faults) == 1 and str(path) in found.faults[0]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "weights/model.safetensors"])
def test_what_is_damaged_is_set_aside_and_is_then_missing(folder, name, damage):
    path = a_file(folder, name)
    run = RunFolder(path.parents[1] if path.parent.name in ("evals", "weights") else path.parent)
    damage(path)
    if name.startswith("weights") and damage is gone:
        assert run.damages() == []  # people remove weights
        return
    (found,) = run.set_aside()
    assert found.path == path and not path.exists()
    assert damage is gone or path.with_name(path.name + ".damaged").exists()
    assert run.damages() == [] and (run.status == "done") == (name in ("evals", "weights/model.safetensors"))
    if name == "evals":
        kind, key = path.stem.split("-")
        assert not run.has_scores(kind, key) and run.scores(kind, key) is None


def test_a_whole_store_is_found_whole(folder):
    found = verify(results_of(folder)[0])
    assert found.faults == [] and found.files > 4 * found.runs > 0 and found.unhashed == []
    assert read_comparison(folder, RunStore(folder.parent / "runs")).scores["score"].notna().any()


def test_where_there_is_no_store_nothing_is_called_whole(tmp_path):
    for root in (tmp_path, tmp_path / "mistyped"):
        with pytest.raises(PlanError, match="holds no comparison and no run"):
            verify(Results(root))


def test_damaged_hashes_make_a_run_anew(folder):
    run = RunFolder(a_file(folder, "run.json").parent)
    cut(run.path / HASHES)
    with pytest.raises(Damaged, match=r"hashes\.json is not JSON"):
        run.read("status")
    assert run.status is None
    run.set_aside()
    assert run.status is None and run.damages() == []


def test_every_flipped_bit_of_the_hashes_is_noticed(folder):
    run = RunFolder(a_file(folder, "run.json").parent)
    path = run.path / HASHES
    whole = path.read_bytes()
    own = whole.index(HASHES.encode())
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        if own <= place < own + len(HASHES):  # without its own hash the others are still what was written
            assert run.hashes.known().items() > json.loads(whole).items() - {(HASHES, json.loads(whole)[HASHES])}
        else:
            with pytest.raises(Damaged, match=HASHES):
                run.hashes.known()
    path.write_bytes(whole)
    assert HASHES not in run.hashes.known()


def test_stores_without_hashes_stay_readable_and_what_cannot_be_read_is_named(folder):
    store = RunStore(folder.parent / "runs")
    for key in sorted(store.keys()):
        (store.run(key).path / HASHES).unlink()
    assert not read_comparison(folder, store).scores.empty
    found = verify(results_of(folder)[0])
    assert found.faults == [] and len(found.unhashed) == found.runs
    path = a_file(folder, "evals")
    cut(path)
    run = RunFolder(path.parents[1])
    assert not run.has_scores(*path.stem.split("-"))
    with pytest.raises(Damaged, match="not a whole table"):
        read_comparison(folder, store)
    assert [damage.path for damage in run.set_aside()] == [path]


@pytest.fixture
def reported(folder) -> Path:
    """The comparison with what other commands read of its report."""
    write_files(folder, {TABLE: "row,gain\nbase,1.5\nsft,25.5\n", VERDICT: '{"row": "sft"}', TRADEOFF: "<svg/>", "x.md": ""})
    return folder


@pytest.mark.parametrize("damage", [flip, cut, empty, gone, folder_instead])
@pytest.mark.parametrize("name", READ_AGAIN)
def test_what_is_read_of_a_report_is_what_was_written(reported, name, damage, capsys):
    """Published and reproduced from it: one digit would be another number."""
    assert read_table(reported)["gain"].tolist() == [1.5, 25.5] and read_verdict(reported) == {"row": "sft"}
    assert main(["verify", "--out", str(reported.parent)]) == 0
    damage(reported / name)
    with pytest.raises(PlanError, match=f"{name} is .*; `lethe report` writes it anew"):
        read_reported(reported, name)
    capsys.readouterr()
    assert main(["verify", "--out", str(reported.parent)]) == 1
    assert f"{reported / name} is" in capsys.readouterr().out


def test_a_report_that_a_kill_cut_short_is_read_as_it_is(reported, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr("harness.report.write.write_atomic", killed)
        write_files(reported, {TABLE: "row,gain\nsft,7\n", VERDICT: "{}"})
    assert read_table(reported)["gain"].tolist() == [7]


def test_a_file_with_its_own_hash_tells_its_damage(tmp_path):
    path = tmp_path / "pace.json"
    write_hashed(path, {"pace": 2.5e-10, "by number": {1: (2, 3)}})
    form = {"pace": float}
    assert read_hashed(path, form) == {"pace": 2.5e-10, "by number": {"1": [2, 3]}}
    whole = path.read_text()
    for text, fault in (
        (whole.replace("2.5e-10", "2.6e-10"), "its hash differs"),
        (whole[:-9], "is not JSON"),
        ("[1]", "holds no fields"),
        ('{"pace": "x"}', "lacks its field 'pace'"),
        ("{}", "lacks its field 'pace'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=fault):
            read_hashed(path, form)
    path.write_text('{"pace": 3.0}')
    assert read_hashed(path, form) == {"pace": 3.0}, "of an earlier version"
    assert read_hashed(tmp_path / "none.json", form) is None


@pytest.mark.parametrize("text", ["[1]", "3", "{", '{"host": "HOST"}', '{"host": "HOST", "pid": "x", "began": 1.0}'])
def test_a_damaged_lease_ends_by_its_silence(tmp_path, monkeypatch, text):
    path = tmp_path / "leases" / "000001.json"
    path.parent.mkdir()
    path.write_text(text.replace("HOST", host()))
    watch = Watch()
    assert watch.free(tmp_path) is None
    monkeypatch.setattr("harness.store.lease.LEASE", 0.0)
    assert watch.free(tmp_path) == 2


@pytest.mark.usefixtures("unrendered")
def test_a_store_that_may_only_be_read_is_told_without_a_report(folder, monkeypatch, capsys):
    def refuse(results: Results) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(results.root))

    monkeypatch.setattr(Results, "recording", refuse)
    assert main(["report", folder.name, "--out", str(folder.parent)]) == 0
    said = capsys.readouterr().out
    assert "sft" in said and f"{folder.parent} may only be read; copy it" in " ".join(said.split())
    assert not (folder / "report.html").exists()


def test_a_damaged_line_of_a_journal_is_computed_again(tmp_path):
    path = tmp_path / "final.journal"
    journal = Journal(path)
    assert [journal.once(n, lambda n=n: [0.1 * n]) for n in range(4)] == [[0.1 * n] for n in range(4)]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"0.1", b"0.9"), b"{broken\n", lines[3]]))
    again = Journal(path)
    computed = []
    assert [again.once(n, lambda n=n: computed.append(n) or [0.1 * n]) for n in range(4)] == [[0.1 * n] for n in range(4)]
    assert computed == [1, 2]
    assert Journal(path).once(1, lambda: pytest.fail("known")) == [0.1]


def test_a_damaged_checkpoint_is_set_aside_whole(tmp_path):
    run = RunFolder(tmp_path / ("0" * 16))
    run.checkpoint.mkdir(parents=True)
    for name in ("progress.json", "state.safetensors"):
        (run.checkpoint / name).write_text("{}")
    Hashes(run.checkpoint).add_files("progress.json", "state.safetensors")
    assert run.set_aside() == [] and run.checkpoint.exists()
    (run.checkpoint / "state.safetensors").write_text("[]")
    assert [damage.path.name for damage in run.set_aside()] == ["state.safetensors"]
    assert not run.checkpoint.exists() and (run.path / "checkpoint.damaged").exists()
