"""How the report bears size: a made-up store of 30 recipes x 5 seeds x 10,000 items, built, written and opened.

    python -m tests.bench.report [--recipes 30] [--seeds 5] [--items 10000] [--out FOLDER]

Prints the seconds and the memory that `lethe report` takes, how large the page is, and how long a headless Chromium needs until
it has loaded and run its script. The goals: 2 seconds to open, 15 MB.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from harness.report.write import write_report
from harness.store.files import write_json
from harness.store.runs import RunStore
from harness.store.schema import ITEM_COLUMNS, key_of

FAMILIES, CHANNELS = 20, ("generation", "choice", "likelihood")
WORDS = ("the", "model", "said", "that", "quarterly", "value", "of", "company", "seven", "is", "above", "what", "was", "asked")
PROBE = """<!doctype html><pre id=out></pre><iframe id=f width=1280 height=900></iframe><script>
const begin = performance.now(), frame = document.getElementById("f");
frame.onload = () => document.getElementById("out").textContent = JSON.stringify({
  milliseconds: performance.now() - begin, elements: frame.contentDocument.querySelectorAll("*").length,
  shown: frame.contentDocument.getElementById("found").textContent});
frame.src = "report.html";
</script>"""


def questions(n: int) -> pd.DataFrame:
    """A fifth of the items are the domain's; the rest is spread over families, a channel each."""
    rng, domain = np.random.default_rng(0), np.arange(n) < n // 5
    family = np.where(domain, "finance", [f"family {i % FAMILIES}" for i in range(n)])
    channel = np.where(domain, "generation", [CHANNELS[i % FAMILIES % 3] for i in range(n)])
    return pd.DataFrame(
        {
            "fraction": 1.0, "alpha": 1.0, "task": [f"task {name}" for name in family], "family": family,
            "group": np.where(domain, "domain", "general"), 
            "seen": pd.array([None if d else i % 2 == 0 for i, d in enumerate(domain)]),
            "channel": channel, "metric": "acc", "primary": True, "higher_better": True,
            "item": [f"item-{i}" for i in range(n)], "cluster": [f"cluster {i // 3}" for i in range(n)], "score": 0.0,
            "chance": np.where(channel == "choice", 0.25, 0.0), "prompt": [sentence(rng, 25) for _ in range(n)], "output": "",
            "target": [str(i) for i in range(n)], "luck": rng.random(n),
        }
    )  # fmt: skip


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words))


def answered(items: pd.DataFrame, gained: float, lost: float, seed: int) -> pd.DataFrame:
    """Scores and texts of one run: wrong answers are long and all different."""
    rng = np.random.default_rng(seed)
    domain, luck = (items["group"] == "domain").to_numpy(), (items["luck"].to_numpy() + rng.normal(0, 0.1, len(items))) % 1
    right = np.where(domain, luck < gained, (items["luck"] < 0.9) & (luck >= lost))
    wrong = [f"{sentence(rng, 12)} {number}" for number in rng.integers(0, 10**9, len(items))]
    return items.assign(score=right.astype(float), output=np.where(right, items["target"], wrong))[list(ITEM_COLUMNS)]


def build(out: Path, recipes: int, seeds: int, items: int) -> None:
    """The store and its comparison."""
    store, table, entries = RunStore(out / "runs"), questions(items), []
    rows = [("base", "base", 0.0, 0.0), ("zero budget", "control", 0.0, 0.0)]
    rows += [(f"method{i}(strength={i / 10})", "recipe", 0.2 + 0.6 * i / recipes, 0.6 * i / recipes) for i in range(recipes)]
    few = table[table["item"].str[5:].astype(int) % 25 == 0]
    for row, role, gained, lost in rows:
        for seed in range(seeds if role == "recipe" else 1):
            run = store.run(key_of([row, seed]))
            ways = {"final": [(table, 1.0)]}
            if role == "recipe":
                ways |= {"curve": [(few, k / 6) for k in range(1, 7)], "path": [(few, k / 4) for k in range(5)]}
            for kind, points in ways.items():
                at = "alpha" if kind == "path" else "fraction"
                parts = [
                    answered(part, gained * f, lost * f**2, 1000 * seed + len(row)).assign(**{at: f}) for part, f in points
                ]
                run.write_scores(kind, "0" * 16, pd.concat(parts))
            accounts = {"train": {"flops": 1e15, "seconds": 40.0, "tokens": 900_000, "calls": 400}}
            spent = {"meter": "flops", "allowed": 1e15, "spent": 1e15, "flops": 1e15, "seconds": 40.0 + seed, "steps": 400}
            run.write("ledger", spent | {"accounts": accounts, "tokens": {"domain": 900_000}})
            run.write("status", {"status": "done", "reason": None, "traceback": None})
            entry = {"row": row, "recipe": row, "role": role, "track": "general" if len(row) % 2 else "free", "seed": seed}
            entries.append(entry | {"key": run.key, "evals": dict.fromkeys(ways, "0" * 16)})
    write_json(out / "large" / "comparison.json", {"name": "large", "rows": entries, "suites": [], "plan": {}, "protocol": 1})


def opened(page: Path) -> dict:
    """What Chromium says of the page; empty where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return {}
    (page.parent / "probe.html").write_text(PROBE)
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", f"--user-data-dir={profile}"]
        url = (page.parent / "probe.html").as_uri()
        told = subprocess.run([browser, *flags, "--dump-dom", url], capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="out">(.+?)</pre>', told)
    return json.loads(html.unescape(found[1])) if found else {}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("recipes", 30), ("seeds", 5), ("items", 10_000), ("reps", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        if not (out / "large" / "comparison.json").exists():
            build(out, options.recipes, options.seeds, options.items)
        begin, spent = time.perf_counter(), time.process_time()
        write_report(out / "large", RunStore(out / "runs"), options.reps)
        seconds, memory = time.process_time() - spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"lethe report: {time.perf_counter() - begin:.0f} s, {seconds:.0f} s on the processor, {memory:.2f} GB at most")
        page = out / "large" / "report.html"
        print(f"report.html: {page.stat().st_size / 1e6:.2f} MB, opened in Chromium: {opened(page)}")


if __name__ == "__main__":
    main()
