"""The page in a real browser: nothing hostile ran, and a phone need not scroll sideways."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.summary.recommend import choices

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files"]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
FRAME = """<!doctype html><title>probe</title><pre id=out></pre>
<iframe id=f src="report.html" width="{width}" height="800"></iframe>
<script>document.getElementById("f").onload = (e) => {{
 const d = e.target.contentDocument, root = d.documentElement, at = (id) => d.getElementById(id);
 const set = (id, value) => {{ at(id).value = value; at(id).dispatchEvent(new Event("input", {{bubbles: true}})); }};
 const found = {{}};
 const sorted = d.querySelectorAll("#main-table thead button")[3];
 sorted.click();
 found.first = d.querySelector("#main-table tbody tr:not(.reference)").cells[0].textContent.trim();
 found.sort = sorted.parentElement.getAttribute("aria-sort");
 found.top = d.querySelector("#main-table tbody tr").cells[0].textContent.trim();
 const scroller = at("table-scroll");
 found.sideways = scroller.scrollWidth - scroller.clientWidth;
 set("table-track", "general");
 found.rows = [...d.querySelectorAll("#main-table tbody tr")].filter((r) => !r.hidden).map((r) => r.cells[1].textContent);
 set("limit-loss", ""); set("limit-retention", "60"); set("limit-seconds", "41.5");
 found.fitting = [...d.querySelectorAll("#choices tbody tr")].filter((r) => !r.hidden).map((r) => r.cells[0].innerText.trim());
 found.counted = at("limits-shown").textContent;
 set("search", "nothing has this text");
 found.none = at("found").textContent;
 set("search", "OWNED <\\/script>");
 found.hostile = at("found").textContent;
 d.querySelectorAll("details.item").forEach((x) => x.open = true);
 setTimeout(() => {{
  found.answers = d.querySelectorAll(".answers .text").length;
  found.texts = [...d.querySelectorAll("#item-list .text")].filter((x) => x.textContent.includes("<script>document")).length;
  found.wide = [...d.querySelectorAll("body *")].filter((x) => !x.closest(".scroll, svg, .skip, #verdict h2, .unseen") &&
    x.getBoundingClientRect().right > root.clientWidth + 1).map((x) => x.tagName + "." + x.className);
  found.nameless = [...d.querySelectorAll("button, input, select")].filter((x) =>
    !x.textContent.trim() && !(x.labels && x.labels.length)).map((x) => x.id);
  Object.assign(found, {{title: d.title, scroll: root.scrollWidth, client: root.clientWidth, images: d.images.length,
    scripts: [...d.scripts].filter((x) => !x.type).length}});
  document.getElementById("out").textContent = JSON.stringify(found);
 }}, 500);
}}</script>"""


def dom(page: Path, profile: Path) -> str:
    done = subprocess.run(
        [str(BROWSER), *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_chromium(report, tmp_path: Path, width: int):
    shutil.copy(report.folder / "report.html", tmp_path)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    text = dom(tmp_path / "frame.html", tmp_path / "profile")
    found = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', text, re.DOTALL)[1]))  # type: ignore[index]
    assert found["title"] == "finance: what fine-tuning made the model forget"
    assert (found["scripts"], found["images"]) == (1, 0)
    assert found["scroll"] <= found["client"] and found["wide"] == [] and found["nameless"] == []
    assert found["first"].endswith(("sft", "replay")) and found["sort"] == "descending"  # by gain, highest first
    assert found["top"] == "base", "what is no recipe is ranked nowhere"
    assert width < 1280 or found["sideways"] <= 1, "the headline table fits"
    assert set(found["rows"]) == {"base", "control", "general"}
    fitting = [one for one in choices(report.summary) if one.kept >= 60 and one.seconds <= 41.5]
    assert [name.split()[-1] for name in found["fitting"]] == [one.row.name for one in fitting]
    assert found["counted"] == f"{len(fitting)} of {len(choices(report.summary))} recipes keep them"
    assert found["none"].startswith("0 of ") and found["hostile"].startswith("2 of 2 shown")
    assert found["answers"] >= 2 and found["texts"] == 1
