"""One run, with the services that its methods may use.

A run is a `PlannedRun` until its model is wrapped: methods prepare with it on the untouched base,
and whatever only plans, prices or tries a recipe needs no more. `TrainingRun` is made of a planned
run and the wrapped model, and has everything from its first line on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.alike.clusters import first_alike
from harness.contract import Batch, Example, Method, Weights, last_answer
from harness.decoding.difficulty import read, token_scores
from harness.decoding.sampling import Speaker, Speakers
from harness.losses.head import separate_head
from harness.losses.reach import Reach, reach_of
from harness.losses.teacher import BaseCopy, SilencedTeacher, Teacher
from harness.models.adapters import Wrapped, unfolded, wrap
from harness.models.flops import Price
from harness.models.forward import nll, vocabulary
from harness.models.kernels import compile_blocks
from harness.recipes.hooks import ask
from harness.training.run_state import RunState

NO_MODEL = "no model is in training while methods prepare: name the model"


class PlannedRun(RunState):
    """One recipe, one seed, one budget; no model is in training yet."""

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
            # The least of all ranks, so that a method decides alike on each.
            free, _ = torch.cuda.mem_get_info(self.device)
        return min(self.engine.all_gather(free))

    def summed(self, value: float) -> float:
        return self.engine.all_reduce(value)

    @contextmanager
    def rng(self, name: str) -> Iterator[None]:
        # The streams of the caller go on as if nothing had been drawn here: a method that draws
        # must not shift another's draws.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.derive_seed(name))
            yield

    # --- examples ---

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
        self,
        model: nn.Module | None,
        prompts: Sequence[Sequence[int]],
        *,
        limit: int,
        temperature: float,
        name: str,
    ) -> list[Example]:
        if model is None:
            raise RuntimeError(NO_MODEL)
        return self._sampled(self.speakers.of(model, temperature), prompts, limit, name)

    def _sampled(
        self,
        speaker: Speaker,
        prompts: Sequence[Sequence[int]],
        limit: int,
        name: str,
    ) -> list[Example]:
        """Return what a speaker says after prompts, from the stream `name`, and charge it."""
        with self._metered("generation", speaker.model), self.rng(name):
            return speaker.texts(prompts, limit)

    @cached_property
    def speakers(self) -> Speakers:
        """What makes the samplers of models."""
        return Speakers(self.base.tokenizer, self.base.max_length, self.training.micro_tokens)

    def text(self, tokens: Sequence[int]) -> str:
        return self.speakers.silent.tokens.decode(tokens)

    def affords_again(self, account: str) -> bool:
        return self.ledger.affords_again(account)

    def prompt_with(self, example: Example, words: str) -> tuple[int, ...]:
        # Where the answer begins: all before it is what was asked.
        end = last_answer(example)
        return self.speakers.silent.prompt_with(example.tokens[:end], example.tokens[end:], words)

    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        for group in self.groups(examples):
            yield self.collate(group)

    # --- models ---

    def weights(self) -> Weights:
        return self.start

    def nll(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return nll(model, batch)

    @cached_property
    def base_copy(self) -> BaseCopy:
        """The untouched base as a model of its own, loaded when it is needed."""
        return BaseCopy(lambda: self.load())

    @cached_property
    def _teacher(self) -> Teacher:
        return Teacher(self, self.base_copy)

    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        return self._teacher.logits(batch, source)

    def dev_scores(self, model: nn.Module | None = None, ahead: int = 0) -> float | None:
        if model is None:
            raise RuntimeError(NO_MODEL)
        # Opened before the price is asked: it loads tasks, which is free.
        retention_of = self.open_dev()
        # Training is over: what was charged ahead is asked now.
        if self.position.finishing and self.position.paid:
            self.position.paid -= 1
            return retention_of(model)
        if not self.ledger.affords_again("dev"):
            return None
        with self._metered("dev", model):
            retention = retention_of(model)
        self.ledger.charge_again("dev", ahead)
        self.position.paid += ahead
        return retention

    def model_with(self, weights: Weights) -> nn.Module:
        wrapped = wrap(self.load(), unfolded(self.filled("trainable")), self, self.start)
        wrapped.set(self.start | weights)
        wrapped.model.eval()
        return wrapped.model


class TrainingRun(PlannedRun):
    """A planned run whose model is wrapped and trains."""

    def __init__(self, planned: PlannedRun, wrapped: Wrapped):
        """Take a wrapped model whose weights are whole.

        What its head can do is tried, and the engine makes masters for it.
        """
        super().__init__(
            base=planned.base,
            data=planned.data,
            methods=planned.methods,
            training=planned.training,
            ledger=planned.ledger,
            seed=planned.seed,
            device=str(planned.device),
            engine=planned.engine,
            open_dev=planned.open_dev,
        )
        # One stage, one room and one copy of the base: a method may have kept the planned run
        # since it prepared.
        self._planned = planned
        self.position = planned.position
        self.enter(planned.stage)
        self.prices = planned.prices
        self.logits_at_once = planned.logits_at_once

        self.wrapped = wrapped
        self.start = wrapped.start
        """The base's weights, and the initial values of what is added."""
        self.model: Any = wrapped.model
        self.head = separate_head(wrapped.model)
        self.vocabulary = vocabulary(wrapped.model)
        self._reach: dict[Method, Reach] = {}

        # Last: a sharding engine cuts the weights, which the trials above need whole.
        if self.training.compile:
            compile_blocks(self.model, self.longest, self.position.room)
        self.trained = self.engine.build(wrapped, self.training, self.methods)

    def load(self) -> nn.Module:
        return self._planned.load()

    @property
    def base_copy(self) -> BaseCopy:
        return self._planned.base_copy

    @property
    def speakers(self) -> Speakers:
        return self._planned.speakers

    # --- the model in training ---

    def weights(self) -> Weights:
        return self.trained.gather()()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep what trains in host memory inside the context: its device has room for others."""
        self.base_copy.forget()
        with self.trained.aside():
            yield

    def price_of(self, model: nn.Module, backward: bool) -> Price:
        # The model in training costs what its frozen weights leave, any other the whole.
        return self.price("train" if model is self.model else "full", backward)

    def dev_scores(self, model: nn.Module | None = None, ahead: int = 0) -> float | None:
        # A method may score a model of its own, say an average of weights.
        return super().dev_scores(self.model if model is None else model, ahead)

    def generate(
        self,
        model: nn.Module | None,
        prompts: Sequence[Sequence[int]],
        *,
        limit: int,
        temperature: float,
        name: str,
    ) -> list[Example]:
        if model is not None:
            return super().generate(model, prompts, limit=limit, temperature=temperature, name=name)

        # Rank 0 alone has room for the cache; the others get its texts and are charged for their
        # wait.
        def speak() -> list[Example]:
            speaker = self.speakers.of_trained(self.model, temperature)
            return self._sampled(speaker, prompts, limit, name)

        return self.engine.broadcast(self.engine.on_rank_zero(self.ledger, speak) or [])

    @cached_property
    def _teacher(self) -> Teacher:
        # What is added, switched off, leaves the base only if it stands alone over untouched
        # weights (docs/decisions/teacher_logits.md).
        if self.wrapped.silenced and self.engine.forwards_alone:
            return SilencedTeacher(self, self.model, self.head)
        return Teacher(self, self.base_copy)

    def features(self, model: Any, batch: Batch) -> Tensor:
        """Return what the head reads at supervised places, `(S, H)`; `model` may be wrapped."""
        return self.head.features(model, batch)

    @property
    def places_at_once(self) -> int:
        """Number of supervised places at which the head runs at once, at most."""
        return max(1, self.logits_at_once // self.vocabulary)

    def reach(self, method: Method) -> Reach:
        """Return what a method's token weights and penalty need at once."""
        if method not in self._reach:
            self._reach[method] = reach_of(method, self, self.vocabulary, self.device)
        return self._reach[method]

    def settle(self) -> None:
        """Let weights rest or train again, as RESTS hooks say for the spent fraction."""
        methods = self.filled("rests")
        if not methods:
            return
        masters = self.trained.masters
        trained = dict(zip(masters.values, masters.parameters, strict=True))
        # One method is enough to let a weight rest.
        resting = set()
        for name in trained:
            plain = self.wrapped.names[name]
            if any(ask(method, "rests", plain, self.budget_spent) for method in methods):
                resting.add(name)
        self.resting = frozenset(resting)
        for name, parameter in trained.items():
            parameter.requires_grad_(name not in resting)
