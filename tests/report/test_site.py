"""The leaderboard site: what shares a table, history, downloads, nothing but text from elsewhere; from published files only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from harness.errors import PlanError
from harness.report.site import publish, slug
from harness.report.verdict.model_card import card
from harness.report.write import write_report
from tests.report.fake_store import ROWS, build

ROOT = Path(__file__).resolve().parents[2]
BAD = "sft<script>alert('1')</script>"


def published(
    folder: Path, *, created: str = "2025-01-01T10:00:00", gain: float = 50.0, rows=("base", "sft"), **changes
) -> Path:
    """comparison.json and table.csv of a comparison, and a page beside them."""
    folder.mkdir(parents=True)
    record = {
        "schema_version": 1,
        "protocol": changes.get("protocol", 1),
        "name": changes.get("name", "finance"),
        "created": created,
        "question": {"budget": changes.get("budget", "3epochs")},
        "plan": {"budget": changes.get("budget", "3epochs"), "meter": "flops"},
        "model": {"name": "lab/base-1b", "hash": changes.get("model", "ab" * 8)},
        "data": {"name": "finance", "fingerprint": "cd" * 8, "train": 100},
        "suites": [{"name": "finance", "tasks": ["f"]}, {"name": "general", "tasks": ["g"]}],
        "rows": [
            {"row": row, "role": "recipe", "seed": 0, "key": "0" * 16, "evals": {"final": changes.get("evals", "ef")}}
            for row in rows
        ],
    }
    (folder / "comparison.json").write_text(json.dumps(record))
    lines = [
        {"row": row, "role": "base" if row == "base" else "recipe", "track": "free", "status": "done", "seeds": 1, "keys": "k"}
        | {"gain": gain * (row != "base"), "gain low": gain - 2, "gain high": gain + 2, "retention": 90.0, "change": -5.0}
        for row in rows
    ]
    pd.DataFrame(lines).to_csv(folder / "table.csv", index=False)
    (folder / "report.html").write_text("<p>report</p>")
    return folder


def pages(site: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in site.glob("*.html")}


def boards(site: Path) -> list[str]:
    return [text for name, text in pages(site).items() if name != "index.html"]


def test_protocols_models_and_questions_share_no_table(tmp_path):
    folders = [
        published(tmp_path / "a"),
        published(tmp_path / "b", protocol=2),
        published(tmp_path / "c", model="99" * 8),
        published(tmp_path / "d", budget="600s"),
        published(tmp_path / "e", evals="other items"),
    ]
    publish(folders, tmp_path / "site")
    assert len(boards(tmp_path / "site")) == 3  # protocol 2 and the other model apart
    assert sorted(text.count("<section>") for text in boards(tmp_path / "site")) == [1, 1, 3]
    index = (tmp_path / "site" / "index.html").read_text()
    assert index.index("-p2-") < index.index("-p1-")


def test_the_newest_entry_stands_in_the_table_and_older_ones_are_its_history(tmp_path):
    folders = [
        published(tmp_path / "new", created="2025-03-01T00:00:00", gain=61.5),
        published(tmp_path / "old", created="2025-01-01T00:00:00", gain=40.5, rows=("base", "sft", "ewc")),
    ]
    publish(folders, tmp_path / "site")
    (text,) = boards(tmp_path / "site")
    table, history = text.split("</table>")
    assert "61.5" in table and table.count("40.5") == 1  # ewc's own, which the newer comparison has not
    assert "History of sft" in history and history.index("61.5") < history.index("40.5") and "History of ewc" not in text
    newest = pd.read_csv(tmp_path / "site" / "leaderboard.csv").set_index("row")["gain"]
    assert newest["sft"] == 61.5 and newest["ewc"] == 40.5


def test_whatever_it_is_called_stays_text(tmp_path):
    publish([published(tmp_path / "a", rows=("base", BAD), name=BAD)], tmp_path / "site")
    for text in pages(tmp_path / "site").values():
        assert "<script" not in text
    assert "&lt;script&gt;" in boards(tmp_path / "site")[0]
    names = [path.name for path in (tmp_path / "site").rglob("*")]
    assert not [name for name in names if re.search(r"[^\w.\-]", name)]


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_every_link_leads_somewhere_in_the_site(tmp_path):
    publish([published(tmp_path / "a"), published(tmp_path / "b", budget="600s")], tmp_path / "site")
    for text in pages(tmp_path / "site").values():
        parser = Links()
        parser.feed(text)
        assert len(parser.found) > 2
        for link in parser.found:
            assert link.startswith(("#", "data:")) or (tmp_path / "site" / link).is_file(), link


def test_it_is_written_anew_but_never_over_anything_else(tmp_path):
    one, site = published(tmp_path / "a"), tmp_path / "site"
    first = pages(publish([one], site).parent)
    assert pages(publish([one], site).parent) == first
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mine.txt").write_text("keep")
    with pytest.raises(PlanError, match="other things"):
        publish([one], tmp_path / "docs")
    with pytest.raises(PlanError, match=r"nowhere holds no comparison\.json"):
        publish([one, tmp_path / "nowhere"], site)


def test_names_that_look_alike_have_files_of_their_own():
    names = ["ewc(strength=0.1)", "ewc(strength=01)", "ewc strength 0 1", "ewc-strength-0-1", "EWC"]
    assert len({slug(name) for name in names}) == len(names) and all(re.fullmatch(r"[a-z0-9-]+", slug(n)) for n in names)


def test_the_card_is_read_back_by_the_hubs_own_library(tmp_path):
    folder = published(tmp_path / "a")
    record = json.loads((folder / "comparison.json").read_text())
    line = pd.read_csv(folder / "table.csv").set_index("row", drop=False).loc["sft"].to_dict()
    read = ModelCard(card(record, line))
    results = {result.metric_type: result for result in read.data.eval_results or []}
    assert results["gain"].metric_value == 50.0 and "[48.0, 52.0]" in str(results["gain"].metric_name)
    assert results["retention"].dataset_name == "general" and read.data.base_model == "lab/base-1b"
    hostile = card(record | {"name": "x\n---\nlicense: mit"}, line | {"row": "a: [b\n- c"})
    assert ModelCard(hostile).data.get("license") is None


def test_it_works_without_torch_and_without_a_run_store(tmp_path):
    shutil.copytree(published(tmp_path / "a"), tmp_path / "alone")
    code = (
        "import sys; from harness.commands.cli import main;"
        f"code = main(['publish', {str(tmp_path / 'alone')!r}, '--to', {str(tmp_path / 'site')!r}]);"
        "sys.exit(code or bool({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_leader_is_the_recipe_that_the_report_chooses(tmp_path):
    """Not what keeps most: one rule answers everywhere, and where it chooses none neither does the leaderboard."""
    folder = published(tmp_path / "a", rows=("base", "sft", "ewc"))
    assert ">none<" in (publish([folder], tmp_path / "old").read_text())
    verdict = {
        "row": "ewc",
        "refusal": None,
        "sentence": "ewc gains 50 points.",
        "sureness": "again in 90 %",
        "rule": "The rule.",
    }
    warned = {"warnings": [{"text": "Collapse: loops.", "rows": ["ewc"]}, {"text": "One seed.", "rows": []}]}
    (folder / "verdict.json").write_text(json.dumps(verdict | warned))
    index = publish([folder], tmp_path / "site").read_text()
    assert ">ewc<" in index and "the rule chooses" in index
    (text,) = boards(tmp_path / "site")
    assert "ewc gains 50 points. again in 90 %" in text and "The rule." in text and "Collapse: loops." in text
    cards = {path.name: path.read_text() for path in (tmp_path / "site").rglob("cards/*.md")}
    assert "Collapse: loops." in cards["ewc.md"] and "Collapse" not in cards["sft.md"] and "One seed." in cards["sft.md"]
    (folder / "verdict.json").write_text(json.dumps(verdict | warned | {"refusal": "separated from no other"}))
    assert ">none<" in publish([folder], tmp_path / "again").read_text()


def test_what_a_stranger_rendered_is_not_published_and_links_are_not_followed(tmp_path):
    folder = published(tmp_path / "a" / "finance")
    for name in ("report.html", "table.md", "table.tex"):
        (folder / name).write_text("<script>stranger</script>")
    site = publish([folder], tmp_path / "site").parent
    files = [path for path in site.rglob("*") if path.is_file()]
    assert not any(b"stranger" in path.read_bytes() for path in files)
    assert {path.name for path in files} >= {"comparison.json", "table.csv"} and "report.html" not in "".join(boards(site))
    secret = tmp_path / "secret.csv"
    shutil.move(folder / "table.csv", secret)
    (folder / "table.csv").symlink_to(secret)
    with pytest.raises(PlanError, match=r"table\.csv is a link"):
        publish([folder], tmp_path / "other")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_site_has_the_rights_that_the_umask_gives(tmp_path, mask):
    folder = published(tmp_path / "a" / "finance")
    (folder / "table.csv").chmod(0o600)
    before = os.umask(mask)
    try:
        site = publish([folder], tmp_path / "site").parent
    finally:
        os.umask(before)
    for path in (site, *site.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


@pytest.mark.slow
def test_a_report_is_rendered_from_the_runs_beside_it(tmp_path):
    folder, store = build(tmp_path / "a", rows={row: ROWS[row] for row in ("base", "sft")}, curves=False, items=0.02)
    write_report(folder, store, reps=50)
    record = json.loads((folder / "comparison.json").read_text())
    with pytest.raises(PlanError, match="lacks a field"):
        publish([folder], tmp_path / "site")
    record["data"]["fingerprint"] = "cd" * 8
    (folder / "comparison.json").write_text(json.dumps(record))
    (folder / "report.html").write_text("stranger")
    site = publish([folder], tmp_path / "site").parent
    (page,) = site.glob("files/*/report.html")
    assert "stranger" not in page.read_text() and "<h1" in page.read_text()
    assert 'report.html">' in "".join(boards(site))
