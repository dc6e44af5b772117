"""The training protocol and data of a comparison, the same for every recipe."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import nn

from harness.contract import Example
from harness.recipes.optimizer import DEFAULT

DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "constant": lambda x: 1.0,
}
"""Factor on the learning rate after warm-up, by the share x of the rest of the budget that is spent."""

LATER = {"kernels": "plain", "compile": False, "optimizer": DEFAULT}
"""Settings that older questions do not know, at what those runs had."""


@dataclass(frozen=True)
class Training:
    """The training protocol, the same for every recipe of a comparison."""

    learning_rate: float
    """Peak rate, before the factors of RATE hooks."""
    batch_size: int
    """Examples an optimizer step."""
    micro_tokens: int
    """Padded tokens a micro-batch, at most."""
    warmup: float
    """Share of the budget over which the rate rises linearly."""
    decay: str
    """How it falls after that: a name in `DECAYS`."""
    weight_decay: float
    """The optimizer's decay to zero."""
    clip: float
    """Largest gradient norm."""
    precision: str
    """What the model computes in: `bfloat16` or `float32`; masters are always fp32."""
    pack_length: int | None = None
    """Tokens a packed row; None: examples stand in rows of their own, padded."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, and charged twice."""
    kernels: str = "plain"
    """What computes norms, rotary embedding and SwiGLU: `plain` layers, or `liger`."""
    compile: bool = False
    """Whether torch compiles the blocks."""
    optimizer: str = DEFAULT
    """What moves the masters, in its one spelling (harness/recipes/optimizer.py)."""

    @property
    def question(self) -> dict[str, Any]:
        """The protocol as it enters a run's key. Newer fields are left out at their defaults, so that older runs are found."""
        return {key: value for key, value in asdict(self).items() if key not in LATER or value != LATER[key]}

    def rate(self, fraction: float) -> float:
        """Return the learning rate at a fraction (0 to 1) of a stage: linear warm-up, then the decay."""
        if fraction < self.warmup:
            return self.learning_rate * fraction / self.warmup
        return self.learning_rate * DECAYS[self.decay]((fraction - self.warmup) / (1 - self.warmup))


@dataclass(frozen=True)
class TrainingData:
    """Tokenised examples, the same for every recipe."""

    domain: tuple[Example, ...]
    general: tuple[Example, ...]

    # Every run of a comparison asks for these, of the same examples.
    @cached_property
    def domain_fingerprint(self) -> str:
        return fingerprint(self.domain)

    @cached_property
    def general_fingerprint(self) -> str:
        return fingerprint(self.general)


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash of tokenised examples: template, truncation and supervision included."""
    digest = hashlib.sha256()
    for example in examples:
        content = (example.id, example.tokens, example.supervised, example.source)
        digest.update(repr(content).encode())
    return digest.hexdigest()[:16]


OpenDev = Callable[[], Callable[[nn.Module], float]]
"""Returns the function from a model to its retention on dev items; opening it loads tasks, and is free of charge."""


def no_dev_items() -> Callable[[nn.Module], float]:
    """Stand for the dev items of a run that was given none. Raises RuntimeError."""
    raise RuntimeError("this run was given no dev items")


def stage_ends(domain: Sequence[Example]) -> tuple[float, ...]:
    """Return the spent fraction at which each stage ends: each has the part of the budget that its tokens are of all.

    So every file is trained for about the same number of epochs.
    """
    tokens = Counter[int]()
    for example in domain:
        # A stage's share is of tokens, not of examples, because that is what a step costs.
        tokens[example.stage] += len(example)
    total = tokens.total()
    ends = []
    for last in range(1, max(tokens, default=1)):
        ends.append(sum(count for stage, count in tokens.items() if stage <= last) / total)
    return (*ends, 1.0)


def token_classes(examples: Sequence[Example], account: str = "train") -> Counter[str]:
    """Return the real tokens by class: their source when trained on, else the account that processed them."""
    counts: Counter[str] = Counter()
    for example in examples:
        # Only what is trained on is told apart by source (domain, general): the share of general
        # data is read from here.
        counts[example.source if account == "train" else account] += len(example)
    return counts
