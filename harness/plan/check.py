"""What is wrong with a plan by itself, before anything is loaded: every option's range, and what does not go together."""

from __future__ import annotations

import math
import os
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import faults_of
from harness.plan.deepspeed import zero_of
from harness.plan.gpus import find_gpu
from harness.plan.measured import read_measured
from harness.plan.tuning_rule import parse_tuning_rule
from harness.plan.values import devices_of, parse_limits
from harness.recipes.optimizer import read_optimizer
from harness.store.question import RESERVED
from harness.text.answer_metrics import read_metrics
from harness.text.bounds import Bound, bound_fault

if TYPE_CHECKING:
    from harness.plan.plan import Plan

BOUNDS: dict[str, Bound] = {
    "batch_size": "[1, inf)",
    "checkpoint_every": "[0, inf]",
    "clip": "(0, inf)",
    "gpus_per_run": "(0, inf)",
    "keep": "[0, inf]",
    "learning_rate": "(0, inf)",
    "limit": "[1, inf)",
    "max_length": "[1, inf)",
    "micro_tokens": "[1, inf)",
    "pack_length": "[0, inf)",
    "seeds": "[1, 1000]",
    "threads": "[1, inf)",
    "tune": "[0, 1000]",
    "tune_points": "[1, 100]",
    "warmup": "[0, 1)",
    "weight_decay": "[0, inf)",
    "workers": "[1, inf)",
    "mode": ("sft", "cpt"),
    "backend": ("hf", "vllm"),
    "meter": ("flops", "seconds", "tokens", "steps"),
    "precision": ("bfloat16", "float32"),
    "scoring": ("bfloat16", "float32"),
    "contamination": ("exclude", "keep"),
    "decay": ("cosine", "linear", "constant"),
    "kernels": ("liger", "plain"),
}
"""What each option may be (harness/text/bounds.py); None, where nothing is given, is no matter of theirs."""
DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
LONGEST_NAME = 200
"""Bytes; file systems allow 255, and names of files are made of it."""


def template_faults(plan: Plan) -> list[str]:
    """Return what is wrong with a plain form of the user's own, and with training on prompts."""
    faults = []
    if plan.template is not None and plan.template.count("{question}") != 1:
        faults.append(f"template is {plan.template!r}; write {{question}} in it once, as 'Question: {{question}}\\nAnswer:'")
    # Plain texts have no question to write a form for.
    if plan.mode == "cpt":
        given = [name for name in ("template", "prompt_loss") if getattr(plan, name)]
        faults += [f"{name} is about questions and answers, and mode cpt trains on plain texts; leave it out" for name in given]
    return faults


def faults_of_plan(plan: Plan) -> list[str]:
    """Return what is wrong with a plan by itself, before anything is loaded."""
    faults = [fault for key, bound in BOUNDS.items() if (fault := bound_fault(key, getattr(plan, key), bound))]
    if plan.name is not None:
        faults += name_faults(plan.name)
    faults += template_faults(plan)
    faults += folder_faults("out", plan.out)
    if plan.tensorboard is not None:
        faults += folder_faults("tensorboard", plan.tensorboard)

    # In memory nothing outlives a process, and runs have their own.
    if plan.out.startswith("memory:"):
        faults.append(f"out '{plan.out}' lives in one process, and runs have processes of their own; give a folder or s3://")
    try:
        inside = all(0 < fraction <= 1 for fraction in plan.checkpoint_fractions)
    except ValueError:
        inside = False
    if not inside:
        faults.append(f"checkpoints are fractions of the budget above 0 and up to 1, as 0.5,1, not '{plan.checkpoints}'")

    faults += text_faults(plan)
    faults += device_faults(plan)
    faults += faults_of(read_measured, plan.measured or "")
    if plan.recipe_texts and not plan.sources:
        faults.append("data is empty; name a file to train on, or leave recipes empty too and give MEASURED=")
    if len(plan.tests) != len(plan.sources) and plan.sources:
        faults.append(f"data names {len(plan.sources)} files and test {len(plan.tests)}: give a test file for each, or none")
    if not plan.recipe_texts and not plan.measured:
        faults.append("recipes is empty; name at least one, such as sft")

    # Two rows of one name would be one line of the table.
    repeated = sorted({r for r in plan.recipe_texts if plan.recipe_texts.count(r) > 1})
    faults += [f"recipe '{recipe}' is named twice; keep one" for recipe in repeated]
    return faults


def text_faults(plan: Plan) -> list[str]:
    """Return the faults of options that are parsed later, so that all faults are reported together."""
    faults = []
    for parse, text in ((parse_limits, plan.require or ""), (parse_tuning_rule, plan.tune_rule)):
        try:
            parse(text)
        except ValueError as error:
            faults.append(str(error))
    faults += faults_of(read_optimizer, plan.optimizer)
    try:
        read_metrics(plan.domain_metric or "")
    except ValueError as error:
        faults.append(f"domain_metric: {error}")
    return faults


def name_faults(name: str) -> list[str]:
    """Return what is wrong with a comparison's name, which is its folder's too."""
    if not name.strip() or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        return [f"name {name!r} is to be the name of a folder under `out`: no slash, no dot at its start, nothing that hides"]
    if name in RESERVED:
        return [f"name '{name}' is taken: {name}/ under `out` holds what all comparisons share; give another"]
    if len(name.encode()) > LONGEST_NAME:
        return [f"name of {len(name.encode()):,} bytes is too long for a folder: {LONGEST_NAME} at most; give a shorter one"]
    return []


def folder_faults(option: str, text: str) -> list[str]:
    """Return what is wrong with a folder to write in, as far as its name and what stands there tell."""
    if not text.strip():
        return [f"{option} is empty; give a folder, or s3://bucket/folder"]
    # Only the object store itself can say whether a place is there.
    if "://" in text:
        return []
    for folder in (Path(text), *Path(text).parents):
        if os.path.lexists(folder):  # False, and no exception, for what no file can be named
            return [] if folder.is_dir() else [f"{option} '{text}': {folder} is no folder; give another"]
    return []


def device_faults(plan: Plan) -> list[str]:
    """Return what is wrong with how runs are computed and spread over devices."""
    # The bounds have said so; what follows computes with it.
    if not math.isfinite(plan.gpus_per_run):
        return []
    checks = {"devices": devices_of, "gpu": find_gpu, "deepspeed": zero_of}
    # What has a fault by itself is not held against other options.
    by_option = {key: faults_of(check, value) for key, check in checks.items() if (value := getattr(plan, key)) is not None}
    faults = list(chain.from_iterable(by_option.values()))
    if plan.device is not None and not DEVICE.fullmatch(plan.device):
        faults.append(f"device is cpu or cuda, not '{plan.device}'")
    if plan.devices is not None and not by_option["devices"] and (named := len(devices_of(plan.devices))) < plan.ranks:
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
