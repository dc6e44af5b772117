"""Memory held by this process on a device, and its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ALLOCATORS = ("out of memory", "can't allocate memory")
"""Said by allocators that raise plain RuntimeErrors: torch's for CPUs, and CUDA's and NCCL's outside torch's own cache."""


class PeakMemory:
    """The most memory that a training held at once: of its GPU, or of the process where it trains on a CPU.

    What a look at the model allocates is left out, and so is what it leaves behind (a loaded copy of the base): later peaks
    are lower by that. Memory that a process freed and keeps for itself counts as left behind, so on a CPU later peaks may come
    out too low; the first part, before any look, is exact, and the largest of all parts is given.
    """

    def __init__(self, device: torch.device) -> None:
        self._most = self._left_behind = 0
        self.device = device
        reset_peak_memory(device)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out of the peak what happens inside the context: it is not training."""
        self._most, before = self.bytes, held_memory(self.device)
        try:
            yield
        finally:
            self._left_behind += held_memory(self.device) - before
            reset_peak_memory(self.device)

    @property
    def bytes(self) -> int:
        """The peak so far."""
        return max(self._most, peak_memory(self.device) - self._left_behind)


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out.

    This is the only place that reads a message for it: some allocators raise a RuntimeError without a class of its own.
    """
    import torch

    # torch's own error covers its caching allocator; others raise plain RuntimeErrors.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(words in message for words in ALLOCATORS)


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring peak memory afresh, where the system allows."""
    # torch is imported only where a GPU is asked about: the process's own memory needs none of it.
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # then the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Return bytes held at most since the last reset: of the GPU, or of this process for a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)

    # Linux alone resets a process's peak; elsewhere it is that of the whole process.
    if (resident := _resident("VmHWM")) is not None:
        return resident
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def held_memory(device: torch.device) -> int:
    """Return bytes held now; 0 where the system does not say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    return _resident("VmRSS") or 0


def give_back_freed() -> None:
    """Give memory that this process freed and keeps for itself back to the system, where its C library can (glibc)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident(what: str) -> int | None:
    """Return bytes of this process by Linux's name for them; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
    except (OSError, StopIteration):
        return None
