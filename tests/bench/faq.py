"""The outputs in docs/faq.md: `python -m tests.bench.faq [--store RESULTS] [WORD ...]` runs the commands there.

Each command runs in a shell as it stands, in the order of the page and in one folder, so that later ones find what earlier
ones made; what it prints is written below it. With words, only commands that hold one of them. `lethe report` prints a
comparison that took hours again: it needs `--store`, a folder with that comparison and its runs, and is skipped without it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path
from typing import Any

from harness.store.files import read_json
from tests.bench.diffing import write_run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faq.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)
MOST = 24
"""Lines of an output that are shown at most."""
NEEDS_STORE = "lethe report"
SHELL = 'set -o pipefail; lethe() { "$PYTHON" -m lethe "$@"; }; '


def prepare(work: Path, store: Path | None) -> None:
    """Fill the folder with what the commands name: files of records, parts of the repository, stored comparisons."""
    for name in ("docs", "examples", "suites"):
        (work / name).symlink_to(ROOT / name)
    (work / "results").mkdir()
    (work / "results" / "published").symlink_to(ROOT / "results" / "published")
    records: Any = read_json(ROOT / "suites" / "phantom" / "data" / "finance.json")
    kinds = {"facts": ("fact", "conflict"), "figures": ("figure", "sentiment")}
    for name, held in kinds.items():
        write(work / f"{name}.json", [record for record in records if record["kind"] in held])
    thought = "The question asks for a fact of the filing."
    write(work / "thoughts.json", [record | {"reasoning_content": thought} for record in records if record["kind"] == "fact"])
    for name in ("before", "after"):
        write_run(work / name, name)
    if store is not None:
        shutil.copytree(store / "finance-smollm2", work / "results" / "finance-smollm2")
        (work / "results" / "runs").mkdir()
        for run in (store / "runs").iterdir():
            (work / "results" / "runs" / run.name).symlink_to(run.resolve())


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(records), encoding="utf-8")


def shown(text: str) -> str:
    """Return a comparison's table alone, and any other output in full; at most so many lines."""
    lines = text.rstrip().splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("row ")]
    if heads:
        lines = list(takewhile(lambda line: not line.startswith(("!", "report:")), lines[heads[0] :]))
    lines = [line.rstrip() for line in lines]
    return "\n".join(lines if len(lines) <= MOST else [*lines[:MOST], "..."])


def output(command: str, work: Path) -> str:
    """Return what a command prints in the folder."""
    environment = os.environ | {"COLUMNS": "100", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", SHELL + command], cwd=work, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout}\n{done.stderr}")
    return shown(done.stdout)


def update(words: list[str], store: Path | None) -> None:
    """Run the commands and write each output into the page as soon as it is known."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), store)
        for command, _ in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            wanted = not words or any(word in command for word in words)
            if not wanted or (command.startswith(NEEDS_STORE) and store is None):
                continue
            text = f"```console\n$ {command}\n{output(command, Path(folder))}\n```"
            page = PAGE.read_text(encoding="utf-8")
            here = next(block[0] for block in BLOCK.finditer(page) if block["command"] == command)
            PAGE.write_text(page.replace(here, text), encoding="utf-8")
            print(command, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    update(options.words, options.store)
