"""How much memory a run needs, from the model's shape alone: no weights, no data, no GPU.

Bytes on each of n GPUs; P parameters of which T train, w bytes a weight in the computing precision:

    weights w P, and the teacher's copy w P where there is one · gradients w T, and 4 T summed in fp32 · masters 4 T · moments
    8 T · what a method prepared for each weight it pulls on 4 P, and the base's fp32 values that pulls go by 4 P · activations

ZeRO-2 divides what is summed, masters, moments and what was prepared by n, ZeRO-3 weights and gradients too; offloaded states
are in the CPU's memory. Activations are what autograd keeps, counted over an empty model, and the gradient of the logits.
Before it is cut into parts each GPU has the whole base, with its gradients where a method measures it: w P, or 2 w P and what
that prepares. Scoring takes what is left (harness/models/placement.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Need, blocks_of, overrides
from harness.errors import PlanError
from harness.models.base_model import BaseModel, empty_model
from harness.models.flops import PROBES, Price, Shape, autocast_anywhere, empty_batch, fit, with_mask
from harness.models.forward import logits_at
from harness.plan.deepspeed import zero_of
from harness.plan.gpus import RESERVE, Gpu, find_gpu
from harness.plan.plan import Plan
from harness.recipes.recipe import Recipe
from harness.training.ledger import Ledger
from harness.training.protocol import Training, TrainingData
from harness.training.run import TrainingRun

MICRO_TOKENS = 8192
"""Padded tokens of a micro-batch, where the plan names neither these nor a GPU."""
MICRO = (16384, 8192, 4096, 2048, 1024, 512)
"""Padded tokens a micro-batch that are tried, from the largest."""
WAYS = ((0, False), (2, False), (3, False), (2, True), (3, True))
"""(ZeRO's stage, with offload) that are tried, the least communication first; 0: every GPU has everything."""


@dataclass(frozen=True)
class Way:
    """How a run is spread over GPUs, and what it keeps."""

    micro_tokens: int
    checkpointing: bool = False
    stage: int = 0
    offload: bool = False
    gpus: int = 1

    @classmethod
    def of(cls, plan: Plan) -> Way:
        """Return the way of a plan, with the defaults of what it leaves open."""
        zero: dict[str, Any] = zero_of(plan.deepspeed)["zero_optimization"] if plan.deepspeed else {"stage": 0}
        offload = zero.get("offload_optimizer", {}).get("device", "none") != "none"
        micro_tokens = plan.micro_tokens or MICRO_TOKENS
        return cls(micro_tokens, bool(plan.gradient_checkpointing), zero["stage"], offload, plan.ranks)

    @property
    def deepspeed(self) -> str | None:
        """As the plan says it."""
        return f"zero{self.stage}" + ("-offload" if self.offload else "") if self.stage else None


@dataclass(frozen=True)
class Size:
    """What a recipe needs on each of its GPUs, in bytes."""

    weights: float
    states: float
    """Gradients, masters, moments, and what was prepared for each weight."""
    activations: float
    whole: float
    """The base before it is cut into parts, and what methods measure on it."""

    @property
    def bytes(self) -> float:
        return max(self.whole, self.weights + self.states + self.activations)

    def fits(self, gpu: Gpu) -> bool:
        return self.bytes <= (1 - RESERVE) * gpu.memory


class Sizer:
    """Sizes of one recipe on one model's shape, for sequences of `length` tokens."""

    def __init__(self, path: str, recipe: Recipe, precision: str, length: int, packed: bool = False):
        self.path, self.recipe, self.precision, self.length, self.packed = path, recipe, precision, length, packed
        self.width = 2 if precision == "bfloat16" else 4
        base = empty_model(path)
        self.parameters = sum(p.numel() for p in base.parameters())
        self.blocks, self.hidden = len(blocks_of(base)), base.config.get_text_config().hidden_size
        self.vocabulary = base.get_output_embeddings().weight.shape[0]
        run = self._run()
        self.trained = run.trained_parameters
        self.taught = Need.BASE_LOGITS in recipe.needs
        self.copied = self.taught and self.trained == self.parameters
        self.prepared = sum(overrides(method, "prepare") and overrides(method, "pull") for method in recipe.methods)
        self.pulled = self.prepared + any(overrides(method, "pull") for method in recipe.methods)
        self.kept = kept_bytes(run.empty(), self.width)

    def _run(self) -> TrainingRun:
        """A run without data, which knows what is trained."""
        base = BaseModel(self.path, None, "", self.parameters, self.length)
        training = Training(1e-5, 1, self.length, 0.0, "constant", 0.0, 1.0, self.precision)
        return TrainingRun(base, TrainingData((), ()), self.recipe.methods, training, Ledger("steps", 1.0), 0)

    def size(self, way: Way, squares: bool = False) -> Size:
        """What the recipe needs this way; `squares`: where attention is not fused, and keeps its weights."""
        parts = way.gpus if way.stage >= 2 else 1
        pieces = way.gpus if way.stage == 3 else 1
        weights = self.width * self.parameters * (1 / pieces + self.copied)
        states = (4 + 4 + 8) * self.trained + 4 * self.pulled * self.parameters
        states = (0 if way.offload else states / parts) + self.width * self.trained / pieces
        whole = (self.width * (2 if self.prepared else 1) + 4 * self.prepared) * self.parameters
        return Size(weights, states, self.activations(way, squares), whole)

    def activations(self, way: Way, squares: bool) -> float:
        """Bytes that a micro-batch of the longest sequences, supervised throughout, keeps for its backward pass."""
        rows = max(1, way.micro_tokens // self.length)
        tokens = rows * self.length
        blocks = self.kept.token * tokens + (self.kept.square * tokens * self.length if squares else 0)
        if way.checkpointing:  # each block's input, and one block that is computed again
            blocks = blocks / self.blocks + self.blocks * self.hidden * self.width * tokens
        head = self.kept.place + (4 + self.width + (12 if self.taught else 0)) * self.vocabulary
        return blocks + head * tokens


def kept_bytes(model: nn.Module, width: int) -> Price:
    """What autograd keeps of a forward pass, by a batch's shape, the weights left out."""
    return fit([saved_bytes(model, shape, width) for shape in PROBES])


def saved_bytes(model: Any, shape: Shape, width: int) -> int:
    """Bytes that autograd keeps of one forward pass with its loss, each storage once; `width` bytes a bf16 number."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights and (storage not in kept or kept[storage].numel() < tensor.numel()):
            kept[storage] = tensor  # held, so that no other storage gets its number
        return tensor

    batch = empty_batch(shape, next(model.parameters()).device)

    def passed(mask: Tensor) -> None:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast_anywhere():
            logits = logits_at(model, batch, attention_mask=mask)
            nn.functional.cross_entropy(logits, batch.labels, reduction="none").sum()

    with_mask(batch, passed)
    return sum(t.numel() * (width if t.dtype == torch.bfloat16 else t.element_size()) for t in kept.values())


def choose(sizers: Sequence[Sizer], gpu: Gpu, gpus: int, fixed: dict[str, Any]) -> Way:
    """The first way that fits every recipe: least sharding, then no checkpointing, then the largest micro-batch.

    `fixed`: what the user decided of `micro_tokens`, `checkpointing`, `deepspeed`. Raises PlanError where nothing fits.
    """
    longest = max(sizer.length for sizer in sizers)
    whole = any(method.unsharded for sizer in sizers for method in sizer.recipe.methods)
    way = None
    for stage, offload in WAYS:
        if (stage and whole) or (stage and gpus == 1 and not offload):
            continue
        for checkpointing in (False, True):
            for micro in (fixed.get("micro_tokens"),) if "micro_tokens" in fixed else _micro(longest):
                way = Way(int(micro or longest), checkpointing, stage, offload, gpus)
                asked = {"checkpointing": checkpointing, "deepspeed": way.deepspeed}
                if any(fixed[key] != value for key, value in asked.items() if key in fixed):
                    continue
                if all(sizer.size(way).fits(gpu) for sizer in sizers):
                    return way
    least = Way(longest, True, 0 if whole else 3, not whole, gpus)
    needs = ", ".join(f"{sizer.recipe.text or 'sft'} {sizer.size(least).bytes / 1e9:.0f} GB" for sizer in sizers)
    raise PlanError(
        f"does not fit in {gpu.memory / 1e9:.0f} GB x {gpus}, less {RESERVE:.0%}: at the least {needs} a GPU;"
        " give more or larger gpus, adapters instead of full fine-tuning, or a smaller max_length"
    )


def _micro(longest: int) -> list[int]:
    return [*(micro for micro in MICRO if micro > longest), longest]


def way_of(plan: Plan, recipes: Sequence[Recipe]) -> Way:
    """The way that fits all recipes on the plan's GPU, with what the plan decided already. Raises PlanError."""
    assert plan.gpu is not None
    fixed: dict[str, Any] = {"micro_tokens": plan.micro_tokens, "checkpointing": plan.gradient_checkpointing}
    fixed["deepspeed"] = Way.of(plan).deepspeed if plan.deepspeed else None
    fixed = {key: value for key, value in fixed.items() if value is not None}
    gpu = find_gpu(plan.gpu)
    share = dataclasses.replace(gpu, memory=gpu.memory * min(1.0, plan.gpus_per_run))
    return choose([sizer_of(plan, recipe) for recipe in recipes], share, plan.ranks, fixed)


def sizer_of(plan: Plan, recipe: Recipe) -> Sizer:
    """For the plan's model and its longest sequences."""
    length = plan.pack_length or plan.max_length
    assert length is not None
    return Sizer(str(plan.model), recipe, str(plan.precision), length, bool(plan.pack_length))
