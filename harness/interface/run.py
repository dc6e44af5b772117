"""The run as a method sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from harness.interface.examples import Batch, Example, Weights


class Bill(Protocol):
    """What is charged to one account of the ledger."""

    flops: float
    """FLOPs charged so far."""


class Run(ABC):
    """What a method may ask of the run it takes part in. Whatever costs compute is charged."""

    seed: int
    device: torch.device
    start: Weights
    """The base's weights, fp32, by plain name; never written to."""
    budget_spent: float
    """Fraction of the budget spent, 0 to 1."""

    batch_size: int
    """Examples an optimizer step."""
    stage: int
    """Which of the plan's domain files is being trained on, from 1."""

    @abstractmethod
    def domain_of(self, stage: int) -> Sequence[Example]:
        """Return a stage's training examples, before RECORDS; never ask for those of later stages than the present one."""

    @property
    def domain(self) -> Sequence[Example]:
        """The training examples of the stage under way."""
        return self.domain_of(self.stage)

    @abstractmethod
    def generator(self, name: str) -> torch.Generator:
        """Return a fresh CPU generator seeded from (seed, name): one method's draws never move another's."""

    @abstractmethod
    def free_memory(self) -> float:
        """Return the bytes free on the device, the least of the run's devices; infinite on a CPU."""

    @abstractmethod
    def summed(self, value: float) -> float:
        """Return a sum over weights, from this process's sum over the part of them that `gradient` and `update` see here."""

    @abstractmethod
    def rng(self, name: str) -> AbstractContextManager[None]:
        """Fork the global generators, seed them from (seed, name) and restore them: for code that draws from them."""

    @property
    @abstractmethod
    def general(self) -> Sequence[Example]:
        """The general pool (training part); empty where the plan has none."""

    @abstractmethod
    def near_duplicates(self, examples: Sequence[Example], similar: float) -> list[int]:
        """Return for each example the index of the earliest example that it nearly repeats; its own index if there is none.

        `similar` is the least Jaccard similarity of the words' 5-grams, 0.85 or more; above 1 nothing is alike. Not charged.
        """

    @abstractmethod
    def difficulty(self, model: nn.Module, examples: Sequence[Example], by: str) -> Tensor:
        """Return (n,) how hard `model` finds each example; charged as `reading`, one forward over all.

        `by`: `loss`, the mean token loss in nats, or `similarity`, how far that exceeds what the model's own entropy lets
        expect (mean z_loss - z_entropy over its tokens, harness/decoding/difficulty.py).
        """

    @abstractmethod
    def generate(
        self, model: nn.Module | None, prompts: Sequence[Sequence[int]], *, limit: int, temperature: float, name: str
    ) -> list[Example]:
        """What `model` says after each prompt, sampled from the random stream `name`: examples of source `generated`.

        None is the model in training as it is now: every process of the run must ask, outside `prepare` and its like. At most
        `limit` new tokens, up to and with a stop token; these are supervised. An empty prompt is BOS alone; if the model then
        writes a question, it is asked to answer it too. Charged as `generation`, at the price of the forwards that it runs.
        """

    @abstractmethod
    def affords_again(self, account: str) -> bool:
        """Whether the budget pays for as much once more as this account's mean call has cost; True before the first call."""

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """Return what these tokens say, control tokens left out."""

    @abstractmethod
    def prompt_with(self, example: Example, words: str) -> tuple[int, ...]:
        """Return the example's prompt, up to its last answer, with `words` at the end of its last question.

        `{answer}` in them stands for that answer's text. They stand at the prompt's end where no template closes the question.
        """

    @abstractmethod
    def dev_scores(self, model: nn.Module | None = None, ahead: int = 0) -> float | None:
        """Return retention, the macro mean score from 0 to 1, on the general dev items, never a test item.

        Of the model in training, or of another. Charged as `dev`, at the price of the forwards that it runs; None where the
        budget does not pay for one more. `ahead`: as many more are charged now, at this one's price, for `finish` to ask once
        the budget is spent.
        """

    @abstractmethod
    def model_with(self, weights: Weights) -> nn.Module:
        """Return a copy of the base that holds these effective weights, with what the recipe adds and does not fold."""

    @abstractmethod
    def weights(self) -> Weights:
        """Return the effective fp32 weights of the model as trained so far, by plain name."""

    @abstractmethod
    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """Return length-bucketed micro-batches of these examples, in a fixed order."""

    @abstractmethod
    def nll(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the per-token loss (S,) in nats, fp32, and logits (S, V), fp32. Not charged: wrap it in `charged`."""

    @abstractmethod
    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> AbstractContextManager[Bill]:
        """Bill what runs inside to `account` at the price of a forward (and backward) pass of `model` over `batch`.

        Yields the bill, to which a method adds the FLOPs of what else it computes.
        """

    @abstractmethod
    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        """Return the logits of the untouched base at the supervised tokens of the rows from `source`, no gradient.

        As many rows as `batch.from_source(source)` has True, in its order. Charged as `teacher`, computed once a batch.
        """
