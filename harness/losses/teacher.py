"""The untouched base beside the model in training: its logits, for methods that stay close to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example
from harness.losses.head import Head, separate_head
from harness.models.adapters import Silenced


class TeachingRun(Protocol):
    """The part of a run (`harness.training.run.PlannedRun`) that its teacher uses."""

    def collate(self, group: Sequence[Example]) -> Batch:
        """Return these examples as one micro-batch."""
        ...

    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> AbstractContextManager[object]:
        """Charge what runs inside the context."""
        ...


class BaseCopy:
    """A frozen copy of the base and its head, loaded when they are first needed."""

    def __init__(self, load: Callable[[], nn.Module]):
        self._load = load
        self._opened: tuple[nn.Module, Head] | None = None

    def open(self) -> tuple[nn.Module, Head]:
        """Return the copy and its head."""
        if self._opened is None:
            model = self._load().requires_grad_(False)
            self._opened = (model, separate_head(model))
        return self._opened

    def forget(self) -> None:
        """Drop the copy; it is loaded again when it is needed."""
        self._opened = None


class Teacher:
    """The base of a run. It runs once over each micro-batch, up to its head; the head runs at the places that are asked for."""

    def __init__(self, run: TeachingRun, copy: BaseCopy):
        self._run = run
        self._copy = copy

    @torch.no_grad()
    def logits(self, batch: Batch, source: str) -> Tensor:
        """Return the base's logits `(n, V)` at the n places of a batch, or of a piece of one, that come from `source`."""
        # By source: one method may ask about domain rows, another about general ones.
        name = f"base_logits {source}"
        if name not in batch.cache:
            whole = batch.whole or batch
            features = self._features(whole, source)

            # The features are of all places from this source in the whole micro-batch, and the piece may have some of them.
            of_source = whole.from_source(source)
            first = int(of_source[: batch.begin].sum())
            count = int(of_source[batch.begin : batch.begin + len(batch.places)].sum())
            with self._base() as (_, head):
                batch.cache[name] = head.logits_of(features[first : first + count])
        return batch.cache[name]

    def _features(self, batch: Batch, source: str) -> Tensor:
        """Return what the base's head reads at the places from `source`, computed once per micro-batch and charged."""
        name = f"base_features {source}"
        if name not in batch.cache:
            rows = [example.as_taught for example in batch.examples if example.source == source]
            part = batch if rows == list(batch.examples) else self._run.collate(rows)
            with self._base() as (base, head), self._run.charged("teacher", base, part, backward=False):
                batch.cache[name] = head.features(base, part)
        return batch.cache[name]

    @contextmanager
    def _base(self) -> Iterator[tuple[nn.Module, Head]]:
        """Yield the base in the computing precision, and its head: a frozen copy, memory for certainty."""
        yield self._copy.open()


class SilencedTeacher(Teacher):
    """The model in training with its adapters off, where that equals the base: no copy is held."""

    def __init__(self, run: TeachingRun, model: Any, head: Head):
        self._run = run
        self._model = model
        self._head = head

    @contextmanager
    def _base(self) -> Iterator[tuple[nn.Module, Head]]:
        training = self._model.training
        self._model.eval()
        try:
            with self._model.disable_adapter():
                yield Silenced(self._model), self._head
        finally:
            self._model.train(training)
