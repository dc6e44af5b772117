"""In a process of its own: a default command on one machine after another, as far as its runs; prints a line of JSON each.

What a machine decides is pretended; what would take minutes (suites, runs, report) is left out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psutil
import torch

from harness.commands import cli, compare, unchanged
from harness.report import write
from harness.report.verdict import terminal
from harness.setup.evaluations import EvaluationPlan
from harness.workers import dispatch

MACHINES: dict[str, dict[str, Any]] = {
    "as published": {"bf16": True},
    "no fast bf16": {"bf16": False},
    "a GPU": {"gpu": 80e9},
    "a small GPU": {"gpu": 40e6},
    "one core": {"bf16": True, "cores": 1},
    "64 cores, little memory": {"bf16": True, "cores": 64, "memory": 1e9},
}


@contextlib.contextmanager
def machine(bf16: bool = True, gpu: float = 0, cores: int = 2, memory: float = 16e9) -> Any:
    """Pretend the machine: fast bf16, bytes of a GPU's memory, cores, bytes of memory."""
    properties = SimpleNamespace(total_memory=gpu, name="pretended", major=9, minor=0, multi_processor_count=100)
    patches = [
        mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16),
        mock.patch.object(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16),
        mock.patch.object(torch.cuda, "is_available", lambda: gpu > 0),
        mock.patch.object(torch.cuda, "device_count", lambda: int(gpu > 0)),
        mock.patch.object(torch.cuda, "get_device_properties", lambda *_: properties),
        mock.patch.object(torch.cuda, "get_device_capability", lambda *_: (9, 0)),
        mock.patch.object(torch.cuda, "get_device_name", lambda *_: "pretended"),
        mock.patch.object(os, "cpu_count", lambda: cores),
        mock.patch.object(os, "sched_getaffinity", lambda _: set(range(cores))),
        mock.patch.object(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory, total=2 * memory)),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def planned(arguments: list[str]) -> dict[str, Any]:
    """Run the command as far as its runs: exit code, what was said, and the plan of its record."""
    told = io.StringIO()
    folders: list[Any] = []
    kinds = ("final", "quality", "curve", "path")

    def written(folder: Any, *_: Any) -> Any:
        folders.append(folder)
        return SimpleNamespace(summary=None, table=None, folder=folder, files=[folder / "report.html"])

    patches = [
        mock.patch.object(compare, "load_tasks", lambda _: []),
        mock.patch.object(EvaluationPlan, "make", lambda *_: EvaluationPlan(dict.fromkeys(kinds, "0"), [], (), False)),
        mock.patch.object(compare, "pace", lambda _: 1e-12),
        mock.patch.object(compare, "_failures", lambda *_: []),
        mock.patch.object(compare, "where", dict),
        mock.patch.object(compare, "start_forkserver", lambda: None),
        mock.patch.object(dispatch, "run_all", lambda *_: None),
        mock.patch.object(write, "write_report", written),
        mock.patch.object(terminal, "show", lambda _: None),
        mock.patch.object(terminal, "shown", lambda _: ""),
        mock.patch.object(unchanged, "remember", lambda *_: None),
        contextlib.redirect_stderr(told),
        contextlib.redirect_stdout(told),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        code = cli.main(arguments)
    record = json.loads((folders[0] / "comparison.json").read_text()) if folders else {}
    return {"code": code, "said": told.getvalue(), "plan": record.get("plan"), "question": record.get("question")}


if __name__ == "__main__":
    for name, pretended in MACHINES.items():
        with machine(**pretended):
            print(json.dumps({"machine": name} | planned(sys.argv[1:])), flush=True)
