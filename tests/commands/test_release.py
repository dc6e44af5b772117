"""What a release consists of: one version everywhere, an entry in the changelog, examples that are what the pages show."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import lethe
from harness.commands.cli import main
from harness.store.schema import PROTOCOL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write_a_method.md").read_text(encoding="utf-8")


def test_the_version_is_written_once_and_cited():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project and "version" in project["dynamic"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lethe.__version__


def test_the_changelog_has_this_version_and_its_protocol():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entry = re.search(rf"^## \[{re.escape(lethe.__version__)}\] - \d{{4}}-\d\d-\d\d\n\n(.*)\n", text, re.MULTILINE)
    assert entry is not None, f"CHANGELOG.md has no entry of {lethe.__version__}"
    assert f"Protocol {PROTOCOL}" in entry[1]


def test_version_names_what_numbers_depend_on(capsys):
    assert main(["--version"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"lethe {lethe.__version__} (protocol {PROTOCOL})")
    for package in ("torch", "transformers", "peft", "lm_eval"):
        assert re.search(rf"^{package} \d", printed, re.MULTILINE)


def test_the_completion_script_is_valid_and_knows_the_commands(capsys):
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "compare" in script and "--learning-rate" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_the_page_shows_what_the_examples_are(path):
    assert f"examples/methods/{path.name}" in PAGE
    source = path.read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    pieces = [piece for block in shown for piece in block.split("\n\n") if piece.strip() in source]
    assert pieces, f"docs/write_a_method.md shows nothing of {path.name} as it is"
