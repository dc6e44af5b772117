"""The ways in which a run may be spread over GPUs, and the first of them that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import PlanError
from harness.estimates.memory import Sizer, Way
from harness.plan.deepspeed import zero_of
from harness.plan.gpus import RESERVE, Gpu, find_gpu
from harness.plan.plan import Plan
from harness.recipes.recipe import Recipe

MICRO_TOKENS = 8192
"""Padded tokens of a micro-batch, where the plan names neither these nor a GPU."""
MICRO = (16384, 8192, 4096, 2048, 1024, 512)
"""Padded tokens a micro-batch that are tried, from the largest."""
SHARDINGS = ((0, False), (2, False), (3, False), (2, True), (3, True))
"""(ZeRO's stage, with offload) that are tried, the least communication first; 0: every GPU has everything."""


@dataclass(frozen=True)
class Decided:
    """What the user decided of a way; None where it is open."""

    micro_tokens: int | None = None
    checkpointing: bool | None = None
    deepspeed: str | None = None

    def allows(self, way: Way) -> bool:
        """Return whether a way keeps to it."""
        if self.checkpointing is not None and way.checkpointing != self.checkpointing:
            return False
        return self.deepspeed is None or way.deepspeed == self.deepspeed


def planned_way(plan: Plan) -> Way:
    """Return the way of a plan, with the defaults of what it leaves open."""
    zero: dict[str, Any] = zero_of(plan.deepspeed)["zero_optimization"] if plan.deepspeed else {"stage": 0}
    offload = zero.get("offload_optimizer", {}).get("device", "none") != "none"
    micro_tokens = plan.micro_tokens or MICRO_TOKENS
    return Way(micro_tokens, bool(plan.gradient_checkpointing), zero["stage"], offload, plan.ranks)


def fitting_way(plan: Plan, recipes: Sequence[Recipe]) -> Way:
    """Return the way that fits all recipes on the plan's GPU, with what the plan decided already. Raises PlanError."""
    assert plan.gpu is not None
    deepspeed = planned_way(plan).deepspeed if plan.deepspeed else None
    gpu = find_gpu(plan.gpu)
    share = dataclasses.replace(gpu, memory=gpu.memory * min(1.0, plan.gpus_per_run))
    sizers = [sizer_of(plan, recipe) for recipe in recipes]
    return choose(sizers, share, plan.ranks, Decided(plan.micro_tokens, plan.gradient_checkpointing, deepspeed))


def sizer_of(plan: Plan, recipe: Recipe) -> Sizer:
    """Return the sizer of a recipe for the plan's model and its longest sequences, on a GPU."""
    length = plan.pack_length or plan.max_length
    assert length is not None
    return Sizer(str(plan.model), recipe, str(plan.precision), length, "cuda", plan.optimizer)


def choose(sizers: Sequence[Sizer], gpu: Gpu, gpus: int, decided: Decided) -> Way:
    """Return the first way that fits every recipe: least sharding, then no checkpointing, then the largest micro-batch.

    Raises PlanError where nothing fits.
    """
    longest = max(sizer.length for sizer in sizers)
    whole = any(sizer.recipe.needs_whole_weights for sizer in sizers)
    for way in _ways(longest, gpus, whole, decided):
        if all(sizer.size(way).fits(gpu) for sizer in sizers):
            return way
    least = Way(longest, True, 0 if whole else 3, not whole, gpus)
    needs = ", ".join(f"{sizer.recipe.text or 'sft'} {sizer.size(least).bytes / 1e9:.0f} GB" for sizer in sizers)
    raise PlanError(
        f"does not fit in {gpu.memory / 1e9:.0f} GB x {gpus}, less {RESERVE:.0%}: at the least {needs} a GPU;"
        " give more or larger gpus, adapters instead of full fine-tuning, or a smaller max_length"
    )


def _ways(longest: int, gpus: int, whole: bool, decided: Decided) -> Iterator[Way]:
    """Yield the ways to try, in order; `whole`: no process may hold a part of the weights only."""
    # Cheapest first: large micro-batches, no recomputation, no sharding; each step down costs speed and saves memory.
    sizes = [decided.micro_tokens] if decided.micro_tokens else [*(micro for micro in MICRO if micro > longest), longest]
    for stage, offload in SHARDINGS:
        # One GPU has nobody to share weights with; offloading is what is left to it.
        if (stage and whole) or (stage and gpus == 1 and not offload):
            continue
        for checkpointing in (False, True):
            for micro_tokens in sizes:
                way = Way(micro_tokens, checkpointing, stage, offload, gpus)
                if decided.allows(way):
                    yield way
