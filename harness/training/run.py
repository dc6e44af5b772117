"""TrainingRun: one run, with the services that its methods may use."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.alike.clusters import first_alike
from harness.contract import Batch, Bill, Example, Weights, last_answer
from harness.decoding.difficulty import read, token_scores
from harness.decoding.sampling import Speaker
from harness.models.flops import Shape, executed
from harness.models.forward import nll
from harness.training.protocol import token_classes
from harness.training.run_state import RunState


class TrainingRun(RunState):
    """One recipe, one seed, one budget."""

    @cached_property
    def _speakers(self) -> dict[float, Speaker]:
        """What samples from the model in training, by temperature."""
        return {}

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
        # Rank 0 alone has room for the cache; the others get its texts and are charged for their
        # wait.
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
        # Where the answer begins: all before it is what was asked.
        end = last_answer(example)
        return self._words.prompt_with(example.tokens[:end], example.tokens[end:], words)

    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        for group in self.groups(examples):
            yield self.collate(group)

    # --- models ---

    def weights(self) -> Weights:
        return self.start if self.model is None else self.engine.gather()()

    def nll(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return nll(model, batch)

    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        return self._teacher.logits(batch, source)

    def dev_scores(self, model: nn.Module | None = None) -> float | None:
        # Opened before the price is asked: it loads tasks, which is free.
        retention_of = self.open_dev()
        if not self.ledger.affords_again("dev"):
            return None

        # A method may score a model of its own, say an average of weights; without one it is the
        # model in training.
        scored: nn.Module = self.model if model is None else model
        with self._metered("dev", scored):
            return retention_of(scored)

    # --- charges ---

    @contextmanager
    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> Iterator[Bill]:
        # The base costs a whole forward; the model in training costs what its frozen weights leave.
        flops = self.price("full" if model is not self.model else "train", backward).of(Shape.of(batch))
        with self.ledger.charge(account, flops, token_classes(batch.examples, account), self.device) as bill:
            yield bill

    @contextmanager
    def _metered(self, account: str, model: nn.Module) -> Iterator[None]:
        """Charge the forwards of `model` inside the context, whatever their shapes."""
        # Shapes are not known beforehand (generation grows its prompts), so passes are counted as
        # they come.
        price = self.price("full" if model is not self.model else "train", False)
        with self.ledger.charge(account, 0.0, Counter(), self.device) as bill, executed(model, price) as work:
            try:
                yield
            finally:
                bill.flops += work.flops
                bill.tokens += work.tokens
                self.ledger.classes[account] += work.tokens
