"""What GPUs can hold and do, for predictions. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import PlanError

MFU = 0.4
"""Share of the peak that training is taken to reach: a guess, until a run has measured its own pace."""
RESERVE = 0.1
"""Share of the memory left to the CUDA context, to communication buffers and to fragmentation: a guess."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, by its maker's data sheet."""

    memory: float
    """Bytes."""
    flops: float
    """Dense bf16 FLOPs a second, sums in fp32, without sparsity."""


GPUS = {
    "4090": Gpu(24e9, 165e12),
    "3090": Gpu(24e9, 71e12),
    "a10": Gpu(24e9, 125e12),
    "l4": Gpu(24e9, 121e12),
    "a6000": Gpu(48e9, 155e12),
    "l40s": Gpu(48e9, 362e12),
    "a100-40": Gpu(40e9, 312e12),
    "a100-80": Gpu(80e9, 312e12),
    "h100": Gpu(80e9, 989e12),
    "h200": Gpu(141e9, 989e12),
    "b200": Gpu(180e9, 2250e12),
    "16gb": Gpu(16e9, 60e12),
}
"""Dense bf16 of the makers' data sheets; `16gb` stands for a small card of no certain make."""


def find_gpu(name: str) -> Gpu:
    """Return a GPU of the table. Raises PlanError."""
    if name.lower() not in GPUS:
        raise PlanError(f"gpu is one of {', '.join(GPUS)}, not '{name}'")
    return GPUS[name.lower()]
