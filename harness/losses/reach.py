"""What a method looks at to decide on one place: that place, the losses of all places of the micro-batch, or everything there.

Most weights and penalties are functions of single places, and can be computed for a piece of the places at a time. Some are
not: a temperature may follow the mean loss of the micro-batch. A trial decides: on a small batch of random logits, copies of
the method must return for pieces what they return for the whole.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from enum import IntEnum
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.contract import Batch, Example, Method, Run, overrides
from harness.models.batches import collate
from harness.recipes.hooks import ask

CUTS = (0, 5, 6, 12)
"""Bounds of the pieces into which the trial's twelve places are cut."""
SPREADS = (0.1, 4.0)
"""Standard deviations of the logits that are tried: nearly uniform, and sharp."""
SOURCES = ("domain", "general", "domain", "anchor")
"""The sources of the trial's examples."""


class Reach(IntEnum):
    """What a method needs at once, the least first."""

    PLACE = 0
    """One place's logits: any piece will do."""
    LOSSES = 1
    """The losses of all places, and no logits."""
    BATCH = 2
    """The logits of all places."""


class TrialRun:
    """A run as methods see it in a trial: the base's logits are random, everything else is the run's own."""

    def __init__(self, run: Run, base_logits: Tensor):
        self._run = run
        self._base_logits = base_logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        """Return rows `(n, V)` of random logits, the same for a place in every piece."""
        rows = self._base_logits[batch.begin : batch.begin + len(batch.places)]
        return rows[batch.from_source(source)]


def reach_of(method: Method, run: Run, vocabulary: int, device: torch.device) -> Reach:
    """Return what a method's token weights and penalty need at once."""
    needs = [Reach.PLACE]
    if overrides(method, "token_weights"):
        needs.append(reach_of_weights(method, vocabulary, device))
    if overrides(method, "penalty"):
        needs.append(reach_of_penalty(method, run, vocabulary, device))
    return max(needs)


def reach_of_weights(method: Method, vocabulary: int, device: torch.device) -> Reach:
    """Return what the method's `token_weights` need at once, for a model with so many tokens."""

    def weigh(copied: Method, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        return ask(copied, "token_weights", nll, logits, batch)

    def by_losses(copied: Method, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        return ask(copied, "token_weights", nll, logits[:, :0], batch)

    # The weaker the need, the smaller the pieces, so the weakest is tried first.
    trials = [_trial_batch(vocabulary, spread, device) for spread in SPREADS]
    if all(_same_in_pieces(method, weigh, *trial) for trial in trials):
        return Reach.PLACE
    if all(_same(method, weigh, by_losses, *trial) for trial in trials):
        return Reach.LOSSES
    return Reach.BATCH


def reach_of_penalty(method: Method, run: Run, vocabulary: int, device: torch.device) -> Reach:
    """Return what the method's `penalty` needs at once: a place or everything."""
    for spread in SPREADS:
        batch, logits = _trial_batch(vocabulary, spread, device)
        # Another order of the same numbers: logits of the base that differ from the model's.
        trial_run = TrialRun(run, logits.flip(0))

        def penalise(copied: Method, _: Tensor, logits: Tensor, batch: Batch, trial_run: TrialRun = trial_run) -> Tensor:
            return ask(copied, "penalty", logits, batch, trial_run)

        if not _same_in_pieces(method, penalise, batch, logits):
            return Reach.BATCH
    return Reach.PLACE


Hook = Callable[[Method, Tensor, Tensor, Batch], Tensor]
"""A hook of a method, from the losses `(S,)`, the logits `(S, V)` and the batch to a tensor `(S,)`."""


def _trial_batch(vocabulary: int, spread: float, device: torch.device) -> tuple[Batch, Tensor]:
    """Return a padded batch of twelve supervised places, and random logits for them."""
    # Sources alternate, so that a hook that looks at one of them is seen to.
    rng = random.Random(0)
    examples = []
    for index, source in enumerate(SOURCES):
        tokens = tuple(rng.randrange(vocabulary) for _ in range(5 + index % 2))
        supervised = tuple(position >= len(tokens) - 3 for position in range(len(tokens)))
        examples.append(Example(f"trial-{index}", tokens, supervised, source))
    batch = collate(examples, device)
    drawn = torch.randn((len(batch.places), vocabulary), generator=torch.Generator().manual_seed(0))
    return batch, (spread * drawn).to(device)


def _same_in_pieces(method: Method, hook: Hook, batch: Batch, logits: Tensor) -> bool:
    """Return whether a hook gives for pieces what it gives for the whole."""

    def in_pieces(copied: Method, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        parts = []
        for begin, end in pairwise(CUTS):
            parts.append(hook(copied, nll[begin:end], logits[begin:end], batch.piece(begin, end)))
        return torch.cat(parts)

    return _same(method, hook, in_pieces, batch, logits)


@torch.no_grad()
def _same(method: Method, expected: Hook, other: Hook, batch: Batch, logits: Tensor) -> bool:
    """Return whether two ways to call a hook give the same, each on a copy of the method and with the same random numbers."""
    nll = F.cross_entropy(logits, batch.labels, reduction="none")
    values = []
    devices = [logits.device] if logits.device.type == "cuda" else []
    try:
        for way in (expected, other):
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(0)
                values.append(way(copy.deepcopy(method), nll, logits, batch).float())
    except Exception:
        # A method that cannot be tried, for whatever reason, gets everything at once, as training without pieces does.
        return False
    return torch.allclose(values[0], values[1], rtol=1e-5, atol=1e-7)
