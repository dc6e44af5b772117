"""Options that this machine decides: device, precision, seeds, runs at once, the meter, the scoring precision.

They are defaults, so they must never stop a plan that gives none of them.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import TypedDict

import psutil
import torch

from harness.errors import PlanError
from harness.plan.gpus import find_gpu
from harness.plan.plan import Plan
from harness.plan.values import Budget, devices_of

SCORED = 16
"""Bytes of GPU memory for each parameter at which models are scored in fp32: two of them, and as much again to work in."""
PROCESS = 1e9
"""Bytes that a run's process on a CPU takes beside the model: libraries, activations, the evaluation (a guess)."""
TRAINED = 24
"""Bytes for each parameter of a run on a CPU: fp32 weights, masters, gradients, two moments, a copy being scored (a guess)."""


def resolve_machine(plan: Plan) -> Plan:
    """Return the plan with device, precision, seeds and, on GPUs, workers filled in.

    Raises PlanError where a device is asked for that is not here.
    """
    device = plan.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PlanError(f"device '{device}' is asked for but torch sees no GPU here; use device cpu")
    gpu = device.startswith("cuda")

    # With Ray, runs compute on other machines, whose GPUs are counted when they are asked for.
    named = devices_of(plan.devices) if plan.devices else []
    if gpu:
        seen = torch.cuda.device_count()
        if not plan.ray and plan.ranks > seen:
            cure = "ask for at most so many, or spread a run over several nodes with --ray (docs/cluster.md)"
            raise PlanError(f"gpus_per_run is {plan.ranks} but torch sees {seen} GPUs here; {cure}")
        if named and max(named) >= seen:
            raise PlanError(f"devices names GPU {max(named)} but torch sees {seen} GPUs here, from 0; name some of these")

    # On GPUs one run at a time per group of GPUs; on CPUs memory decides, which the model must be
    # read for (`workers_of`).
    workers = plan.workers
    if workers is None and gpu and not plan.ray:
        workers = len(named) // plan.ranks if named else 1
    return dataclasses.replace(
        plan,
        device=device,
        precision=plan.precision or ("bfloat16" if gpu or plan.gpu or fast_bf16() else "float32"),
        seeds=plan.seeds or (3 if gpu else 1),
        workers=workers,
    )


def workers_of(plan: Plan, parameters: int) -> int | None:
    """Return the runs at once: on CPUs as many as there are cores and memory for. On a cluster None: all that fit."""
    if plan.workers is not None or plan.ray:
        return plan.workers

    # Whichever runs out first.
    by_cores = cores() // (plan.threads * plan.ranks)
    by_memory = int(free_memory() // (plan.ranks * (PROCESS + TRAINED * parameters)))
    return max(1, min(by_cores, by_memory))


def meter_of(plan: Plan, budget: Budget) -> str:
    """Return what binds: as asked, else what the budget is given in, else seconds on a GPU and FLOPs on a CPU."""
    # A budget's own unit binds; epochs are converted to what the machine measures best.
    if plan.meter:
        return plan.meter
    if budget.unit != "epochs":
        return budget.unit
    return "seconds" if str(plan.device).startswith("cuda") else "flops"


def scoring_of(plan: Plan, parameters: int) -> str:
    """Return the scoring precision: the requested one, else float32 if memory allows it."""
    return plan.scoring or ("float32" if gpu_memory(plan) >= SCORED * parameters else "bfloat16")


def gpu_memory(plan: Plan) -> float:
    """Return the bytes of the GPU that a run has, as named or as seen; infinity where it has none."""
    if plan.gpu:
        whole = find_gpu(plan.gpu).memory
    elif str(plan.device).startswith("cuda"):
        whole = torch.cuda.get_device_properties(plan.device).total_memory
    else:
        return math.inf
    # A run that shares a GPU gets that share of its memory.
    return whole * min(1.0, plan.gpus_per_run)


def fast_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware."""
    # Emulated bf16 is slower than fp32, so it is used only where the processor has it.
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and torch.cpu._is_avx512_bf16_supported()


def cores() -> int:
    """Return the number of cores that this process may use: of the machine, of its affinity, and of its container's share."""
    # Affinity is narrower than the machine under a scheduler.
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))

    # A container may be given less than the machine has.
    quota, _, period = _control("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        counts.append(math.ceil(int(quota) / int(period)))
    return max(1, min(counts))


def free_memory() -> float:
    """Return the bytes of memory that processes may still take: of the machine, and of its container's limit."""
    free = float(psutil.virtual_memory().available)
    limit = _control("memory.max")
    used = _control("memory.current")
    if limit.isdigit() and used.isdigit():
        counters = dict(line.split() for line in _control("memory.stat").splitlines())
        # Cached files count as used, but the system gives their memory back where it is wanted.
        files = int(counters.get("active_file", 0)) + int(counters.get("inactive_file", 0))
        free = min(free, float(int(limit) - int(used) + files))
    return free


def _control(name: str) -> str:
    """Return a setting of the container (cgroup v2), empty where there is none."""
    try:
        return (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return ""


class MachineFacts(TypedDict):
    """What this machine decides of a plan."""

    device: str | None
    precision: str | None
    seeds: int | None
    gpu_memory: float | None
    """Bytes of a GPU; None without one."""
    liger: bool
    """Whether Liger's kernels are installed."""


def facts(plan: Plan) -> MachineFacts:
    """Return everything of this machine that a plan's question depends on."""
    from importlib.util import find_spec

    # Everything here changes the question, so a comparison is only skipped where all of it is as it
    # was.
    resolved = resolve_machine(plan)
    memory = gpu_memory(resolved)
    return {
        "device": resolved.device,
        "precision": resolved.precision,
        "seeds": resolved.seeds,
        "gpu_memory": None if math.isinf(memory) else memory,
        "liger": find_spec("liger_kernel") is not None,
    }
