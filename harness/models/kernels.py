"""The same model, sooner computed and equal to rounding: Liger's kernels in place of plain layers, or blocks compiled by torch.

Liger's (Hsu et al. 2024, arXiv:2410.10989) are RMSNorm, rotary embedding and SwiGLU only: methods need the logits and each
token's loss, so the head and the loss stay ours.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import FunctionType, MethodType
from typing import Any

import torch

from harness.contract import blocks_of
from harness.errors import PlanError
from harness.models.flops import Shape, empty_batch
from harness.models.forward import logits_at

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
"""Those on which a test compares Liger's kernels with the plain layers."""
ROTARY = "apply_rotary_pos_emb"


def kernels_of(requested: str | None, device: str, architecture: str) -> str:
    """Return `liger` or `plain`: as asked, else Liger's on a GPU where they are installed and fit.

    Raises PlanError with all reasons where they are asked for and cannot be had.
    """
    # All reasons together, so that a user who asks for the kernels mends them at once.
    faults = []
    if not device.startswith("cuda"):
        faults.append(f"they run on GPUs, not on {device}; drop kernels, or give device=cuda")
    if find_spec("liger_kernel") is None:
        faults.append("the package is not installed; pip install 'lethe[liger]'")
    if architecture not in ARCHITECTURES:
        faults.append(f"they are tried on {', '.join(ARCHITECTURES)}, not on {architecture}; drop kernels")
    if requested == "liger" and faults:
        raise PlanError(*(f"kernels=liger: {fault}" for fault in faults))
    return requested or ("plain" if faults else "liger")


def use_liger(model: Any) -> None:
    """Give this model Liger's kernels, and no other one; parameters and their names stay.

    Liger puts its layers into the architecture's own module, where every later model of the process would meet them (the empty
    one that is priced, the one that is scored). That is undone, and the rotary embedding given to this model's attention alone.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance  # type: ignore  # of the extra `liger`

    # Liger replaces functions of the architecture's module, which other models of this process
    # share: they are put back.
    home = vars(sys.modules[type(model).__module__])
    before = dict(home)
    parts = {"rope": True, "rms_norm": True, "swiglu": model.config.hidden_act in ("silu", "swish")}
    try:
        _apply_liger_kernel_to_instance(model, **parts, cross_entropy=False, fused_linear_cross_entropy=False)
        rotate = home[ROTARY]
    finally:
        home.update(before)

    # The layers of this model get their forwards anew, each bound to globals of its own with
    # Liger's rotary embedding.
    for module in model.modules():
        plain: Any = type(module).forward
        if ROTARY in plain.__code__.co_names:
            seen = plain.__globals__ | {ROTARY: rotate}
            forward = FunctionType(plain.__code__, seen, plain.__name__, plain.__defaults__, plain.__closure__)
            forward.__kwdefaults__ = plain.__kwdefaults__
            module.forward = MethodType(forward, module)


def compile_blocks(model: Any, longest: int, room: int) -> None:
    """Let torch compile each block's forward for any batch and length; only while it trains, so scores stay as they are.

    Names of parameters, and hooks on blocks, stay as well. One row has code of its own, and so may sizes between the compiler's
    thresholds: batches of every power of two are met here, where it costs no budget. `longest`: tokens of the longest example;
    `room`: of a micro-batch.
    """
    torch._dynamo.config.recompile_limit = 64  # sizes, times blocks that differ in what trains; beyond it nothing is compiled
    for block in blocks_of(model):
        block.forward = _while_training(block)

    # Compiled once for the sizes that training meets, before the first charge, so that no step pays
    # for compiling.
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        most = max(2, room // longest)
        for rows in (2, 1, *(2**n for n in range(2, most.bit_length())), most):
            logits_at(model, empty_batch(Shape(rows, longest, 8), device)).sum().backward()
            model.zero_grad()


def _while_training(block: Any) -> Callable[..., Any]:
    plain = block.forward
    compiled = torch.compile(plain, dynamic=True)

    def forward(*inputs: Any, **named: Any) -> Any:
        return (compiled if block.training else plain)(*inputs, **named)

    return forward


def compute_repeatably(threads: int) -> None:
    """Let this process compute with so many threads, and the same bits for the same question."""
    torch.set_num_threads(threads)

    # Where an operation has no such form, it warns. New memory is not filled, which takes time: an operation that reads
    # what nobody has written would have no such form either.
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = False
    keep_freed_memory()


LARGEST, TRIM = 2**30, 2**31 - 1
"""Bytes of the largest tensor whose memory is kept when it is freed, and bytes that may lie free: a step's tensors."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Numbers of glibc's options, malloc.h."""


def keep_freed_memory() -> None:
    """Let this process keep freed memory, so that the tensors of the next step reuse it.

    By default glibc returns large blocks to the system, which clears each page when it is requested again: a tenth of the time
    of a step of a 135 M model. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    mallopt(_MMAP_THRESHOLD, LARGEST)
    mallopt(_TRIM_THRESHOLD, TRIM)
