"""The loss of one micro-batch: token losses times what methods weigh them by, and their penalties."""

from __future__ import annotations

from functools import reduce
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.contract import Batch, Method
from harness.losses.reach import Reach
from harness.losses.step_sums import StepSums
from harness.recipes.hooks import ask


class WeighingRun(Protocol):
    """The part of a run (`harness.training.run.TrainingRun`) that its loss uses; penalties may ask it for more."""

    def filled(self, hook: str) -> list[Method]:
        """Return the methods that fill a hook, in canonical order."""
        ...

    def reach(self, method: Method) -> Reach:
        """Return what a method's token weights and penalty need at once."""
        ...


class WeightedLoss:
    """What a run minimises over one micro-batch, for pieces of its supervised places; its sums go into the step's."""

    def __init__(self, run: WeighingRun, batch: Batch, sums: StepSums):
        self.run = run
        self.batch = batch
        self.sums = sums
        self.weighters: list[Method] = run.filled("token_weights")
        self.penalties: list[Method] = run.filled("penalty")
        self.looks_ahead = False
        self.aside: list[Tensor] = []
        """Penalties as functions of what the blocks computed besides the features: their gradients do not pass the head."""
        self._losses: list[Tensor] = []
        self._given: list[list[Tensor]] = [[] for _ in self.weighters]
        self._settled: Tensor | None = None

    def places_at_once(self, most: int) -> int:
        """Return how many places a piece may have, of at most `most`, and decide whether pieces look ahead."""
        places = len(self.batch.places)
        # What fits is computed at once.
        if places <= most:
            return most
        reach = [self.run.reach(method) for method in (*self.weighters, *self.penalties)]
        if Reach.BATCH in reach:
            return places

        # A penalty is multiplied by the mean weight of the whole micro-batch.
        self.looks_ahead = Reach.LOSSES in reach or bool(self.weighters and self.penalties)
        return most

    def look(self, begin: int, end: int, logits: Tensor) -> None:
        """Note the losses of these places, and the weights of methods that need no more than these."""
        nll = self._nll(begin, end, logits)
        self._losses.append(nll)
        for method, parts in zip(self.weighters, self._given, strict=True):
            # Methods that need all losses are asked later, when these are known.
            if self.run.reach(method) is Reach.PLACE:
                parts.append(self._given_weights(method, nll, logits, self.batch.piece(begin, end)))

    def loss(self, begin: int, end: int, logits: Tensor) -> Tensor:
        """Return the weighted loss of these places, summed over them, penalties included."""
        nll = self._nll(begin, end, logits)
        if self.looks_ahead:
            weights = self._settle_all()[begin:end]
        else:
            weights = self._settle(begin, end, nll.detach(), self._weights_of_piece(begin, end, nll, logits))
        loss = (weights * nll).sum()
        if not self.penalties:
            return loss

        # The step divides everything by its normaliser. A penalty is a mean over tokens, so it is multiplied by the mean
        # weight first: the mean so far in the step, which is exact with one micro-batch and where nothing weighs tokens.
        mean_weight = self.sums.normaliser / self.sums.supervised
        part = self.batch.piece(begin, end)
        penalties: list[Tensor] = [ask(method, "penalty", logits, part, self.run) for method in self.penalties]
        extra = reduce(torch.add, penalties).sum()

        # The penalty alone is logged, so that its share of the loss can be read.
        self.sums.penalty += float(extra.detach())
        for method, penalty in zip(self.penalties, penalties, strict=True):
            if depends_on_more(penalty, logits):
                self.aside.append(ask(method, "penalty", logits.detach(), part, self.run).sum() * mean_weight)
        return loss + extra * mean_weight

    def _nll(self, begin: int, end: int, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.batch.labels[begin:end], reduction="none")

    def _given_weights(self, method: Method, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            return ask(method, "token_weights", nll.detach(), logits.detach(), batch).float()

    def _weights_of_piece(self, begin: int, end: int, nll: Tensor, logits: Tensor) -> Tensor:
        """Return the product of what methods weigh these places by."""
        weights = torch.ones_like(nll.detach())
        for method in self.weighters:
            weights = weights * self._given_weights(method, nll, logits, self.batch.piece(begin, end))
        return weights

    def _settle_all(self) -> Tensor:
        """Return the final weights of the whole micro-batch, once all its losses are known."""
        if self._settled is None:
            nll = torch.cat(self._losses)
            weights = torch.ones_like(nll)
            # Those that were asked piece by piece have their weights; the others are asked now,
            # from the losses alone.
            for method, parts in zip(self.weighters, self._given, strict=True):
                given = (
                    torch.cat(parts) if parts else self._given_weights(method, nll, nll.new_empty((len(nll), 0)), self.batch)
                )
                weights = weights * given
            self._settled = self._settle(0, len(nll), nll, weights)
        return self._settled

    @torch.no_grad()
    def _settle(self, begin: int, end: int, nll: Tensor, weights: Tensor) -> Tensor:
        """Add these places to the step's sums; return their final weights."""
        weighted = weights * nll
        if self.weighters:
            self.sums.weigh(nll, weights)

        # Either the weights' sum, or the number of tokens whose weighted loss is not 0, where a method asks for that.
        by_sum = all(method.renorm for method in self.weighters)
        normaliser = float(weights.sum() if by_sum else (weighted != 0).sum())

        # Shares come after the normaliser: unlike weights they are not normalised away.
        for method in self.run.filled("share"):
            share = ask(method, "share", self.batch)
            weights = weights * (share[begin:end] if isinstance(share, Tensor) else share)
        self.sums.add(nll, weights, normaliser)
        return weights


def depends_on_more(value: Tensor, logits: Tensor) -> bool:
    """Return whether a gradient goes from `value` to anything that trains other than through `logits`.

    A mixture's penalty, for example, is a function of its gates in every block.
    """
    # Backwards through the graph: any leaf but the logits is something else that trains.
    seen = {logits.grad_fn}
    nodes = [value.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not logits:
            return True
        nodes += [following for following, _ in node.next_functions]
    return False
