"""What is wrong with a plan by itself, before anything is loaded: every option's range, and what does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import faults_of
from harness.gpus import find_gpu
from harness.limits import parse_limits
from harness.question import RESERVED
from harness.scoring import read_metrics
from harness.sharding import devices_of, zero_of

if TYPE_CHECKING:
    from harness.plan import Plan

POSITIVE = (
    "batch_size",
    "clip",
    "gpus_per_run",
    "learning_rate",
    "limit",
    "max_length",
    "micro_tokens",
    "pack_length",
    "seeds",
    "threads",
    "workers",
)
CHOICES = {
    "mode": ("sft", "cpt"),
    "backend": ("hf", "vllm"),
    "meter": ("flops", "seconds", "tokens", "steps"),
    "precision": ("bfloat16", "float32"),
    "scoring": ("bfloat16", "float32"),
    "contamination": ("exclude", "keep"),
    "decay": ("cosine", "linear", "constant"),
    "kernels": ("liger", "plain"),
}


def faults_of_plan(plan: Plan) -> list[str]:
    """What is wrong with a plan by itself, before anything is loaded."""
    faults = [
        f"{key} must be above 0, not {value}" for key in POSITIVE if (value := getattr(plan, key)) is not None and value <= 0
    ]
    if not 0 <= plan.warmup < 1:
        faults.append(f"warmup is a share of the budget from 0 to below 1, not {plan.warmup}")
    for key in ("weight_decay", "keep", "tune", "checkpoint_every"):
        if getattr(plan, key) < 0:
            faults.append(f"{key} must be 0 or more, not {getattr(plan, key)}")
    for key, known in CHOICES.items():
        if getattr(plan, key) not in (None, *known):
            faults.append(f"{key} is {', '.join(known[:-1])} or {known[-1]}, not '{getattr(plan, key)}'")
    if plan.name is not None and (not plan.name.strip() or set(plan.name) & set("/\\") or plan.name.startswith(".")):
        faults.append(f"name is that of a folder under {plan.out}, not '{plan.name}'; give a word, and --out for another place")
    if plan.name in RESERVED:
        faults.append(f"name '{plan.name}' is kept for Lethe's own files under {plan.out}; give another")
    if plan.out.startswith("memory:"):
        faults.append(f"out '{plan.out}' lives in one process, and runs have processes of their own; give a folder or s3://")
    try:
        inside = all(0 < fraction <= 1 for fraction in plan.checkpoint_fractions)
    except ValueError:
        inside = False
    if not inside:
        faults.append(f"checkpoints are fractions of the budget above 0 and up to 1, as 0.5,1, not '{plan.checkpoints}'")
    try:
        parse_limits(plan.require or "")
    except ValueError as error:
        faults.append(str(error))
    try:
        read_metrics(plan.domain_metric or "")
    except ValueError as error:
        faults.append(f"domain_metric: {error}")
    faults += device_faults(plan)
    if len(plan.tests) != len(plan.sources):
        faults.append(f"data names {len(plan.sources)} files and test {len(plan.tests)}: give a test file for each, or none")
    if not plan.recipe_texts:
        faults.append("recipes is empty; name at least one, such as sft")
    repeated = sorted({r for r in plan.recipe_texts if plan.recipe_texts.count(r) > 1})
    faults += [f"recipe '{recipe}' is named twice; keep one" for recipe in repeated]
    return faults


def device_faults(plan: Plan) -> list[str]:
    """What is wrong with how runs are computed and spread over devices."""
    checks = {"devices": devices_of, "gpu": find_gpu, "deepspeed": zero_of}
    found = {key: faults_of(check, value) for key, check in checks.items() if (value := getattr(plan, key)) is not None}
    faults = [fault for faults in found.values() for fault in faults]
    if plan.devices is not None and not found["devices"] and (named := len(devices_of(plan.devices))) < plan.ranks:
        faults.append(f"gpus_per_run is {plan.ranks} but devices names {named}: name more, or ask for fewer")
    if plan.devices is not None and plan.ray:
        cure = "leave devices out, and set CUDA_VISIBLE_DEVICES where Ray is started on a node"
        faults.append(f"devices are GPUs of this machine, and with ray each run has those that Ray gives it; {cure}")
    if plan.gpus_per_run > 1 and plan.gpus_per_run != plan.ranks:
        faults.append(f"gpus_per_run is a whole number of GPUs, or a part of one, not {plan.gpus_per_run:g}")
    if 0 < plan.gpus_per_run < 1 and not plan.ray:
        cure = "give ray=auto too (`ray start --head` makes this machine a cluster), or 1"
        faults.append(f"gpus_per_run {plan.gpus_per_run:g} is a part of a GPU, which only Ray deals out; {cure}")
    if plan.compile and plan.deepspeed:
        faults.append("compile and deepspeed are not tried together: its hooks inside the model are not compiled; drop one")
    if plan.compile and (plan.pack_length or plan.mode == "cpt"):
        faults.append(
            "compile is not for packed rows: each has documents of other lengths, and would be compiled anew; drop one"
        )
    return faults
