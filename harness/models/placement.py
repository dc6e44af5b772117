"""Where a model stands while it is scored, and how much is scored at once.

On a CPU a model is scored where it is. A GPU is shared with the training under way, so its free memory decides: the blocks that
have room stand there, the others stay in the host's memory and come to the GPU while they compute. Scores are the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn

from harness.contract import blocks_of
from harness.models.base_model import copied
from harness.models.forward import device_of, vocabulary

WORK = 0.25
"""Share of a GPU's memory that is left to what scoring computes: caches, activations, logits (a guess)."""
LOGITS = 512 * 2**20
"""Bytes of fp32 logits in one pass, at most."""
TOKENS = {"cpu": 1024}
"""Padded tokens in one forward pass, by device: measured best for small models on a CPU core."""
MOST, LEAST = 65536, 256
"""The same on a GPU, as its memory allows."""

T = TypeVar("T")


def release() -> None:
    """Give a GPU back what no tensor holds any more."""
    if torch.cuda.is_initialized():
        # Asking a GPU would set CUDA up, which a process that is going to fork must not.
        gc.collect()
        torch.cuda.empty_cache()


def memory_of(device: torch.device) -> tuple[float, float]:
    """Return (free, total) bytes of a device that is not the host."""
    return torch.cuda.mem_get_info(device)


def size_of(module: nn.Module) -> int:
    """Return bytes of its parameters."""
    return sum(parameter.nbytes for parameter in module.parameters())


def room_on(device: torch.device) -> float:
    """Return bytes that a device other than the host has for models, beside what is there now."""
    release()
    # What is cached but held by no tensor is free.
    free, total = memory_of(device)
    return free - WORK * total


def has_room(model: nn.Module, device: torch.device | str) -> bool:
    """Return whether the whole model can stand on the device."""
    device = torch.device(device)
    return device.type == "cpu" or size_of(model) <= room_on(device)


def placed(model: Any, device: torch.device | str) -> Any:
    """Return the model where it is scored: itself on a CPU, else a copy on the device as far as there is room."""
    device = torch.device(device)
    return model if device.type == "cpu" else spread(model, device, room_on(device))


def spread(model: Any, device: torch.device, room: float) -> Any:
    """Return a copy with at most `room` bytes of blocks (and everything else) on the device.

    The rest shares this one's memory.
    """
    blocks = blocks_of(model)

    # Embeddings and head always go: they are used at both ends of every pass.
    room -= size_of(model) - size_of(blocks)
    staying: list[int] = []
    for number, block in enumerate(blocks):
        if size_of(block) > room:
            staying.append(number)
        else:
            room -= size_of(block)

    # Blocks that stay are not copied: they come as visitors.
    shared = list(chain.from_iterable(blocks[number].parameters() for number in staying))
    copy = copied(model, device, shared)
    for number in staying:
        _Visitor(blocks_of(copy)[number], device)
    return copy


class _Visitor:
    """A block whose weights are in the host's memory, and on the device only while it computes."""

    def __init__(self, block: nn.Module, device: torch.device):
        self.device = device
        self.home = []
        for part in block.modules():
            self.home += [(part, name, parameter) for name, parameter in part._parameters.items() if parameter is not None]
        block.register_forward_pre_hook(self.come)
        block.register_forward_hook(self.go, always_call=True)  # also where memory runs out

    def come(self, *_: Any) -> None:
        # Copied at each pass: a block that stayed would take the room that it was left out for.
        for part, name, parameter in self.home:
            part._parameters[name] = nn.Parameter(parameter.detach().to(self.device, copy=True), requires_grad=False)

    def go(self, *_: Any) -> None:
        for part, name, parameter in self.home:
            part._parameters[name] = parameter


def token_budget_of(model: Any) -> int:
    """Return how many padded tokens go in one forward pass: what suits a CPU, or a power of two that a GPU has the memory for.

    A token's keys and values in all blocks, and one block's activations, may take half of `WORK`.
    """
    device = device_of(model)
    if device.type in TOKENS:
        return TOKENS[device.type]

    # Numbers that a token needs: keys and values in all blocks, activations of one.
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    numbers = 2 * len(blocks_of(model)) * heads * head + 8 * config.hidden_size + 3 * inner
    width = model.get_output_embeddings().weight.element_size()
    tokens = WORK / 2 * memory_of(device)[1] / (numbers * width)
    return min(MOST, max(LEAST, 2 ** (int(tokens).bit_length() - 1)))


def places_of(model: Any) -> int:
    """Return how many places the head may have in one pass, so that their logits are no more than `LOGITS`."""
    return max(1, LOGITS // (4 * vocabulary(model)))


def while_memory_runs_out(work: Callable[[int], T], budget: int) -> T:
    """Return `work(budget)`, a number of tokens halved while memory runs out. Raises OutOfMemoryError below `LEAST`."""
    while True:
        try:
            return work(budget)
        # Smaller batches give the same scores; only below `LEAST` does it not fit at all.
        except torch.OutOfMemoryError:
            if budget <= LEAST:
                raise
        budget //= 2
        release()
