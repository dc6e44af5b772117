"""Names in README.md and docs/: every path exists, every link leads somewhere, the map lists the rooms as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_imports import FOLDERS, HARNESS, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOG = ROOT / "docs" / "log.md"
"""Its entries keep the names of their day."""
OURS = ("docs", "harness", "lethe", "suites", "tests", "trainers")
"""Folders whose files are looked for. results/ is not: what stands there is each user's own."""
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(OURS)})/[\w./-]*\w/?")
LINK = re.compile(r"\]\(([^)\s]*)\)")
MODULE = re.compile(r"python -m ((?:harness|tests|suites)[\w.]*)")


def anchors(page: Path) -> set[str]:
    """Return what links to the headings of a page end in, as GitHub forms it."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [page for page in PAGES if page != LOG], ids=lambda page: page.name)
def test_every_path_and_module_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    paths = [ROOT / name for name in PATH.findall(text)]
    modules = [ROOT.joinpath(*name.rstrip(".").split(".")) for name in MODULE.findall(text)]
    absent = [path for path in paths if not path.exists()]
    absent += [path for path in modules if not path.is_dir() and not path.with_suffix(".py").is_file()]
    assert not absent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_of_ours_leads_there(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_map_lists_the_rooms_in_their_order():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(harness/[\w/]*)` \| (.*) \|$", text, re.MULTILINE)
    rooms = []
    for folder in FOLDERS:
        opening = HARNESS / Path(*folder.split(".")) / "__init__.py"
        sentence = ast.get_docstring(ast.parse(opening.read_text(encoding="utf-8")))
        rooms.append((f"harness/{folder.replace('.', '/')}".rstrip("/") + "/", sentence))
    assert listed == rooms
