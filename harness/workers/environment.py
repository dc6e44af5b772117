"""Environment variables of every process that computes; those that the user has set stay."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads halve the speed of a shared machine
    "TOKENIZERS_PARALLELISM": "false",  # threads do not survive a fork
    # oneDNN compiles kernels for each shape of a product in bfloat16, and keeps those of 1,024. Every step has its own number
    # of tokens, so few are ever used again: they held 0.7 GB of a run's memory and made steps slower and slower (17 % of the
    # time of 161 steps). This many hold one layer's passes, which the next layer repeats.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # nor does what CUDA sets up when it is asked for GPUs the other way
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it products of matrices on a GPU are not the same bits every time
}


def set_environment() -> None:
    """Set the environment of this process and its children; before torch is used."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
"""Where Linux counts the processes that it ended as memory ran out: of the machine, and of the container."""


def memory_kills() -> int | None:
    """Return how many processes Linux has ended as memory ran out; None where nothing says."""
    counts = []
    for path in COUNTERS:
        try:
            match = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if match:
            counts.append(int(match[1]))

    # Either file may be missing: of the machine in a container, of the container outside one.
    return sum(counts) if counts else None


@dataclass(frozen=True)
class MemoryKills:
    """That count when a run began, to tell why its process was killed."""

    before: int | None = field(default_factory=memory_kills)

    @property
    def any(self) -> bool:
        """Whether Linux has ended a process for its memory since."""
        now = memory_kills()
        return self.before is not None and now is not None and now > self.before

    @property
    def why(self) -> str:
        """Why a process was killed (signal 9), in words."""
        if self.any:
            return "Linux ended it, as memory ran out"
        if self.before is None:
            return "by somebody, or by the system as memory ran out"
        return "by somebody, not by Linux for its memory"
