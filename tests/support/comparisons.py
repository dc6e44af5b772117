"""Whole comparisons in tests: what is asked, how it is run, and what is stored then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bundled import ROOT
from harness.commands.compare import carry_out
from harness.plan.load import make_plan
from harness.store.runs import RunStore


def options(files: Mapping[str, str], model: str, out: Path, **more: Any) -> dict[str, Any]:
    """Of a small comparison over `files` (tests/conftest.py)."""
    places = {"data": files["domain"], "model": model, "general": files["general"], "suites": files["echo"], "out": str(out)}
    small = {"budget": "1epochs", "learning_rate": 3e-3, "recipes": "sft mix", "max_length": 64, "batch_size": 8}
    return places | small | more


def carried_out(asked: dict[str, Any]) -> Path:
    """The folder of a comparison that ended well; no report is written."""
    folder, failed = carry_out(make_plan(asked), quiet=True)
    assert not failed, failed
    return folder


def flags(asked: Mapping[str, Any]) -> list[str]:
    """Options as they stand at the command line."""
    words = []
    for key, value in asked.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return words


def lethe(asked: Mapping[str, Any], **more: Any) -> subprocess.Popen:
    """`lethe compare` in a process group of its own; `more`: how the process is started."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.commands.cli", "compare", *flags(asked)], cwd=ROOT, start_new_session=True, **more
    )


def hashes(out: Path) -> dict[str, str]:
    """The weights that each run of a store ended with."""
    store = RunStore(out / "runs")
    records = {key: store.run(key).read("run") for key in sorted(store.keys())}
    return {key: record["happened"]["weights_hash"] for key, record in records.items() if record is not None}


def mtimes(out: Path, pattern: str) -> dict[str, int]:
    """When the files of a pattern were written."""
    return {str(path): path.stat().st_mtime_ns for path in out.glob(pattern)}
