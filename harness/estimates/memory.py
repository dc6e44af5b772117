"""How much memory a run needs, from the model's shape and the shapes of its micro-batches: no weights, no GPU.

Bytes on each of n GPUs; P parameters of which T train, w bytes a weight in the computing precision:

    weights w P, and the teacher's copy w P where there is one · gradients w T, and 4 T summed in fp32 · masters 4 T · moments
    8 T with AdamW, else what the optimizer keeps · what a method prepared for each weight it pulls on 4 P, and the base's fp32
    values that pulls go by 4 P · numbers that a method says it `holds`, 4 T each · activations of the blocks · the head

ZeRO-2 divides what is summed, masters, moments and what was prepared by n, ZeRO-3 weights and gradients too; offloaded states
are in the CPU's memory. The blocks' activations are what autograd keeps, counted over an empty model.

The head goes forward and backward at pieces of the places (harness/losses/pieces.py), before the blocks go backward. It needs
what one piece holds: what the head returned, and in fp32 the log-probabilities, their gradient and that of the logits; for all
places the features and their gradient; and where its own weight trains, that weight's gradient so far, in fp32, and a piece's.
The model's gradients are not there yet, so the larger of both counts.

Before it is cut into parts each GPU has the whole base, with its gradients where a method measures it: w P, or 2 w P and what
that prepares. Scoring takes what is left (harness/models/placement.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Need, blocks_of, overrides
from harness.losses.pieces import LOGITS_AT_ONCE
from harness.losses.reach import Reach, reach_of_penalty, reach_of_weights
from harness.models.base_model import BaseModel, empty_model
from harness.models.flops import PROBES, Price, Shape, autocast_anywhere, empty_batch, fit, with_mask
from harness.models.forward import features_at, logits_at
from harness.models.meta_shapes import MetaShapes
from harness.models.structure import structure_of
from harness.plan.gpus import RESERVE, Gpu
from harness.recipes.optimizer import DEFAULT, read_optimizer
from harness.recipes.recipe import Recipe
from harness.training.ledger import Ledger
from harness.training.protocol import Training, TrainingData
from harness.training.run import PlannedRun

FEW_PLACES = Shape(1, 16, 2)
MANY_PLACES = Shape(1, 16, 8)
"""Shapes of which the difference is what the head keeps of six places."""
TAUGHT = 20
"""Bytes for each logit of a piece where the base's logits stand beside: those, both log-probabilities and their gradients."""
TRIAL_VOCABULARY = 64
"""Tokens of the vocabulary on which it is tried what methods look at."""


@dataclass(frozen=True)
class Way:
    """How a run is spread over GPUs, and what it keeps."""

    micro_tokens: int
    checkpointing: bool = False
    stage: int = 0
    offload: bool = False
    gpus: int = 1

    @property
    def deepspeed(self) -> str | None:
        """The way's sharding as a plan says it."""
        return f"zero{self.stage}" + ("-offload" if self.offload else "") if self.stage else None


@dataclass(frozen=True)
class Size:
    """What a recipe needs on each of its GPUs, in bytes."""

    weights: float
    states: float
    """Masters, moments, summed gradients, and what methods hold for each weight."""
    gradients: float
    """Gradients in the computing precision; they come after the head is done."""
    blocks: float
    """What the blocks keep of a micro-batch for their backward pass."""
    head: float
    """What the head keeps of a micro-batch and of one piece of it."""
    head_gradients: float
    """The gradients of the head's own weight, while they are summed over pieces."""
    whole: float
    """The base before it is cut into parts, and what methods measure on it."""

    @property
    def bytes(self) -> float:
        # The head's pieces are gone when the blocks' gradients come, so only the larger of the two
        # counts.
        head_or_gradients = max(self.head + self.head_gradients, self.gradients)
        return max(self.whole, self.weights + self.states + self.blocks + head_or_gradients)

    def fits(self, gpu: Gpu) -> bool:
        return self.bytes <= (1 - RESERVE) * gpu.memory


class Sizer:
    """Sizes of one recipe on one model's shape, for sequences of up to `length` tokens on a device of type `device`."""

    def __init__(self, path: str, recipe: Recipe, precision: str, length: int, device: str, optimizer: str = DEFAULT):
        self.recipe = recipe
        self.length = length
        self.width = 2 if precision == "bfloat16" else 4

        # The model as it is, and as the recipe trains it.
        base = empty_model(path)
        self.parameters = sum(p.numel() for p in base.parameters())
        self.blocks = len(blocks_of(base))
        self.products = len({p.shape for p in base.parameters() if p.dim() == 2})
        self.hidden = base.config.get_text_config().hidden_size
        self.vocabulary = base.get_output_embeddings().weight.shape[0]
        self.run = _run_without_data(path, recipe, precision, self.parameters, length)
        model: Any = self.run.empty()
        self.trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        moved_by = read_optimizer(optimizer)
        self.moments = sum(moved_by.numbers(p.shape) for p in model.parameters() if p.requires_grad)
        self.head_trained = sum(p.numel() for p in model.get_output_embeddings().parameters() if p.requires_grad)
        self.kept = kept_bytes(model, self.width)

        # What its methods hold beside the model.
        self.taught = Need.BASE_LOGITS in recipe.needs
        self.copied = self.taught and self.trained == self.parameters
        self.prepared = sum(overrides(method, "prepare") and overrides(method, "pull") for method in recipe.methods)
        self.pulled = self.prepared + any(overrides(method, "pull") for method in recipe.methods)
        self.held = sum(method.holds for method in recipe.methods)
        self.places_at_once = max(1, LOGITS_AT_ONCE[device] // self.vocabulary)

    def longest(self, way: Way) -> Shape:
        """Return the largest micro-batch there can be: of the longest sequences, supervised throughout."""
        # A row longer than the room stands alone.
        rows = max(1, way.micro_tokens // self.length)
        return Shape(rows, self.length, rows * self.length)

    def size(self, way: Way, shapes: Sequence[Shape] = (), squares: bool = False) -> Size:
        """Return what the recipe needs this way for micro-batches of these shapes; the worst case if none are given.

        `squares`: attention is not fused, and keeps its weights.
        """

        # Stage 2 cuts what the optimizer holds, stage 3 the weights too.
        parts = way.gpus if way.stage >= 2 else 1
        pieces = way.gpus if way.stage == 3 else 1
        weights = self.width * self.parameters * (1 / pieces + self.copied)
        states = (4 + 4 + 4 * self.held) * self.trained + 4 * self.moments + 4 * self.pulled * self.parameters
        states = 0 if way.offload else states / parts
        gradients = self.width * self.trained / pieces
        whole = (self.width * (2 if self.prepared else 1) + 4 * self.prepared) * self.parameters

        # The micro-batch that needs most: blocks and head are at their largest together.
        sizes = []
        for shape in shapes or [self.longest(way)]:
            blocks = self.block_bytes(shape, way.checkpointing, squares)
            head = self.head_bytes(shape.places)
            sums = self.head_gradient_bytes(shape.places)
            sizes.append(Size(weights, states, gradients, blocks, head, sums, whole))
        return max(sizes, key=lambda size: size.bytes)

    def block_bytes(self, shape: Shape, checkpointing: bool, squares: bool) -> float:
        """Return the bytes that the blocks keep of a micro-batch for their backward pass."""
        tokens = shape.rows * shape.width
        kept = self.kept.blocks.token * tokens + (self.kept.blocks.square * shape.squares if squares else 0)
        if checkpointing:  # each block's input, and one block that is computed again
            kept = kept / self.blocks + self.blocks * self.hidden * self.width * tokens
        return kept

    def head_bytes(self, places: int) -> float:
        """Return the bytes that the head keeps of one piece and, of all these places, features and what is looked ahead at."""
        at_once = self._at_once(places)
        piece = self.kept.place + (self.width + 4 + 4 + (TAUGHT if self.taught else 0)) * self.vocabulary
        features = 2 * self.hidden * self.width * places
        returned = self.width * self.vocabulary * places if self.looks_ahead and at_once < places else 0
        return piece * at_once + features + returned

    def head_gradient_bytes(self, places: int) -> float:
        """Return the bytes of the head's own gradients: of one piece and, where there are several, their sum in fp32."""
        # One piece needs no sum; several are summed in fp32 and rounded once.
        several = self._at_once(places) < places
        return (4 + self.width if several else self.width) * self.head_trained

    def _at_once(self, places: int) -> int:
        """Return the number of places in a piece of a micro-batch of so many."""
        return places if self.reach is Reach.BATCH else min(places, self.places_at_once)

    @cached_property
    def reach(self) -> Reach:
        """What the recipe's methods look at to decide on one place."""
        # Tried on the CPU with a small vocabulary: what a hook looks at does not depend on either.
        cpu = torch.device("cpu")
        reaches = [Reach.PLACE]
        for method in self.recipe.methods:
            if overrides(method, "token_weights"):
                reaches.append(reach_of_weights(method, TRIAL_VOCABULARY, cpu))
            if overrides(method, "penalty"):
                reaches.append(reach_of_penalty(method, self.run, TRIAL_VOCABULARY, cpu))
        return max(reaches)

    @property
    def looks_ahead(self) -> bool:
        """Whether what the head returned for all places is held (harness/losses/weighted_loss.py)."""
        weighted = any(overrides(method, "token_weights") for method in self.recipe.methods)
        penalised = any(overrides(method, "penalty") for method in self.recipe.methods)
        return self.reach is Reach.LOSSES or (weighted and penalised)


def _run_without_data(path: str, recipe: Recipe, precision: str, parameters: int, length: int) -> PlannedRun:
    """Return a run that only knows what is trained."""
    base = BaseModel(path, None, "", parameters, length)
    training = Training(1e-5, 1, length, 0.0, "constant", 0.0, 1.0, precision)
    return PlannedRun(base, TrainingData((), ()), recipe.methods, training, Ledger("steps", 1.0), 0)


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps of a forward pass: of the blocks by a batch's shape, and of the head for each place."""

    blocks: Price
    place: float


def kept_bytes(model: nn.Module, width: int) -> Kept:
    """Return what autograd keeps of a forward pass of an empty model, the weights left out; `width` bytes a bf16 number.

    Models of one structure keep the same, so each structure is counted once per process.
    """
    key = (structure_of(model, True), width)
    if key not in _counted:
        blocks = fit([saved_bytes(model, shape, width, head=False) for shape in PROBES])
        few, many = (saved_bytes(model, shape, width, head=True) for shape in (FEW_PLACES, MANY_PLACES))
        per_place = (many - few) / (MANY_PLACES.places - FEW_PLACES.places)
        _counted[key] = Kept(blocks, per_place - blocks.place)
    return _counted[key]


_counted: dict[Any, Kept] = {}
"""What autograd keeps, by `structure_of` and width."""


def saved_bytes(model: Any, shape: Shape, width: int, head: bool) -> int:
    """Return the bytes that autograd keeps of one forward pass, each storage once; with `head`, its and the loss's too."""
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
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast_anywhere(), MetaShapes():
            if head:
                logits = logits_at(model, batch, attention_mask=mask)
                nn.functional.cross_entropy(logits, batch.labels, reduction="none").sum()
            else:
                features_at(model, batch, attention_mask=mask)

    with_mask(batch, passed)
    return sum(t.numel() * (width if t.dtype == torch.bfloat16 else t.element_size()) for t in kept.values())
