"""The page: complete, self-contained, and nothing a model wrote runs or hides in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_store import FAILED, ROWS, build

from harness.report.page import explorer
from harness.report.page.explorer import read_flips
from harness.report.page.headlines import EXPLAINED, headlines
from harness.report.page.page import data_block
from harness.report.page.page import page as page_of
from harness.report.page.sections import SECTIONS
from harness.report.summary.format import interval, signed
from harness.report.summary.summarise import summarise
from harness.report.verdict.verdict import verdict_of
from harness.report.write import Report
from harness.store.comparisons import read_comparison
from harness.visible import visible
from harness.vocabulary import EvalKind

VOID = {"meta", "br", "img", "input", "link", "hr", "path", "use"}
ABSENT = {"stages", "tuning"}
"""Sections of which this comparison has nothing."""


class Page(HTMLParser):
    """Checks nesting and gathers tags with their attributes, ids and texts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_well_nested_with_unique_ids(page: Page):
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert page.open == []
    assert len(ids) == len(set(ids))


def test_sections_stand_in_order(page: Page):
    found = [attrs["id"] for attrs in page.named("section")]
    assert found == [section.id for section in SECTIONS if section.id in found]
    assert ABSENT.isdisjoint(found)
    assert {"verdict", "recommendation", "tradeoff", "table", "comparisons", "families", "curves", "training", "quality",
            "cost", "forgotten", "failed", "provenance"} <= set(found)  # fmt: skip


def test_every_section_has_its_heading_and_is_linked(page: Page):
    ids, links = {attrs.get("id") for _, attrs in page.tags}, {attrs.get("href") for attrs in page.named("a")}
    for attrs in page.named("section"):
        assert attrs["aria-labelledby"] in ids
        assert attrs["id"] == "verdict" or f"#{attrs['id']}" in links


def test_page_loads_nothing(page: Page):
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("#"), f"<{tag} {name}={value!r}>"
    policies = [attrs["content"] for attrs in page.named("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies and "default-src 'none'" in str(policies[0])


def test_only_our_script_and_no_handlers(page: Page):
    kinds = [attrs.get("type") for attrs in page.named("script")]
    assert kinds.count(None) == 1 and set(kinds) == {None, "application/json"}
    assert page.named("img") == []
    assert not [attrs for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_policy_names_the_script_as_it_stands(html: str):
    import base64
    import hashlib

    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html


def block(html: str, name: str) -> Any:
    """Data embedded for the script."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_hostile_outputs_are_shown_as_text(html: str):
    text = "\n".join(block(html, "explorer")["texts"])
    assert "<script>document.title='owned'</script>" in text
    assert "</textarea></style><svg onload=" in text
    assert "⟨U+202E⟩right to left override⟨U+202C⟩" in text
    assert "escape ⟨U+001B⟩[31m null ⟨U+0000⟩ delete ⟨U+007F⟩ c1 ⟨U+009B⟩ zero⟨U+200B⟩width" in text
    assert "98,000 more characters in the store" in text
    assert "line⟨U+2028⟩separator <!-- comment" in text
    assert "document.title='owned'</script>" not in html and "<svg onload" not in html and "<!--" not in html
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", html)


def test_data_blocks_cannot_end_their_element():
    made = data_block("x", {"a": "</script><!--<script>&\u2028", "b": [1, None]})
    inside = made[made.index(">") + 1 : made.rindex("</script>")]
    assert not set(inside) & set("<>&\u2028") and json.loads(inside)["a"] == "</script><!--<script>&\u2028"


def test_names_of_rows_are_hostile_too(tmp_path: Path):
    """Recipes, families and reasons are the user's: escaped wherever they stand."""
    evil = "<b onclick=alert(1)>"
    rows = {"base": ROWS["base"], "sft": ROWS["sft"], evil: ROWS["lora"]}
    folder, store = build(tmp_path, rows=rows, items=0.2)
    text = page_of(summarise(read_comparison(folder, store), reps=50), [])
    assert "<b onclick" not in text and "&lt;b onclick=alert(1)&gt;" in text


def test_visible_keeps_ordinary_text():
    assert visible("Zwei Äpfel\n\t共 3 个 🍎") == "Zwei Äpfel\n\t共 3 个 🍎"
    assert visible("lone \ud800, next \x85 line\r") == "lone ⟨U+D800⟩, next ⟨U+0085⟩ line⟨U+000D⟩"
    assert visible(None) == "" and visible(float("nan")) == ""


def test_tables_have_captions_and_scopes(page: Page):
    assert len(page.named("table")) == len(page.named("caption")) >= 6
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.named("th"))


def test_drawings_say_what_they_show(page: Page):
    drawn = list(page.named("svg"))
    assert len(drawn) == 6
    titles = {attrs.get("id") for attrs in page.named("title") + page.named("desc")}
    assert all(set(str(attrs["aria-labelledby"]).split()) <= titles for attrs in drawn)


def test_the_three_questions_stand_first(html: str, report: Report):
    """One seed chooses nothing: the numbers are ranges, and the family that fell lowest is named."""
    start = html.index('<section id="verdict"')
    places = [html.index(question, start) for question in ("What do I gain?", "What do I lose?", "Which recipe?")]
    assert places == sorted(places) and places[-1] < html.index('<section id="matched"')
    gained, lost, which = headlines(report.summary, report.verdict)
    gains = {row.name: report.summary.estimate("gain", row.name).value for row in report.summary.tuned if row.done}
    least, most = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
    assert gained.figure == f"{signed(gains[least])} to {signed(gains[most])}" and f"to {most}, " in gained.sentence
    assert "The lowest family is " in lost.sentence and which.figure == "None is chosen"


def test_a_chosen_recipe_has_its_own_numbers(tmp_path: Path):
    rows = {"base": ROWS["base"], "sft": ROWS["sft"], "kept": ("recipe", "general", 0.45, 0.0)}
    folder, store = build(tmp_path, seeds=(0, 1, 2), rows=rows, curves=False)
    summary = summarise(read_comparison(folder, store), reps=500)
    verdict = verdict_of(summary)
    gained, lost, which = headlines(summary, verdict)
    assert verdict.row and which.figure == verdict.row
    assert gained.figure == signed(summary.estimate("gain", verdict.row).value)
    assert any(line.startswith("Tasks: ") for line in gained.explained)
    assert any("3 seeds" in line for line in lost.explained)
    change = summary.estimate("change", verdict.row)
    assert any(interval(change) in line and f"{change.n:,} paired items" in line for line in lost.explained)


def test_every_headline_number_of_the_table_is_explained(page: Page, html: str):
    explained = block(html, "explained")
    cells = [attrs for attrs in page.named("td") if attrs.get("data-why")]
    assert {str(attrs["data-why"]) for attrs in cells} == set(EXPLAINED)
    assert len(cells) == len(EXPLAINED) * len(explained)
    assert all(lines for of_row in explained.values() for lines in of_row.values())


def test_marks_of_plots_belong_to_the_rows_beside_them(page: Page):
    marked = {attrs["data-row"] for attrs in page.named("g") if attrs.get("data-row")}
    listed = {attrs["data-row"] for attrs in page.named("li") if attrs.get("data-row")}
    assert marked and marked <= listed


def test_failed_row_is_there_with_its_reason(html: str, report: Report):
    assert visible(FAILED["ewc"]) in html
    line = report.table.set_index("row").loc["ewc"]
    assert line["status"] == "out of memory" and line[["gain", "retention", "change", "flops"]].isna().all()
    assert not report.all_well


def test_notes_and_caveats_stand_on_the_page(html: str):
    for text in ("3 records were cut to 256 tokens.", "intervals cover the choice of items only", "Untuned",
                 "answers trivia_mc at chance", "500 domain items"):  # fmt: skip
        assert text in html


def test_sample_of_forgotten_items_is_stated(html: str):
    found = re.search(r"longer does: ([\d,]+) of ([\d,]+)", html)
    assert found and int(found[1].replace(",", "")) == len(block(html, "explorer")["items"]) <= int(found[2].replace(",", ""))


def test_the_sample_is_cut_where_the_page_is_full_worst_families_first(report: Report, monkeypatch: pytest.MonkeyPatch):
    whole = read_flips(report.summary)
    monkeypatch.setattr(explorer, "TEXT_BUDGET", 30_000)
    part = read_flips(report.summary)
    assert 0 < len(part.items) < len(whole.items) == whole.forgotten == part.forgotten
    assert part.items == whole.items[: len(part.items)]
    worst = [item.family for item in whole.items]
    assert worst == sorted(worst, key=list(dict.fromkeys(worst)).index)


def test_every_file_is_written(report: Report):
    names = {str(path.relative_to(report.folder)) for path in report.files}
    assert {"report.html", "table.md", "table.csv", "table.tex", "table.json", "plots/tradeoff.svg", "plots/tradeoff.png",
            "plots/weights.svg", "appendix.md", "appendix.tex", "references.bib"} <= names  # fmt: skip
    assert all(path.stat().st_size for path in report.files)


def test_report_never_imports_torch():
    code = "import sys, harness.report.write; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_item_is_answered_as_its_scored_answers_are_whatever_else_is_measured_of_them(tmp_path):
    """A secondary measure whose name sorts before the score's own is of the channel "degeneration"."""
    folder, store = build(tmp_path, curves=False)
    for entry in read_comparison(folder, store).runs:
        run, key = store.run(entry["key"]), entry["evals"].get(EvalKind.FINAL)
        scores = run.scores(EvalKind.FINAL, key) if key else None
        if scores is None:
            continue
        more = scores[scores["metric"] == "rep3_word"].assign(metric="compression")
        run.write_scores(EvalKind.FINAL, key, pd.concat([scores, more], ignore_index=True))
    items = read_flips(summarise(read_comparison(folder, store), reps=50)).items
    assert "chat" in {item.task for item in items}
    assert {item.channel for item in items} <= {"generation", "choice", "likelihood"}


def test_every_class_and_id_that_is_styled_is_used():
    report = Path(explorer.__file__).parents[1]
    styles = re.sub(r'"[^"]*"', "", (report / "page" / "page.css").read_text())
    styled = set(re.findall(r"[.#]([a-zA-Z][\w-]*)", re.sub(r"\{[^{}]*\}", "{}", styles)))

    # Ids of the frames of wide tables are made from the tables' names.
    sources = [*report.rglob("*.j2"), *report.rglob("*.js"), *(report / "figures").glob("*.py")]
    text = "\n".join(path.read_text() for path in [*sources, report / "page" / "sections.py"])
    used = set(re.findall(r'(?<=")[\w-]+(?=")', text))
    for quoted in re.findall(r'"([^"\n]*)"', text):
        used |= set(re.findall(r"[\w-]+", quoted))
    assert not {name for name in styled if name.removesuffix("-scroll") not in used}
