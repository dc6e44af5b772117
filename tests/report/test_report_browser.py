"""The page in a real browser: nothing hostile ran, a phone need not scroll sideways, and axe-core finds nothing amiss."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.summary.format import signed
from harness.report.summary.recommend import choices

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = importlib.util.find_spec("axe_playwright_python")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files"]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
FRAME = """<!doctype html><title>probe</title><pre id=out></pre>
<iframe id=f src="report.html" width="{width}" height="800"></iframe>
<script>document.getElementById("f").onload = (e) => {{
 const w = e.target.contentWindow, d = w.document, root = d.documentElement, at = (id) => d.getElementById(id);
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
  // the plots, the explanations and the links
  const svg = d.querySelector("#tradeoff svg"), dot = svg.querySelector("[data-row='1'] use").getBoundingClientRect();
  svg.dispatchEvent(new w.PointerEvent("pointermove",
    {{clientX: dot.left + dot.width / 2, clientY: dot.top + dot.height / 2}}));
  found.pointed = [...d.querySelectorAll("#tradeoff .key li.on bdi")].map((x) => x.textContent);
  found.tip = d.querySelector(".tip").hidden ? "" : d.querySelector(".tip").textContent;
  const key = d.querySelector("#tradeoff .key");
  key.dispatchEvent(new w.KeyboardEvent("keydown", {{key: "ArrowDown"}}));
  found.next = [...d.querySelectorAll("#tradeoff .key li.on bdi")].map((x) => x.textContent);
  const why = d.querySelector("#main-table tr[data-row=sft] [data-why=gain] button");
  why.click();
  found.why = d.querySelector("dialog[open]").innerText;
  d.querySelector("dialog button").click();
  found.closed = !d.querySelector("dialog").open;
  set("search", ""); set("family", "chat"); set("channel", "generation");
  found.link = w.location.hash;
  found.families = [...new Set([...d.querySelectorAll("#item-list .family")].map((x) => x.textContent))];
  set("channel", "choice");
  found.empty = at("found").textContent;
  Object.assign(found, {{title: d.title, scroll: root.scrollWidth, client: root.clientWidth, images: d.images.length,
    scripts: [...d.scripts].filter((x) => !x.type).length}});
  document.getElementById("out").textContent = JSON.stringify(found);
 }}, 500);
}}</script>"""


def dom(page: Path, profile: Path, *more: str) -> str:
    options = [f"--user-data-dir={profile}", "--virtual-time-budget=20000", *more]
    done = subprocess.run(
        [str(BROWSER), *QUIET, *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=300,
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
    assert found["pointed"] == ["sft"] and "sft gain +" in found["tip"], "the plot says what is pointed at"
    assert found["next"] == ["low_lr"], "and by keyboard"
    gain = report.summary.estimate("gain", "sft")
    assert f"Gain of sft: {signed(gain.value)}" in found["why"] and f"{gain.n:,} paired items" in found["why"]
    assert found["closed"]
    assert found["link"] == "#forgotten?family=chat&channel=generation" and found["families"] == ["chat"]
    assert found["empty"].startswith("0 of ")


def test_a_long_name_covers_no_number(report, tmp_path: Path):
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    parts = ("replay(", "samples=64,", "lr=4.5e-4)")
    name = "".join(f'<span class="piece">{part}</span>' for part in parts)
    assert '<span class="piece">replay</span>' in page
    (tmp_path / "report.html").write_text(page.replace('<span class="piece">replay</span>', name))
    frame = FRAME[: FRAME.index("<script>")].format(width=390)
    frame += """<script>document.getElementById("f").onload = (e) => { const d = e.target.contentDocument;
      d.querySelectorAll("details").forEach((x) => x.open = true);
      const named = [...d.querySelectorAll("tbody th")].filter((x) => x.textContent.includes("samples=64"));
      const heads = named.filter((x) => x.checkVisibility());
      const right = (x) => x.getBoundingClientRect().right;
      const spilled = heads.filter((x) => Math.max(...[...x.querySelectorAll(".piece")].map(right)) > right(x));
      const broken = heads.filter((x) => [...x.querySelectorAll(".piece")].some((y) => y.getClientRects()[0].height > 30));
      document.getElementById("out").textContent = JSON.stringify([heads.length, spilled.length, broken.length]); }</script>"""
    (tmp_path / "frame.html").write_text(frame)
    text = dom(tmp_path / "frame.html", tmp_path / "profile")
    heads, spilled, broken = json.loads(re.search(r'<pre id="out">(.*?)</pre>', text, re.DOTALL)[1])  # type: ignore[index]
    assert heads > 5 and (spilled, broken) == (0, 0)


def test_a_link_opens_what_it_names(report, tmp_path: Path):
    shutil.copy(report.folder / "report.html", tmp_path)
    frame = FRAME[: FRAME.index("<script>")].format(width=1280)
    frame = frame.replace("report.html", "report.html#forgotten?family=chat&method=sft")
    frame += """<script>document.getElementById("f").onload = (e) => { const d = e.target.contentDocument; setTimeout(() => {
      const value = (id) => d.getElementById(id).value;
      document.getElementById("out").textContent = JSON.stringify([value("family"), value("method"),
        [...new Set([...d.querySelectorAll("#item-list .family")].map((x) => x.textContent))]]); }, 300); }</script>"""
    (tmp_path / "frame.html").write_text(frame)
    text = dom(tmp_path / "frame.html", tmp_path / "profile")
    assert json.loads(re.search(r'<pre id="out">(.*?)</pre>', text, re.DOTALL)[1]) == ["chat", "sft", ["chat"]]  # type: ignore[index]


@pytest.mark.skipif(AXE is None, reason="needs axe-playwright-python (pip install --group browser)")
@pytest.mark.parametrize("look", ["light", "dark", "phone", "print"])
def test_axe_core_finds_nothing(report, tmp_path: Path, look: str):
    """WCAG 2.1 A and AA, contrast among them, with everything opened."""
    assert AXE is not None and AXE.origin is not None
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)  # axe runs inside the page
    if look == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all").replace("light dark", "dark")
    if look == "print":
        page = page.replace("@media print", "@media all")
    runner = """document.querySelectorAll("details").forEach((x) => x.open = true);
      setTimeout(() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).then((result) => {
        const said = (node) => node.target + " " + node.failureSummary;
        const found = {passes: result.passes.map((rule) => rule.id),
          violations: result.violations.map((rule) => [rule.id, rule.nodes.slice(0, 5).map(said)])};
        const out = Object.assign(document.createElement("pre"), {id: "axe", textContent: JSON.stringify(found)});
        document.body.replaceChildren(out);
      }), 300);"""
    axe = (Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(page.replace("</body>", f"<script>{axe}</script><script>{runner}</script></body>"))
    text = dom(tmp_path / "report.html", tmp_path / "profile", f"--window-size={390 if look == 'phone' else 1280},900")
    result = json.loads(html.unescape(re.search(r'<pre id="axe">(.*?)</pre>', text, re.DOTALL)[1]))  # type: ignore[index]
    assert result["violations"] == []
    looked = {"color-contrast", "document-title"} | ({"label", "select-name"} if look != "print" else set())
    assert looked <= set(result["passes"]), "axe looked"
