"""From the requested plan to settings: resolves what depends on this machine, the model and GPU memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from harness.errors import PlanError, raise_faults
from harness.estimates.ways import fitting_way, planned_way
from harness.models.base_model import BaseModel
from harness.models.packed_attention import attention_span, check_packing, reads_rows_of
from harness.plan.check import device_faults
from harness.plan.plan import Plan
from harness.plan.settings import Settings, default_rate
from harness.plan.values import Budget
from harness.recipes.recipe import Recipe
from harness.setup.machine import meter_of, scoring_of, workers_of

CONTEXT = 2048
"""Tokens of a training sequence at most, unless the plan says otherwise."""
PACKED = 2048
"""Tokens of a packed row, unless the plan says otherwise."""


def resolve(plan: Plan, base: BaseModel, recipes: Sequence[Recipe], budget: Budget, kernels: str) -> Settings:
    """Return the settings of a plan whose places and machine are filled in (`resolve_places`, `resolve_machine`).

    `kernels`: as `kernels_of` decided. Raises PlanError where nothing fits the GPU, or packing was asked for and is not exact.
    """
    # Longer than the model's context cannot be; longer than the default costs memory for a few long
    # records.
    plan = dataclasses.replace(plan, max_length=min(base.max_length, plan.max_length or CONTEXT))
    if plan.mode == "cpt":
        plan = dataclasses.replace(plan, pack_length=min(plan.pack_length or PACKED, base.max_length))

    # Micro-batches, checkpointing and sharding: what fits the GPU that was named, else the defaults of a way.
    way = fitting_way(plan, recipes) if plan.gpu else planned_way(plan)
    checkpointing = plan.gradient_checkpointing
    options = {field.name: getattr(plan, field.name) for field in dataclasses.fields(Plan)}
    options |= {
        "meter": meter_of(plan, budget),
        "learning_rate": plan.learning_rate or default_rate(base.parameters),
        "micro_tokens": plan.micro_tokens or way.micro_tokens,
        "gradient_checkpointing": way.checkpointing if checkpointing is None else checkpointing,
        "deepspeed": plan.deepspeed or way.deepspeed,
        "kernels": kernels,
        "scoring": scoring_of(plan, base.parameters),
        "workers": workers_of(plan, base.parameters),
    }
    settings = Settings(**options)

    # What was decided may break a rule that the plan alone did not.
    raise_faults(device_faults(settings))
    return dataclasses.replace(settings, pack_length=_pack_length(settings, base))


def _pack_length(settings: Settings, base: BaseModel) -> int | None:
    """Return the length of packed rows, after a trial of the model that packs.

    Conversations are packed by default on a CPU, where FLOPs are charged, padding included; on a GPU seconds are. A model that
    shows packed texts to each other, or attends over less than the longest example, is packed only if the plan asks for it.
    Raises PlanError if it does.
    """
    requested = settings.pack_length is not None
    by_default = settings.device == "cpu" and not settings.gpu and not settings.compile
    if settings.pack_length == 0 or not (requested or by_default) or not settings.recipe_texts:
        return settings.pack_length

    # A model that cannot be packed stays padded, unless packing was requested.
    model = base.load(torch.float32)
    try:
        check_packing(model)
    except (PlanError, ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        if requested:
            raise
        return None

    # Attention that sees only a window would see other tokens in a packed row.
    if not requested and attention_span(model) < settings.max_length:
        return None

    # Rows are micro-batches: a limit on these that the user gave holds for rows too. A row may be longer than the model's
    # context, since each of its documents sees only itself.
    length = settings.pack_length or min(PACKED, settings.micro_tokens)
    fits = length <= base.max_length or reads_rows_of(model, length)
    return length if fits else base.max_length
