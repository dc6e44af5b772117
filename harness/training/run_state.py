"""The state of one run: its stage, its steps and micro-batches, and what they cost."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from harness.contract import Batch, Bill, Example, Method, Need, Run, Step, Weights, overrides
from harness.losses.pieces import LOGITS_AT_ONCE
from harness.models.adapters import Wrapped, wrap
from harness.models.base_model import BaseModel, empty_model, own_weights
from harness.models.batches import collate, micro_batches, pack, packs
from harness.models.flops import Price, Shape, executed, full_price, price_of
from harness.models.kernels import use_liger
from harness.models.packed_attention import use_packing
from harness.models.short_documents import SHORT
from harness.recipes.hooks import ask, ask_stream
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.protocol import OpenDev, Training, TrainingData, no_dev_items, stage_ends, token_classes

OVERHEAD = {"cpu": 64, "cuda": 2048}
"""Tokens of padding that cost as much as one more micro-batch (measured on a CPU; a guess for a GPU)."""


@dataclass
class Position:
    """The state of a run that changes while it trains, besides weights and the ledger."""

    stage: int
    """Which of the plan's domain files is being trained on, from 1."""
    room: int
    """Most tokens per micro-batch (or packed row); halved where memory runs out."""
    paid: int = 0
    """Dev evaluations that were charged ahead and not asked for yet."""
    finishing: bool = False
    """Whether training is over, and methods finish the weights."""


class RunState(Run):
    """What the loop asks of a run before and while a model trains.

    `harness.training.run.PlannedRun` adds what methods ask of it, and `TrainingRun` the model in training.
    """

    def __init__(  # noqa: PLR0913
        self,
        base: BaseModel,
        data: TrainingData,
        methods: Sequence[Method],
        training: Training,
        ledger: Ledger,
        seed: int,
        device: str = "cpu",
        engine: Alone | None = None,
        open_dev: OpenDev = no_dev_items,
    ):
        self.base = base
        self.data = data
        self.methods = tuple(methods)
        self.training = training
        self.ledger = ledger
        self.seed = seed
        self.device = torch.device(device)
        self.engine = engine or Alone()
        self.open_dev = open_dev
        self.batch_size = training.batch_size
        self.dtype: torch.dtype = getattr(torch, training.precision)
        self.logits_at_once = LOGITS_AT_ONCE[self.device.type]
        """Numbers in the logits of one piece of a micro-batch's places, at most."""
        self.resting: frozenset[str] = frozenset()
        """Weights that RESTS hooks let rest now, by their names in the model; before training none."""
        self.ends = stage_ends(data.domain)
        self.position = Position(1, training.pack_length or training.micro_tokens)
        self.enter(1)
        self.prices: dict[tuple[bool, frozenset[str]], Price] = {}
        """Prices of the model as the recipe trains it, by (backward pass too, what rests)."""

    @cached_property
    def start(self) -> Weights:
        return own_weights(self.base.original(torch.float32))

    def filled(self, hook: str) -> list[Method]:
        """Return the methods that fill a hook, in canonical order."""
        return [method for method in self.methods if overrides(method, hook)]

    # --- stages and random streams ---

    @property
    def stage(self) -> int:
        return self.position.stage

    def enter(self, stage: int) -> None:
        """Begin a stage: its data, its part of the budget, its own random streams."""
        self.position.stage = stage
        self.ledger.end = self.ends[stage - 1]

    def derive_seed(self, name: str) -> int:
        """Return the seed of a named random stream; each stage has its own."""
        # The first stage has no number in its names, so that runs from before there were stages are found.
        if self.stage > 1:
            name = f"stage {self.stage}/{name}"
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:6], "big")

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.derive_seed(name))

    def rate(self, fraction: float) -> float:
        """Return the learning rate at a spent fraction of the budget.

        Linear warm-up, then the decay, which ends with the stage's part of the budget; times the RATE hooks' factors.
        """
        # Each stage warms up and decays anew, on its own part of the budget.
        begin = (0.0, *self.ends)[self.stage - 1]
        end = self.ends[self.stage - 1]
        fraction = (fraction - begin) / (end - begin)
        fraction = min(max(fraction, 0.0), 1.0)
        factors = [ask(method, "rate", fraction) for method in self.filled("rate")]
        return self.training.rate(fraction) * math.prod(factors)

    # --- models ---

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest example."""
        return max((len(example) for example in (*self.data.domain, *self.data.general)), default=0)

    def load(self) -> nn.Module:
        """Return a fresh copy of the base in the computing precision."""
        model = self.base.load(self.dtype, self.device)
        if self.training.kernels == "liger":
            use_liger(model)

        # Packed rows need attention within documents. Short padded ones are faster without the fused kernel on a CPU.
        if self.training.pack_length:
            use_packing(model)
        elif self.device.type == "cpu" and self.longest <= SHORT:
            model.set_attn_implementation("eager")
        return self._checkpointed(model)

    def _checkpointed(self, model: Any) -> Any:
        """Return the model, set to recompute activations in the backward pass if the plan says so; only while it trains."""
        if self.training.checkpointing:
            # Renamed in transformers 5.21; vLLM requires an earlier one.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        return model

    def wrap(self, model: nn.Module) -> Wrapped:
        """Wrap a fresh base as the recipe trains it."""
        return wrap(model, self.filled("trainable"), self, self.start)

    # --- steps and micro-batches ---

    def steps(self) -> Iterator[Step]:
        """Yield the examples of each optimizer step of the stage, endlessly: epochs, shuffled or ordered, then DATA hooks."""
        examples = list(self.domain)
        for method in self.filled("records"):
            examples = ask(method, "records", examples, self)
        steps = self._epochs(examples)
        for method in self.filled("stream"):
            steps = ask_stream(method, steps, self)
        for method in self.filled("split"):
            steps = chain.from_iterable(map(partial(_split, method, self), steps))
        return steps

    def _epochs(self, examples: list[Example]) -> Iterator[Step]:
        generator = self.generator("order")
        # One method at most orders; `Method` itself leaves the order to the generator.
        ordering = next(iter(self.filled("order")), Method())
        while examples:
            ordered = ask(ordering, "order", examples, self, generator)
            for first in range(0, len(ordered), self.batch_size):
                yield ordered[first : first + self.batch_size]

    def groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Return the examples of each micro-batch."""
        if self.training.pack_length:
            return packs(examples, self.position.room)
        return micro_batches(examples, self.position.room, OVERHEAD[self.device.type])

    def collate(self, group: Sequence[Example]) -> Batch:
        """Return these examples as one micro-batch."""
        if self.training.pack_length:
            return pack(group, self.device)
        return collate(group, self.device)

    def shape(self, group: Sequence[Example]) -> Shape:
        """Return the shape of the micro-batch that these examples make."""
        if self.training.pack_length:
            return Shape.packed(group, self.device.type)
        return Shape.padded(group)

    def halve(self, step: Step) -> bool:
        """Make micro-batches at most half as large; return False if all of this step's hold one example already."""
        # One micro-batch of several examples is enough: then smaller ones are possible.
        for share in self.engine.split_step(step):
            if any(len(group) != 1 for group in self.groups(share)):
                self.position.room //= 2
                return True
        return False

    # --- prices ---

    def step_price(self, step: Step) -> tuple[float, int]:
        """Return the (FLOPs, tokens) that an optimizer step over these examples will be charged.

        The teacher's forwards are included.
        """
        # Methods that ask for the base's logits of one source share them: charged once.
        sources = {method.base_source for method in self.methods if Need.BASE_LOGITS in method.needs}
        flops = 0.0
        tokens = sum(map(len, step))
        for group in chain.from_iterable(map(self.groups, self.engine.split_step(step))):
            flops += self.price("train", True).of(self.shape(group))
            for source in sources:
                rows = [example.as_taught for example in group if example.source == source]
                if rows:
                    flops += self.price("full", False).of(self.shape(rows))
                    tokens += sum(map(len, rows))
        return flops, tokens

    def price(self, model: str, backward: bool) -> Price:
        """Return the price of the `full` base with everything trained, or of the model as the recipe now `train`s it."""
        if model == "full" or not (self.filled("trainable") or self.training.checkpointing):
            return full_price(self.base.path, backward)
        key = (backward, self.resting)
        if key not in self.prices:
            self.prices[key] = price_of(self.empty(), backward=backward)
        return self.prices[key]

    def empty(self) -> nn.Module:
        """Return the model as the recipe now trains it, without weights."""
        empty = self._checkpointed(empty_model(self.base.path))
        with torch.device("meta"):
            empty = wrap(empty, self.filled("trainable"), self, {}).model
        for name, parameter in empty.named_parameters():
            if name in self.resting:
                parameter.requires_grad_(False)
        return empty

    # --- charges ---

    def price_of(self, model: nn.Module, backward: bool) -> Price:
        """Return the price of a pass of this model: every model costs what the whole base does."""
        return self.price("full", backward)

    @contextmanager
    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> Iterator[Bill]:
        flops = self.price_of(model, backward).of(Shape.of(batch))
        with self.ledger.charge(account, flops, token_classes(batch.examples, account), self.device) as bill:
            yield bill

    @contextmanager
    def _metered(self, account: str, model: nn.Module) -> Iterator[None]:
        """Charge the forwards of `model` inside the context, whatever their shapes."""
        # Shapes are not known beforehand (generation grows its prompts), so passes are counted as
        # they come.
        price = self.price_of(model, False)
        with self.ledger.charge(account, 0.0, Counter(), self.device) as bill, executed(model, price) as work:
            try:
                yield
            finally:
                bill.flops += work.flops
                bill.tokens += work.tokens
                self.ledger.classes[account] += work.tokens


def _split(method: Method, run: Run, step: Step) -> list[Step]:
    return ask(method, "split", step, run)
