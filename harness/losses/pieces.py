"""The loss of a micro-batch and its gradients, with the head run at one piece of the places at a time.

For each piece: logits, loss, and backward to the features and to the head's own weights; then the piece's logits are dropped.
The gradients wait inside the loss that is returned, whose backward pass hands them on: once through the blocks, and once to
each weight of the head, as where the head runs whole. The head runs forward once at each place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.losses.head import Head

LOGITS_AT_ONCE = {"cpu": 2**25, "cuda": 2**26}
"""Numbers in one piece's logits, by device: 128 and 256 MiB in fp32, of which a pass holds about four times as many bytes."""


def cut(places: int, at_once: int) -> list[tuple[int, int]]:
    """Return the bounds of the fewest pieces of at most `at_once` places, of nearly equal size; one piece for no places."""
    # Rounded up: no piece may be larger than what fits.
    number = max(1, -(-places // at_once))
    bounds = [places * index // number for index in range(number + 1)]
    return list(pairwise(bounds))


class Objective(Protocol):
    """What is to be minimised over a micro-batch's places."""

    looks_ahead: bool
    """Whether the loss at one place depends on what the head returns at others."""
    aside: list[Tensor]
    """Terms of the losses so far that depend on more than logits. `loss` has their values; here are their other gradients."""

    def look(self, begin: int, end: int, logits: Tensor) -> None:
        """See the logits `(P, V)` of places `begin` to `end`, without gradient; called for all pieces before any loss."""
        ...

    def loss(self, begin: int, end: int, logits: Tensor) -> Tensor:
        """Return the loss of places `begin` to `end` from their logits `(P, V)`, summed over them."""
        ...


def loss_in_pieces(head: Head, features: Tensor, objective: Objective, at_once: int) -> Tensor:
    """Return the objective summed over the places of `features` `(S, H)`, its gradients computed already."""
    pieces = cut(len(features), at_once)
    sums = _Sums(features, head.parameters, single=len(pieces) == 1)
    for begin, end, part, returned in _calls(head, sums, objective, pieces):
        sums.add(objective.loss(begin, end, head.logits(returned)), part)
        # Dropped before the next piece is computed, so that one piece is held at a time.
        del returned
    loss: Tensor = _Computed.apply(sums.loss, sums.gradients(), features, *sums.parameters)  # type: ignore[assignment]

    # What depends on more than logits has its gradient in the outer graph; subtracting its value
    # leaves the loss as it was.
    for term in objective.aside:
        loss = loss + (term - term.detach())
    return loss


def no_loss(head: Head, features: Tensor) -> Tensor:
    """Return a loss of 0 whose gradients are 0, for everything that `loss_in_pieces` gives gradients to."""
    loss = features.sum() * 0.0
    for parameter in head.parameters:
        loss = loss + parameter.sum() * 0.0
    return loss


Call = tuple[int, int, Tensor, Tensor]
"""Bounds of a piece, its features as a leaf of a graph of their own, and what the head returned for them."""


def _calls(head: Head, sums: _Sums, objective: Objective, pieces: Sequence[tuple[int, int]]) -> Iterator[Call]:
    """Run the head over each piece. Where the objective looks ahead, over all of them before the first is yielded.

    What the head returned for all places is then held at once, in the model's precision and nothing of it in fp32.
    """
    calls = []
    for begin, end in pieces:
        part = sums.leaf(begin, end)
        call = (begin, end, part, head.returned(part))
        if not objective.looks_ahead:
            yield call
            del call, part
            continue

        # Looked at without gradient, and kept until all were: a loss may need what others return.
        with torch.no_grad():
            objective.look(begin, end, head.logits(call[3]))
        calls.append(call)

    # Each call is let go as it is yielded.
    calls.reverse()
    while calls:
        yield calls.pop()


class _Sums:
    """The loss of the pieces so far, and its gradients."""

    def __init__(self, features: Tensor, parameters: list[nn.Parameter], single: bool):
        self.loss = torch.zeros((), device=features.device)
        self.parameters = parameters
        self._features = features
        self._single = single
        self._of_features: list[Tensor] = []
        self._of_parameters: list[Tensor | None] = [None] * len(parameters)

    def leaf(self, begin: int, end: int) -> Tensor:
        """Return the features of these places as a leaf of a graph of their own."""
        return self._features[begin:end].detach().requires_grad_(self._features.requires_grad)

    def add(self, loss: Tensor, part: Tensor) -> None:
        """Add a piece's loss, and go back from it to its features and to the head's weights."""
        self.loss = self.loss + loss.detach()
        # Gradients of features only where the blocks train; those of the head always.
        inputs = [part, *self.parameters] if part.requires_grad else self.parameters
        gradients = list(torch.autograd.grad(loss, inputs, allow_unused=True))
        if part.requires_grad:
            gradient = gradients.pop(0)
            self._of_features.append(torch.zeros_like(part) if gradient is None else gradient)
        for index, gradient in enumerate(gradients):
            self._of_parameters[index] = self._summed(self._of_parameters[index], gradient)

    def _summed(self, total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
        """Add one piece's gradient of a weight. Several pieces are summed in fp32 and rounded once, at the end."""
        if gradient is None:
            return total
        if total is None:
            return gradient if self._single else gradient.float()
        return total.add_(gradient)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of the features, then of each weight, in the precision of each."""
        gradients: list[Tensor | None] = [torch.cat(self._of_features) if self._of_features else None]
        self._of_features.clear()
        for index, parameter in enumerate(self.parameters):
            gradient = self._of_parameters[index]
            self._of_parameters[index] = None
            gradients.append(None if gradient is None else gradient.to(parameter.dtype))
        return gradients


class _Computed(torch.autograd.Function):
    """A loss whose gradients are known before its backward pass."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *inputs: Tensor) -> Tensor:
        """Return the loss; `gradients` are those of `inputs`, in their order."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [None if gradient is None else gradient.mul_(scale) for gradient in ctx.gradients]
        ctx.gradients = None
        return (None, None, *gradients)
