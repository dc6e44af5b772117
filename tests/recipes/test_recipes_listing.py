"""`lethe recipes`, and methods that third parties bring: by entry point or by file."""

from __future__ import annotations

import io
import pickle
import re

import pytest
from rich.console import Console

from harness.commands.cli import main
from harness.commands.compare import compare
from harness.errors import PlanError
from harness.models.base_model import weights_hash
from harness.recipes.catalogue import GENERIC, axis_names, catalogue, show_catalogue
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from tests.support.comparisons import options
from tests.support.training import make_run, trained

HALVE = '''"""Half of what was learned."""

from harness.contract import Method


class Halve(Method):
    """theta0 + share (theta - theta0)."""

    paper = "Made up. @misc{halve, title={Halve}}"
    verified = "by its name"
    off = {"share": 1.0}
    search = {"share": (0.1, 1.0)}

    def __init__(self, share: float = 0.5):
        self.share_ = share

    def finish(self, weights, run):
        return {name: run.start[name].lerp(tuned, self.share_) for name, tuned in weights.items()}
'''


def listing() -> str:
    text = io.StringIO()
    show_catalogue(Console(file=text, width=2000))
    return text.getvalue()


def test_every_method_is_listed_with_its_axes_settings_and_source():
    text = listing()
    for entry in catalogue():
        (line,) = [line for line in text.splitlines() if line.split(" ")[0] == entry.name]
        assert entry.track in line and all(f"{setting}=" in line for setting in entry.settings)
    assert "finish" not in text and "merge" in text


def test_axes_are_read_off_the_hooks():
    axes = {entry.name: entry.axes for entry in catalogue()}
    assert axes["sft"] == () and axes["lora"] == ("PARAMS",) and axes["wise"] == ("MERGE",) and axes["low_lr"] == ("RATE",)
    assert {"RECORDS", "PARAMS", "DATA", "WEIGHTS", "PENALTY", "PULL", "RATE", "STOP", "MERGE"} <= set(axis_names().values())
    assert not {"prepare", "state", "restore"} & set(axis_names())


def test_a_method_without_a_word_of_its_own_had_the_generic_tests():
    assert all(entry.verified == (entry.method.verified or GENERIC) for entry in catalogue())  # all are bundled


def test_the_command_prints_it(capsys):
    assert main(["recipes"]) == 0
    assert "low_lr" in capsys.readouterr().out


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package outside the project, installed as far as Python can tell."""
    (tmp_path / "lethe_halve.py").write_text(HALVE)
    info = tmp_path / "lethe_halve-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lethe-halve\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lethe.methods]\nhalve = lethe_halve:Halve\n")
    monkeypatch.syspath_prepend(tmp_path)
    methods.cache_clear()
    yield
    methods.cache_clear()


def test_a_third_partys_method_is_found_by_its_entry_point(installed, base, tmp_path):
    recipe = parse_recipe("halve(share=1.0)+nlirg")
    assert recipe.names == ("halve", "nlirg") and "by its name" in listing()
    (tmp_path / "runs").mkdir()
    on, off, plain = (
        trained(make_run(base, r), tmp_path / "runs" / str(i))[0] for i, r in enumerate(("halve", "halve(share=1.0)", ""))
    )
    assert weights_hash(on) != weights_hash(off) == weights_hash(plain)


def test_a_method_is_found_by_its_file(tmp_path):
    path = tmp_path / "idea.py"
    path.write_text(HALVE)
    text = f"{path}:Halve(share=0.25)+lora(r=4, lr=1e-3)"
    recipe = parse_recipe(text)
    assert recipe.names == ("Halve", "lora") and recipe.settings[0] == {"share": 0.25} and recipe.learning_rate == 1e-3
    assert recipe.question[0]["name"] == "Halve", "a run's key holds the file's content, not its place"
    assert pickle.loads(pickle.dumps(recipe)).question == recipe.question


@pytest.mark.parametrize(
    "text, words",
    [("nowhere.py:Halve", "there is no file"), ("{}:Wrong", "no Method named Wrong"), ("{}:Halve(x=1)", "no setting 'x'")],
)
def test_a_file_that_does_not_serve_says_why(tmp_path, text, words):
    path = tmp_path / "idea.py"
    path.write_text(HALVE)
    with pytest.raises(PlanError, match=words):
        parse_recipe(text.format(path))


@pytest.mark.slow
def test_a_files_method_runs_in_a_comparison(files, tiny_path, tmp_path):
    path = tmp_path / "idea.py"
    path.write_text(HALVE)
    small = {"recipes": f"sft sft(lr=2e-6) {path}:Halve(share=0.25)", "budget": "2steps", "limit": 8}
    outcome = compare(quiet=True, **options(files, tiny_path, tmp_path / "out", **small))
    assert not outcome.failed and list(outcome.report.table["role"]).count("recipe") == 3


def test_mended_words_keep_stored_runs(monkeypatch):
    """A file that computes what it did before it was mended answers under the hash it had."""
    from harness.recipes import registry

    now = parse_recipe("wise").question[0]["source"]
    monkeypatch.setitem(registry.SAME_BITS, now, "its hash before")
    registry.source_hash.cache_clear()
    assert parse_recipe("wise").question[0]["source"] == "its hash before"
    registry.source_hash.cache_clear()


@pytest.mark.parametrize(
    "text, acting",
    [
        ("ewc(strength=0.0, samples=9)+lora", ["Lora"]),
        ("mix(ratio=0.0)", []),
        ("mix(ratio=0.0, schedule='15->30')", ["Mix"]),
        ("nlirg(strength=0.0, token_batch=4)", ["Nlirg"]),
        ("asft(beta=0.0)", ["Asft"]),
        ("sft", ["Sft"]),
    ],
)
def test_a_method_at_its_off_settings_is_left_out_and_still_named(text, acting):
    recipe = parse_recipe(text)
    assert [type(method).__name__ for method in recipe.methods] == acting
    assert [question["name"] for question in recipe.question] == sorted(name.partition("(")[0] for name in text.split("+"))


def test_every_bibtex_entry_has_a_title_in_words_and_authors_or_a_reference():
    for entry in catalogue():
        for text in entry.bibtex:
            title = re.search(r"title=\{(.*?)\},?\n", text)[1]
            assert len(title.split()) >= 2 and "arXiv" not in title, entry.name
            assert "author={" in text or "howpublished={" in text, entry.name
