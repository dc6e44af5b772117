"""Damage of stored files is noticed before they are used, named with the cure, set aside and made anew."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
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
from harness.store.files import read_record, write_record
from harness.store.hashes import HASHES, Damaged, Hashes, read_hashed, write_hashed
from harness.store.journal import Journal
from harness.store.lease import Watch
from harness.store.provenance import host
from harness.store.results import Results, results_of
from harness.store.runs import RunFolder, RunStore
from harness.vocabulary import EvalKind
from tests.report.fake_store import build


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A stored comparison of a few runs."""
    folder, store = build(tmp_path_factory.mktemp("whole"), curves=False, items=0.02)
    write_record(folder, read_record(folder) or {})
    for key in sorted(store.keys()):
        run = store.run(key)
        run.weights_folder.mkdir()
        run.weights.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        run.seal()
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    shutil.copytree(whole.parent, tmp_path / "store")
    return tmp_path / "store" / whole.name


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


def a_file(folder: Path, name: str) -> Path:
    """That file of a run that has one, the last in the record."""
    store = RunStore(folder.parent / "runs")
    record = read_record(folder) or {}
    runs = [store.run(entry["key"]).path for entry in record["rows"] if entry["role"] == "recipe"]
    run = [path for path in runs if (path / "run.json").exists()][-1]
    return next((run / "evals").glob("final-*.parquet")) if name == "evals" else run / name


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


def test_a_newer_form_is_refused(folder):
    run = RunFolder(a_file(folder, "run.json").parent)
    run.write("run", (run.read("run") or {}) | {"schema_version": 99})
    with pytest.raises(PlanError, match="schema_version 99"):
        read_comparison(folder, RunStore(folder.parent / "runs"))


def with_row(record: dict, **changes) -> dict:
    """A record without a hash, of one row."""
    return {"rows": [record["rows"][0] | changes]}


def test_json_that_no_parser_reads_is_damage_like_any_other(folder):
    nested = "[" * 200_000
    run = RunFolder(a_file(folder, "run.json").parent)
    (run.path / HASHES).write_text(nested)
    with pytest.raises(Damaged, match="is not JSON"):
        run.read("ledger")
    (run.path / HASHES).unlink()
    for text, fault in ((nested, "is not JSON"), ("[1, 2]", "holds no fields by name")):
        (run.path / "ledger.json").write_text(text)
        with pytest.raises(Damaged, match=fault):
            run.read("ledger")
    (folder / "comparison.json").write_text(nested)
    with pytest.raises(PlanError, match="is not JSON"):
        read_record(folder)


def test_whole_files_of_another_content_are_damage_too(folder):
    """As a store without hashes may hold them: an older one, or one that somebody wrote by hand."""
    run = RunFolder(a_file(folder, "run.json").parent)
    (run.path / HASHES).unlink()
    scores = a_file(folder, "evals")
    kind, key = scores.stem.split("-")
    table = pd.read_parquet(scores)
    for wrong in (table.drop(columns="item"), table.assign(score="high")):
        wrong.to_parquet(scores)
        with pytest.raises(Damaged, match="is not a table of scores"):
            run.scores(EvalKind(kind), key)
    (run.path / "run.json").write_text('{"schema_version": 1, "asked": 3}')
    with pytest.raises(Damaged, match="its field 'asked' has another type"):
        run.read("run")
    ratings = {"rows": {"sft": {"overall": {"value": 4.5}}}, "agreement": {}}
    write_hashed(folder / "people.json", ratings)
    assert read_comparison(folder, RunStore(folder.parent / "none")).people == ratings
    for text in ("[1]", '{"rows": 3}', (folder / "people.json").read_text().replace("4.5", "4.6")):
        (folder / "people.json").write_text(text)
        with pytest.raises(PlanError, match=r"people\.json .*`lethe annotate import`"):
            read_comparison(folder, RunStore(folder.parent / "none"))
    for text in (b"", b"\xff\xfe\x00", b'a,b\n"1'):
        (folder / "table.csv").write_bytes(text)
        with pytest.raises(PlanError, match=r"table\.csv is not a table .*`lethe report` writes it anew"):
            read_table(folder)
    for text, fault in ((b"{", "is not JSON"), (b"[1]", "holds no fields by name")):
        (folder / "verdict.json").write_bytes(text)
        with pytest.raises(PlanError, match=rf"verdict\.json {fault}.*`lethe report` writes it anew"):
            read_verdict(folder)


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


def test_a_path_in_the_place_of_a_name_is_told_how_to_be_given(folder):
    """It would be found, and its runs looked for elsewhere: a report of nothing but missing runs."""
    with pytest.raises(PlanError, match=f"is a path.* give {folder.name} --out {folder.parent}"):
        Results(folder.parent / "results").record(str(folder))


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda record: record | {"schema_version": 99}, "schema_version 99"),
        (lambda record: record | {"rows": record["rows"][:-1]}, "its hash differs"),
        (lambda record: {"rows": [record["rows"][0] | {"key": "../x"}]}, "names no run by its key"),
        (lambda record: {"rows": ["row"]}, "names no run by its key"),
        (lambda record: with_row(record, key=None), "names no run by its key"),
        (lambda record: with_row(record, row=["sft"]), "lacks its field 'row', or it has another type"),
        (lambda record: with_row(record, seed=None), "lacks its field 'seed'"),
        (lambda record: with_row(record, evals="final"), "lacks its field 'evals'"),
        (lambda record: with_row(record, evals={"final": "../../x"}), "names an evaluation by what is no key"),
        (lambda record: with_row(record, role="king"), "role is 'king', which there is not"),
        (lambda record: with_row(record, track="king"), "track is 'king', which there is not"),
        (lambda record: {"rows": [], "trials": [{"key": "/etc"}]}, "names no run by its key"),
        (lambda record: {"rows": [], "plan": "3epochs"}, "its field 'plan' has another type"),
        (lambda record: {"rows": [], "notes": 3}, "its field 'notes' has another type"),
        (lambda record: {"rows": [], "papers": ["a"]}, "its field 'papers' has another type"),
        (lambda record: {"rows": [], "suites": ["general"]}, "a suite has no name"),
        (lambda record: {"rows": [], "suites": [{"name": "g", "items": "4"}]}, "of a suite its field 'items' has another type"),
        (
            lambda record: {"rows": [], "suites": [{"name": "g", "areas": {"facts": "must"}}]},
            "the family 'facts' has the area 'must', which there is not",
        ),
        (lambda record: {"rows": [], "data": {"notes": 3}}, "its field 'notes' has another type"),
        (lambda record: {"rows": [], "papers": {"sft": {"bibtex": "x"}}}, "its field 'bibtex' has another type"),
        (lambda record: {"rows": [], "contamination": {"found": ["task"]}}, "its field 'found' has another type"),
        (lambda record: with_row(record, role=None), "lacks its field 'role'"),
        (lambda record: with_row(record, seed=2**63), "seed is out of range"),
        (lambda record: {"rows": [], "plan": {"learning_rate": 10**400}}, "is not JSON"),
        (lambda record: {"rows": [], "plan": {"learning_rate": float("nan")}}, "is not JSON"),
        (lambda record: None, "has no rows"),
        (lambda record: [record], "has no rows"),
    ],
)
def test_a_comparisons_record_is_checked(folder, change, fault):
    path = folder / "comparison.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(PlanError, match=fault):
        read_record(folder)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("status", {"status": "paused"}, "has the status 'paused', which there is not"),
        ("status", {"status": ["done"]}, "which there is not"),
        ("run", {"schema_version": 99}, "schema_version 99"),
        ("run", {"schema_version": "1"}, "schema_version '1'"),
        ("run", {"asked": [1]}, "its field 'asked' has another type"),
        ("run", {"happened": {"peak_memory_bytes": "much"}}, "its field 'peak_memory_bytes' has another type"),
        ("ledger", {"tokens": 3}, "its field 'tokens' has another type"),
        ("ledger", {"accounts": {"train": {"flops": [1]}}}, "its field 'flops' has another type"),
        ("ledger", {"flops": 10**400}, "is not JSON"),
    ],
)
@pytest.mark.usefixtures("unrendered")
def test_a_run_of_another_version_is_named_by_every_command(folder, name, change, words, capsys):
    """Whole and hashed, but with words or types that this version does not have."""
    run = RunFolder(a_file(folder, "run.json").parent)
    run.write(name, (run.read(name) or {}) | change)
    for arguments in (["verify"], ["report", folder.name]):
        assert main([*arguments, "--out", str(folder.parent)]) == (1 if arguments == ["verify"] else 2)
        said = "".join(capsys.readouterr())
        assert words in said and str(run.path / f"{name}.json") in said and "Lethe's own" not in said


def test_fields_that_this_version_does_not_know_are_let_alone(folder, capsys):
    run = RunFolder(a_file(folder, "run.json").parent)
    for name in ("run", "status", "ledger"):
        run.write(name, (run.read(name) or {}) | {"of a later version": {"x": 1}})
    write_record(folder, (read_record(folder) or {}) | {"of a later version": [1]})
    assert main(["verify", "--out", str(folder.parent)]) == 0
    assert "all as they were written" in capsys.readouterr().out


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
