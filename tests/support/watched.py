"""What happens in a server before it forks, on a machine that says it has GPUs: run as a program, it prints who set up CUDA.

`python -m tests.support.watched FILE`: FILE has the pickled material and evaluations of a comparison. Nothing real is needed:
torch is told that it was built for CUDA and that the driver's library counts two GPUs. What would set CUDA up is noted, and
fails.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness.workers.environment import set_environment
from harness.workers.process import preloaded

found: list[str] = []
SETS_UP = ((torch._C, "_cuda_getDeviceCount"), (torch._C, "_cuda_init"), (torch.cuda, "_lazy_init"))
"""Functions after any of which CUDA cannot be used in a fork."""


def noted(name: str) -> Any:
    def called(*_: Any, **__: Any) -> None:
        calls = [frame for frame in traceback.extract_stack()[:-1] if "importlib" not in frame.filename]
        found.append(f"{name} by " + ", ".join(f"{Path(call.filename).name}:{call.lineno}" for call in calls[-5:]))
        raise RuntimeError("there is no CUDA")

    return called


def pretend() -> None:
    """Be a machine with GPUs, as far as can be told without setting them up."""
    for where, name in SETS_UP:
        setattr(where, name, noted(name))
    torch._C._cuda_getCurrentRawStream = lambda _: 0  # type: ignore[attr-defined]  # imported where torch was built for CUDA
    torch.cuda._device_count_nvml = lambda: 2
    torch.version.cuda = "12.8"


if __name__ == "__main__":
    set_environment()
    pretend()
    names = preloaded()
    assert torch.cuda.device_count() == 2 and not found
    torch.cuda._device_count_nvml = lambda: -1  # as where a GPU is shared out (MIG): then asking for GPUs sets up CUDA too
    for name in names:
        importlib.import_module(name)
    material, evaluation = pickle.loads(Path(sys.argv[1]).read_bytes())
    material = replace(material, plan=replace(material.plan, device="cuda"))
    evaluation.open(material).prepare()
    print("\n".join(found))
