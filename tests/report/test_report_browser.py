"""The page in a real browser: nothing hostile ran, and a phone need not scroll sideways."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files"]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
FRAME = """<!doctype html><title>probe</title><pre id=out></pre>
<iframe id=f src="report.html" width="{width}" height="800"></iframe>
<script>document.getElementById("f").onload = (e) => {{
 const d = e.target.contentDocument, root = d.documentElement;
 const wide = [...d.querySelectorAll("body *")].filter((x) => !x.closest(".scroll, svg, .skip") &&
   x.getBoundingClientRect().right > root.clientWidth + 1).map((x) => x.tagName + "." + x.className);
 const first = () => d.querySelector("#table tbody tr").cells[0].textContent.trim();
 d.querySelectorAll("#table thead button")[3].click();
 const search = d.getElementById("search"); search.value = "nothing has this text";
 search.dispatchEvent(new Event("input"));
 document.getElementById("out").textContent = JSON.stringify({{title: d.title, scroll: root.scrollWidth,
   client: root.clientWidth, wide, first: first(), shown: d.getElementById("found").textContent,
   scripts: d.scripts.length, images: d.images.length}});
}}</script>"""


def dom(page: Path, profile: Path) -> str:
    done = subprocess.run(
        [str(BROWSER), *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_chromium(report, tmp_path: Path, width: int):
    import html
    import json

    shutil.copy(report.folder / "report.html", tmp_path)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    text = dom(tmp_path / "frame.html", tmp_path / "profile")
    found = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', text, re.DOTALL)[1]))  # type: ignore[index]
    assert found["title"] == "finance: what fine-tuning made the model forget"
    assert (found["scripts"], found["images"]) == (1, 0)
    assert found["scroll"] <= found["client"] and found["wide"] == []
    assert found["first"].endswith(("sft", "replay"))  # sorted by gain, highest first
    assert found["shown"].startswith("0 of ")
