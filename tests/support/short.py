"""A method whose backward passes run out of memory: recipes of tests name it by this file."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from harness.contract import Method, blocks_of


class Short(Method):
    """Plain fine-tuning; in one process, from a step on, larger batches fail when half of a backward pass is done."""

    paper = "none"
    off = {}

    def __init__(self, limit: int = 0, begin: int = 1, rank: int = 0):
        """`limit`: tokens that a batch may have; `begin`: the first step in which memory is short."""
        self.limit, self.begin, self.rank, self.step = limit, begin, rank, 0

    def stream(self, steps: Any, run: Any) -> Any:
        if self.rank == (dist.get_rank() if dist.is_initialized() else 0):
            blocks_of(run.model)[0].register_forward_hook(self.watch)
        for self.step, step in enumerate(steps, 1):
            yield step

    def watch(self, block, inputs, output) -> None:
        """After the first block's forward pass: the blocks behind it have their gradients when this one's output has."""
        if self.step >= self.begin and output.requires_grad and output.shape[:2].numel() > self.limit:
            output.register_hook(self.fail)

    def fail(self, gradient) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
