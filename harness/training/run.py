"""TrainingRun: the state of one run, and the services that its methods may use."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example, Method, Need, Run, Step, Weights, last_answer, overrides
from harness.decoding.difficulty import read, token_scores
from harness.decoding.sampling import Speaker
from harness.models.adapters import Silenced, Wrapped, wrap
from harness.models.base_model import BaseModel, empty_model, own_weights
from harness.models.batches import collate, micro_batches, pack, packs
from harness.models.flops import Price, Shape, executed, price_of
from harness.models.forward import nll
from harness.models.kernels import use_liger
from harness.models.packed_attention import use_packing
from harness.models.short_documents import SHORT
from harness.recipes.hooks import ask, ask_stream
from harness.text.near_duplicates import first_alike
from harness.training.engine import Alone
from harness.training.ledger import Ledger
from harness.training.protocol import Training, TrainingData, stage_ends, token_classes

OVERHEAD = {"cpu": 64, "cuda": 2048}
"""Tokens of padding that cost as much as one more micro-batch (measured on a CPU; a guess for a GPU)."""

OpenDev = Callable[[], Callable[[nn.Module], float]]
"""Returns the function that scores a model on dev items; opening it loads tasks, and is free of charge."""


class TrainingRun(Run):
    """One recipe, one seed, one budget."""

    def __init__(
        self,
        base: BaseModel,
        data: TrainingData,
        methods: Sequence[Method],
        training: Training,
        ledger: Ledger,
        seed: int,
        device: str = "cpu",
    ):
        self.base = base
        self.data = data
        self.methods = tuple(methods)
        self.training = training
        self.ledger = ledger
        self.seed = seed
        self.device = torch.device(device)
        self.batch_size = training.batch_size
        self.dtype: torch.dtype = getattr(torch, training.precision)
        self.ends = stage_ends(data.domain)
        self.enter(1)
        self._prices: dict[tuple[str, bool, frozenset[str]], Price] = {}
        self._resting: frozenset[str] = frozenset()
        self._frozen: nn.Module | None = None
        self._speakers: dict[float, Speaker] = {}
        self.model: Any = None
        self.engine = Alone()
        self.room = training.pack_length or training.micro_tokens
        """Most tokens per micro-batch (or packed row); halved where memory runs out."""
        self.open_dev: OpenDev | None = None
        self.wrapped: Wrapped | None = None

    # --- services for methods ---

    @cached_property
    def start(self) -> Weights:
        return own_weights(self.base.original(torch.float32))

    @property
    def budget_spent(self) -> float:
        return self.ledger.fraction

    def domain_of(self, stage: int) -> tuple[Example, ...]:
        return tuple(example for example in self.data.domain if example.stage == stage)

    @property
    def general(self) -> tuple[Example, ...]:
        return self.data.general

    def free_memory(self) -> float:
        free = math.inf
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
        return min(self.engine.all_gather(free))

    def summed(self, value: float) -> float:
        return self.engine.all_reduce(value)

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.derive_seed(name))

    @contextmanager
    def rng(self, name: str) -> Iterator[None]:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.derive_seed(name))
            yield

    def near_duplicates(self, examples: Sequence[Example], similar: float) -> list[int]:
        return first_alike(examples, self.base.tokenizer, similar)

    def difficulty(self, model: nn.Module, examples: Sequence[Example], by: str) -> Tensor:
        @torch.no_grad()
        def scores(batch: Batch) -> Tensor:
            with self.charged("reading", model, batch, backward=False):
                return token_scores(*nll(model, batch))

        reading = read(examples, self.batches(examples), scores)
        return reading.loss if by == "loss" else -reading.similarity

    def generate(
        self, model: nn.Module | None, prompts: Sequence[Sequence[int]], *, limit: int, temperature: float, name: str
    ) -> list[Example]:
        def speak() -> list[Example]:
            speaker = self._speaker(temperature) if model is None else self._new_speaker(model, temperature)
            training = speaker.model.training
            speaker.model.eval()  # without dropout
            try:
                with self._metered("generation", speaker.model), self.rng(name):
                    return speaker.texts(prompts, limit)
            finally:
                speaker.model.train(training)

        if model is not None:
            return speak()
        # Rank 0 speaks for all.
        return self.engine.broadcast(self.engine.on_rank_zero(self.ledger, speak) or [])

    def _new_speaker(self, model: nn.Module | None, temperature: float) -> Speaker:
        """Return what samples from this model."""
        return Speaker(
            model,
            self.base.tokenizer,
            longest=self.base.max_length,
            temperature=temperature,
            micro_tokens=self.training.micro_tokens,
        )

    def _speaker(self, temperature: float) -> Speaker:
        """Return what samples from the model in training; kept, as it reads the chat template, which is slow."""
        if temperature not in self._speakers:
            self._speakers[temperature] = self._new_speaker(self.model, temperature)
        return self._speakers[temperature]

    @cached_property
    def _words(self) -> Speaker:
        """What reads and writes prompts, and speaks with no model."""
        return self._new_speaker(None, 1.0)

    def text(self, tokens: Sequence[int]) -> str:
        return self._words.tokens.decode(tokens)

    def affords_again(self, account: str) -> bool:
        return self.ledger.affords_again(account)

    def prompt_with(self, example: Example, words: str) -> tuple[int, ...]:
        end = last_answer(example)
        return self._words.prompt_with(example.tokens[:end], example.tokens[end:], words)

    def dev_scores(self, model: nn.Module | None = None) -> float | None:
        if self.open_dev is None:
            raise RuntimeError("this run was given no dev items")
        scores = self.open_dev()
        if not self.ledger.affords_again("dev"):
            return None
        scored: nn.Module = self.model if model is None else model
        with self._metered("dev", scored):
            return scores(scored)

    def weights(self) -> Weights:
        return self.start if self.model is None else self.engine.gather()()

    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        for group in self.groups(examples):
            yield self._collate(group)

    def nll(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return nll(model, batch)

    @contextmanager
    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> Iterator[None]:
        price = self.price("full" if model is not self.model else "train", backward)
        with self.ledger.charge(account, price.of(Shape.of(batch)), token_classes(batch.examples, account), self.device):
            yield

    @contextmanager
    def _metered(self, account: str, model: nn.Module) -> Iterator[None]:
        """Charge the forwards of `model` inside the context, whatever their shapes."""
        price = self.price("full" if model is not self.model else "train", False)
        with self.ledger.charge(account, 0.0, Counter(), self.device) as bill, executed(model, price) as work:
            try:
                yield
            finally:
                bill.flops += work.flops
                bill.tokens += work.tokens
                self.ledger.classes[account] += work.tokens

    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        name = f"base_logits {source}"
        if name not in batch.cache:
            rows = [example for example in batch.examples if example.source == source]
            read = [example.as_taught for example in rows]
            part = batch if read == list(batch.examples) else self._collate(read)
            with torch.no_grad(), self._base_model() as base, self.charged("teacher", base, part, backward=False):
                batch.cache[name] = nll(base, part)[1]
        return batch.cache[name]

    # --- services for the loop ---

    def enter(self, stage: int) -> None:
        """Begin a stage: its data, its part of the budget, its own random streams."""
        self.stage = stage
        self.ledger.end = self.ends[stage - 1]

    def derive_seed(self, name: str) -> int:
        """Return the seed of a named random stream; each stage has its own."""
        if self.stage > 1:
            name = f"stage {self.stage}/{name}"
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:6], "big")

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest example."""
        return max((len(example) for example in (*self.data.domain, *self.data.general)), default=0)

    def load(self) -> nn.Module:
        """Return a fresh copy of the base in the computing precision."""
        model = self.base.load(self.dtype, self.device)
        if self.training.kernels == "liger":
            use_liger(model)
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

    def _collate(self, group: Sequence[Example]) -> Batch:
        if self.training.pack_length:
            return pack(group, self.device)
        return collate(group, self.device)

    def _shape(self, group: Sequence[Example]) -> Shape:
        if self.training.pack_length:
            return Shape.packed(group, self.device.type)
        return Shape.padded(group)

    def groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Return the examples of each micro-batch."""
        if self.training.pack_length:
            return packs(examples, self.room)
        return micro_batches(examples, self.room, OVERHEAD[self.device.type])

    def halve(self, step: Step) -> bool:
        """Make micro-batches at most half as large; return False if all of this step's hold one example already."""
        for share in self.engine.split_step(step):
            if any(len(group) != 1 for group in self.groups(share)):
                self.room //= 2
                return True
        return False

    def filled(self, hook: str) -> list[Method]:
        """Return the methods that fill a hook, in canonical order."""
        return [method for method in self.methods if overrides(method, hook)]

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
        ordering = next(iter(self.filled("order")), Method())
        while examples:
            ordered = ask(ordering, "order", examples, self, generator)
            for first in range(0, len(ordered), self.batch_size):
                yield ordered[first : first + self.batch_size]

    def step_price(self, step: Step) -> tuple[float, int]:
        """Return the (FLOPs, tokens) that an optimizer step over these examples will be charged.

        The teacher's forwards are included.
        """
        sources = {method.base_source for method in self.methods if Need.BASE_LOGITS in method.needs}
        flops = 0.0
        tokens = sum(map(len, step))
        for group in chain.from_iterable(map(self.groups, self.engine.split_step(step))):
            flops += self.price("train", True).of(self._shape(group))
            for source in sources:
                rows = [example.as_taught for example in group if example.source == source]
                if rows:
                    flops += self.price("full", False).of(self._shape(rows))
                    tokens += sum(map(len, rows))
        return flops, tokens

    def rate(self, fraction: float) -> float:
        """Return the learning rate at a spent fraction of the budget.

        Linear warm-up, then the decay, which ends with the stage's part of the budget; times the RATE hooks' factors.
        """
        begin = (0.0, *self.ends)[self.stage - 1]
        end = self.ends[self.stage - 1]
        fraction = (fraction - begin) / (end - begin)
        fraction = min(max(fraction, 0.0), 1.0)
        factors = [ask(method, "rate", fraction) for method in self.filled("rate")]
        return self.training.rate(fraction) * math.prod(factors)

    def wrap(self, model: nn.Module) -> Wrapped:
        """Wrap the fresh base as the recipe trains it; `start` then also holds the initial values of what is added."""
        self.wrapped = wrap(model, self.filled("trainable"), self, self.start)
        self.start = self.wrapped.start
        return self.wrapped

    def settle(self) -> None:
        """Let weights rest or train again, as RESTS hooks say for the present fraction of the budget."""
        assert self.wrapped is not None
        methods = self.filled("rests")
        if not methods:
            return
        trained = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad or name in self._resting:
                trained[name] = parameter

        # One method is enough to let a weight rest.
        resting = set()
        for name in trained:
            plain = self.wrapped.names[name]
            if any(ask(method, "rests", plain, self.budget_spent) for method in methods):
                resting.add(name)
        self._resting = frozenset(resting)
        for name, parameter in trained.items():
            parameter.requires_grad_(name not in resting)

    def price(self, model: str, backward: bool) -> Price:
        """Return the price of the `full` base with everything trained, or of the model as the recipe now `train`s it."""
        if model == "full" or not (self.filled("trainable") or self.training.checkpointing):
            return full_price(self.base.path, backward)
        key = (model, backward, self._resting)
        if key not in self._prices:
            self._prices[key] = price_of(self.empty(), backward=backward)
        return self._prices[key]

    def empty(self) -> nn.Module:
        """Return the model as the recipe now trains it, without weights."""
        empty = self._checkpointed(empty_model(self.base.path))
        with torch.device("meta"):
            empty = wrap(empty, self.filled("trainable"), self, {}).model
        for name, parameter in empty.named_parameters():
            if name in self._resting:
                parameter.requires_grad_(False)
        return empty

    @cached_property
    def trained_parameters(self) -> int:
        """Number of parameters that the recipe trains."""
        return sum(p.numel() for p in self.empty().parameters() if p.requires_grad)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep what trains in host memory inside the context, so that its device has room for other models."""
        self._frozen = None  # loaded again when it is needed
        with self.engine.aside():
            yield

    @contextmanager
    def _base_model(self) -> Iterator[nn.Module]:
        """Yield the base in the computing precision.

        It is the trained model with its adapters off where that equals the base, else a copy.
        """
        if self.wrapped is not None and self.wrapped.silenced and self.engine.forwards_alone:
            training = self.model.training
            self.model.eval()
            try:
                with self.model.disable_adapter():
                    yield Silenced(self.model)
            finally:
                self.model.train(training)
        else:
            if self._frozen is None:
                self._frozen = self.load().requires_grad_(False)
            yield self._frozen


def _split(method: Method, run: Run, step: Step) -> list[Step]:
    return ask(method, "split", step, run)


@cache
def full_price(path: str, backward: bool) -> Price:
    """Return the price of the base at `path` with everything trained."""
    return price_of(empty_model(path), backward=backward)
