"""Names and texts of others in terminals, CSV and Markdown: shown as they are, and nothing acts on them."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd
import pytest
from fake_store import ROWS, build
from markdown_it import MarkdownIt

from harness.report.verdict.model_card import card
from harness.report.write import write_report
from harness.store.files import read_json, write_json
from harness.visible import csv_text, markdown_block, markdown_code, markdown_text, read_csv_text, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- hidden",
    "<https://evil.example>",
    "![image](https://evil.example/x.png)",
    "[link](https://evil.example)",
    "[link][evil]",
    "[evil]: https://evil.example",
    "https://evil.example and www.evil.example and a@evil.example",
    "a|b",
    "*bold* **bold** _sloped_ __bold__ ~~gone~~",
    "&lt;script&gt; &#60;b&#62;",
    "back\\slash and \\[link](https://evil.example)",
    "`code` and a lone ` with <b>",
    "line\nbreak",
]
ORDINARY = [
    "lora(r=8)+nlirg",
    "early_stop",
    "97.3 [95.1, 98.9]",
    "−1.2",
    "< 0.001",
    "p < 0.0002 × 12",
    "a & b",
    "—",
    "low_lr (x_y_z)",
]
FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "＝1", "=cmd|' /C calc'!A0"]


def rendered(text: str) -> str:
    """What a reader of GitHub's Markdown gets."""
    return MarkdownIt("gfm-like", {"html": True}).render(text)


def harmless(html: str) -> None:
    """Assert that nothing but tables, lists, headings, paragraphs and code is there."""
    tags = set(re.findall(r"<\s*/?([a-zA-Z!]+)", html))
    assert tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li", "code", "pre", "h", "strong", "ol", "hr"}, (
        html
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["| § |\n|---|\n| {} |\n", "- {}\n", "# {}\n", "{}\n"])
def test_markdown_shows_a_text_and_nothing_acts_on_it(form, text):
    html = rendered(form.format(markdown_text(text)))
    harmless(html.replace("h1", "h"))
    assert "strong" not in html and "href" not in html
    plain = (
        re.sub(r"<[^>]*>", "", html.replace("&lt;", "\0").replace("&gt;", "\1")).replace("&quot;", '"').replace("&amp;", "&")
    )
    plain = plain.replace("\0", "<").replace("\1", ">").strip().removeprefix("§").strip()
    if "`" not in text:
        assert plain == text.replace("\n", " ")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_stay_as_they_are(text):
    assert markdown_text(text) == text == visible(text)


@pytest.mark.parametrize("text", ["a`b", "`a`", "``", "<b>`</b>", "```\n<b>"])
def test_code_stays_code(text):
    assert rendered(markdown_code(text)).count("<code>") == 1 and "<b>" not in rendered(markdown_code(text))
    assert rendered(markdown_block(text) + "\n").count("<code>") == 1 and "<b>" not in rendered(markdown_block(text))


def test_no_cell_of_a_table_is_a_formula_and_all_are_read_back():
    table = pd.DataFrame({"=name": FORMULAS, "text": FORMULAS[::-1], "number": [-1.5] * len(FORMULAS)})
    table["kind"] = pd.Categorical(FORMULAS)
    text = csv_text(table)
    for cell in re.findall(r'(?:^|,)"?([^,"]*)', text, re.M):
        assert not re.match(r"[=+@\t\r＝]|-(?!1\.5)", cell), cell
    back = read_csv_text(text.encode())
    assert list(back) == list(table)
    for name in ("=name", "text", "kind"):
        assert back[name].tolist() == table[name].astype(object).tolist()
    assert back["number"].tolist() == table["number"].tolist()
    assert csv_text(table[:0]).count("\n") == 1


def test_a_terminal_gets_no_escape():
    unseen = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    # signs of Arabic, Kaithi and Egyptian are drawn
    marks = {mark for mark in unseen if unicodedata.bidirectional(mark) in ("AN", "AL") or ord(mark) >> 8 in (0x110, 0x134)}
    assert [mark for mark in sorted(unseen - marks - set("\t\n")) if visible(mark) == mark] == []
    assert visible("\x1b[31mred\x1b[0m \x9b1m \x07 a\u202eb") == "⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+009B⟩1m ⟨U+0007⟩ a⟨U+202E⟩b"


def test_a_report_of_hostile_names_is_harmless(tmp_path):
    """Rows, tasks, data and notes all bear names that attack: every file for people but the page is looked at."""
    folder, store = build(tmp_path, rows={name: ROWS[name] for name in ("base", "sft", "lora")}, items=0.2, curves=False)
    record = read_json(folder / "comparison.json")
    names = dict(zip(("sft", "lora"), ("=x<img src=x>", "@y [l](https://e.co)"), strict=True))
    for entry in record["rows"]:
        entry["row"] = names.get(entry["row"], entry["row"])
    record["name"] = HOSTILE[0]
    record["data"] |= {"name": HOSTILE[5], "fingerprint": "ab"}
    record["model"]["name"] = HOSTILE[6]
    record["notes"] = list(HOSTILE)
    record["papers"] = {HOSTILE[0]: {"source": HOSTILE[5], "bibtex": ["@article{x, title={```\n<b>}}"]}}
    write_json(folder / "comparison.json", record)
    report = write_report(folder, store, reps=50)
    for path in sorted(folder.glob("*.md")):
        html = rendered(path.read_text())
        assert "href" not in html and "<img" not in html and "<script" not in html and "<b>" not in html, path.name
    for path in sorted(folder.glob("*.csv")):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if line.lstrip('"').startswith(("=", "@", "+"))], path.name
    table = read_csv_text((folder / "table.csv").read_bytes())
    assert table["row"].tolist() == report.table["row"].tolist()
    line = table[table["row"] == names["sft"]].iloc[0].to_dict()
    body = card(record, line, warnings=HOSTILE).split("---\n", 2)[2]
    html = rendered(body)
    assert "href" not in html and "<img" not in html and "<script" not in html
