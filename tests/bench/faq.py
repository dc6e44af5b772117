"""The outputs in docs/faq.md: `python -m tests.bench.faq [WORD ...]` runs the commands there and writes what they print.

With words, only commands that hold one of them. All share one store, so a recipe that several commands name runs once.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faq.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)
MOST = 24
"""Lines of an output that are shown at most."""


def shown(text: str) -> str:
    """Return a comparison's table alone, and any other output in full; at most so many lines."""
    lines = text.rstrip().splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("row ")]
    if heads:
        lines = list(takewhile(lambda line: not line.startswith(("!", "report:")), lines[heads[0] :]))
    lines = [line.rstrip() for line in lines]
    return "\n".join(lines if len(lines) <= MOST else [*lines[:MOST], "..."])


def output(command: str, out: str) -> str:
    """Return what a command prints; its results go to the folder `out`."""
    words = shlex.split(command)
    places = ["--out", out] if words[1] == "compare" else []
    done = subprocess.run(
        [sys.executable, "-m", "lethe", *words[1:], *places],
        cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": "100", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stderr}")
    return shown(done.stdout)


def update(words: Sequence[str]) -> None:
    """Run the commands and write each output into the page as soon as it is known."""
    with tempfile.TemporaryDirectory() as folder:
        for command, _ in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            if words and not any(word in command for word in words):
                continue
            text = f"```console\n$ {command}\n{output(command, folder)}\n```"
            page = PAGE.read_text(encoding="utf-8")
            here = next(block[0] for block in BLOCK.finditer(page) if block["command"] == command)
            PAGE.write_text(page.replace(here, text), encoding="utf-8")


if __name__ == "__main__":
    update(sys.argv[1:])
