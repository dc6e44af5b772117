"""The page: complete, self-contained, and nothing a model wrote runs or hides in it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from fake_store import FAILED

from harness.report import Report
from harness.report.format import visible

VOID = {"meta", "br", "img", "input", "link", "hr", "path", "use"}
SECTIONS = ["verdict", "tradeoff", "table", "families", "curves", "training",
            "quality", "cost", "items", "forgotten", "failed", "provenance"]  # fmt: skip


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
    assert [attrs["id"] for attrs in page.named("section")] == SECTIONS


def test_page_loads_nothing(page: Page):
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("#"), f"<{tag} {name}={value!r}>"
    policies = [attrs["content"] for attrs in page.named("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies and "default-src 'none'" in str(policies[0])


def test_only_our_script_and_no_handlers(page: Page):
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert not [attrs for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_policy_names_the_script_as_it_stands(html: str):
    import base64
    import hashlib

    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html


def test_hostile_outputs_are_shown_as_text(html: str, page: Page):
    text = "".join(page.texts)
    assert "<script>document.title='owned'</script>" in text
    assert "</textarea></style><svg onload=" in text
    assert "⟨U+202E⟩right to left override⟨U+202C⟩" in text
    assert "escape ⟨U+001B⟩[31m null ⟨U+0000⟩ delete ⟨U+007F⟩ c1 ⟨U+009B⟩ zero⟨U+200B⟩width" in text
    assert "98,000 more characters in the store" in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", html)


def test_texts_of_models_are_isolated(html: str):
    assert html.count('dir="auto"><bdi>') > 50


def test_visible_keeps_ordinary_text():
    assert visible("Zwei Äpfel\n\t共 3 个 🍎") == "Zwei Äpfel\n\t共 3 个 🍎"
    assert visible(None) == "" and visible(float("nan")) == ""


def test_tables_have_captions_and_scopes(page: Page):
    assert len(page.named("table")) == len(page.named("caption")) >= 6
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.named("th"))


def test_drawings_say_what_they_show(page: Page):
    drawn = list(page.named("svg"))
    assert len(drawn) == 4
    titles = {attrs.get("id") for attrs in page.named("title") + page.named("desc")}
    assert all(set(str(attrs["aria-labelledby"]).split()) <= titles for attrs in drawn)


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
    found = re.search(r"longer does: (\d+) of (\d+)", html)
    assert found and int(found[1]) == html.count('<details class="item"') <= int(found[2])


def test_every_file_is_written(report: Report):
    names = {str(path.relative_to(report.folder)) for path in report.files}
    assert {"report.html", "table.md", "table.csv", "table.tex", "plots/tradeoff.svg", "plots/tradeoff.png"} <= names
    assert all(path.stat().st_size for path in report.files)


def test_report_never_imports_torch():
    code = "import sys, harness.report; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
