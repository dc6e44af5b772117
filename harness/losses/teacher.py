"""The untouched base beside the model in training: its logits, for methods that stay close to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example
from harness.losses.head import Head, separate_head
from harness.models.adapters import Silenced, Wrapped


class TeachingRun(Protocol):
    """The part of a run (`harness.training.run.TrainingRun`) that its teacher uses."""

    model: Any
    head: Head
    wrapped: Wrapped | None
    engine: Any

    def load(self) -> nn.Module:
        """Return a fresh copy of the base."""
        ...

    def collate(self, group: Sequence[Example]) -> Batch:
        """Return these examples as one micro-batch."""
        ...

    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> AbstractContextManager[object]:
        """Charge what runs inside the context."""
        ...


class Teacher:
    """The base of a run. It runs once over each micro-batch, up to its head; the head runs at the places that are asked for."""

    def __init__(self, run: TeachingRun):
        self._run = run
        self._copy: nn.Module | None = None
        self._head: Head | None = None

    def forget(self) -> None:
        """Drop the copy of the base; it is loaded again when it is needed."""
        self._copy = None
        self._head = None

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
        """Yield the base in the computing precision, and its head.

        It is the trained model with its adapters off where that equals the base, else a copy.
        """
        run = self._run
        # The adapter switched off is the base only if one adapter stands over untouched weights
        # (docs/decisions/teacher_logits.md).
        if run.wrapped is not None and run.wrapped.silenced and run.engine.forwards_alone:
            training = run.model.training
            run.model.eval()
            try:
                with run.model.disable_adapter():
                    yield Silenced(run.model), run.head
            finally:
                run.model.train(training)
            return
        # A frozen copy of the base: memory for certainty.
        if self._copy is None:
            self._copy = run.load().requires_grad_(False)
        if self._head is None:
            self._head = separate_head(self._copy)
        yield self._copy, self._head
