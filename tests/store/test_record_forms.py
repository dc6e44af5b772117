"""Records of another version, or of another form than Lethe writes: refused by name, or let alone where nothing is lost."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from harness.commands.cli import main
from harness.errors import PlanError
from harness.store.comparisons import read_comparison, read_table, read_verdict
from harness.store.files import read_record, write_record
from harness.store.hashes import HASHES, Damaged, write_hashed
from harness.store.results import Results
from harness.store.runs import RunFolder, RunStore
from harness.vocabulary import EvalKind
from tests.support.stores import a_file


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
