"""Method: one idea in one file, and the hooks that it may fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.interface.examples import Batch, Example, Step, Weights
from harness.interface.run import Run


class Folding(ABC):
    """How a layer that a method puts around a linear layer of the base amounts to a plain weight: that layer's `folding`."""

    factors: tuple[nn.Parameter, ...]
    """What the layer trains, in the order in which `__call__` takes it."""

    @abstractmethod
    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """Return the effective weight where the base has `start`, both `(out, in)`; differentiable in the factors."""


class Need(StrEnum):
    """What a method may ask for in `needs`, by its name as a string or as a member."""

    GENERAL_DATA = "general_data"
    """A pool of general examples, to train on or to calibrate with. It sets the track."""
    BASE_LOGITS = "base_logits"
    """The base's logits beside the trained model's (`run.base_logits`)."""
    DEV_SCORES = "dev_scores"
    """Scores on general dev items while it trains (`run.dev_scores`)."""
    LINE = "line"
    """A way back to the base's weights, or to points between (`finish` goes there)."""
    STAGES = "stages"
    """More than one data file, trained on in turn."""


class Method:
    """One idea, one file. Override only the hooks the idea needs.

    Settings are the constructor's keywords, each with a default.
    """

    paper: ClassVar[str] = ""
    """Source and equation in words, then its BibTeX."""
    verified: ClassVar[str] = ""
    """What was checked beyond the laws that every method is held to: which figure or law. Empty: nothing more."""
    off: ClassVar[dict[str, Any] | None] = {}
    """Settings at which it is plain fine-tuning, whatever the others are; None where there are none.

    A method at these settings is left out of its run, so what its hooks would prepare is neither made nor charged.
    """
    search: ClassVar[dict[str, tuple[float, float]]] = {}
    """Setting -> range, for tuning."""
    bounds: ClassVar[dict[str, str | tuple[str, ...]]] = {}
    """Setting -> what it may be: an interval as "[0, 1]" or "(0, inf)", or a tuple of words (harness/text/bounds.py)."""
    plain: ClassVar[bool] = False
    """Whether it fills no hook on purpose."""
    lr_scale: float = 1.0
    """Its learning rate over full fine-tuning's."""
    renorm: bool = True
    """Whether token weights are divided by their sum; else by the number of tokens whose weighted loss is not 0."""
    needs: frozenset[str] = frozenset()
    """Names of `Need`. General data sets the track."""
    base_source: str = "domain"
    """The source of the rows on which it asks for `run.base_logits`: a step is priced before it is made."""
    holds: float = 0.0
    """fp32 numbers that it holds for each trained weight, beside what its `pull` goes by: for the memory that is predicted."""
    unsharded: ClassVar[str] = ""
    """Why it does not work where each process holds a part of the weights only (ZeRO-2, ZeRO-3); empty where it does."""
    adamw_only: ClassVar[str] = ""
    """Why it works only where the plan's optimizer is AdamW with `beta1` 0.9; empty where it does with any."""
    decoupled: ClassVar[bool] = False
    """Whether its pull is a plain step of its own, outside clipping and the optimizer's moments."""
    adds: ClassVar[str] = ""
    """Where its parameters stand: `linear`, `feed_forward`, `blocks` or `tokens`; empty: it chooses among the base's own."""
    folds: ClassVar[bool] = False
    """Whether what it adds folds into plain weights; else what is evaluated is wrapped too."""
    unlike_base: ClassVar[str] = ""
    """Why the freshly wrapped model is not the base, so that no line leads there; empty where it is."""

    def records(self, examples: list[Example], run: Run) -> list[Example]:
        """RECORDS, chained: drop, order or rewrite the domain examples before batching."""
        return examples

    def prepare(self, model: nn.Module, run: Run) -> None:
        """Look at the untouched base, before any wrapping: Fisher, statistics, generation. Charged."""

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        """PARAMS, adders chain, one selector: freeze or wrap. Returns the model to train."""
        return model

    def order(self, examples: list[Example], run: Run, generator: torch.Generator) -> list[Example]:
        """ORDER, one method: the order in which an epoch's steps take the domain examples; asked anew for every epoch."""
        return [examples[i] for i in torch.randperm(len(examples), generator=generator).tolist()]

    def rests(self, name: str, fraction: float) -> bool:
        """RESTS, any: does this trained weight (plain name) rest, without gradient or cost, at this spent fraction?"""
        return False

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        """DATA, chained: what each optimizer step trains on."""
        return steps

    def split(self, step: Step, run: Run) -> list[Step]:
        """SPLIT, chained: the optimizer updates that one step's examples become, after all DATA hooks."""
        return [step]

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """WEIGHTS, multiplied: (S,) weights of the tokens' losses; called without gradient, in fp32.

        Where a micro-batch's logits are too many to hold, this is called for pieces of its places (`batch` is then a piece), if
        a trial shows that the weights stay the same: else for all places with `logits` of shape (S, 0), else with everything.
        """
        raise NotImplementedError

    def share(self, batch: Batch) -> Tensor | float:
        """SHARE, multiplied: (S,) factor on the task loss, for methods whose formula gives part of it away (distillation).

        Unlike a weight it is not normalised away.
        """
        return 1.0

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        """PENALTY, summed: (S,) extra loss at each supervised token, a function of the logits.

        Called for pieces of the places as `token_weights` is. Where it is a function of more than logits (of what the blocks
        computed), it is asked twice, once with logits that have no gradient.
        """
        raise NotImplementedError

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor | None:
        """PULL, summed: elementwise gradient on an effective weight (or a shard of it), after backward, before clipping.

        Where the method is `decoupled`: theta moves by -rate * pull beside the optimizer's step, as AdamW's own decay does.
        """
        raise NotImplementedError

    def gradient(self, weights: Weights, gradients: Weights, run: Run) -> None:
        """GRADIENT, chained: look at or change the step's mean gradients in place, before pulls and clipping.

        Both by trained parameter, fp32 (an adapter's own factors, not effective weights).
        """

    def update(self, step: Callable[[], None], weights: Weights, run: Run) -> None:
        """UPDATE, chained: wraps the optimizer's step and decoupled pulls, which `step` makes; `weights` are what it moves."""
        step()

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        """STAGE: a later stage begins (`run.stage` is 2 or more); `model` is an unwrapped copy of what is trained so far.

        What is measured on it is charged to the stage that begins.
        """

    def observe_loss(self, loss: float) -> None:
        """LOSS, each: the step's mean token loss (nats, unweighted), once its gradients are taken and before its rate is asked.

        What is kept of it belongs into `state`.
        """

    def rate(self, fraction: float) -> float:
        """RATE, multiplied: factor on the learning rate by spent fraction of the budget."""
        return 1.0

    def stop(self, run: Run) -> bool:
        """STOP, any: end the run now, before its budget is spent?"""
        return False

    def finish(self, weights: Weights, run: Run) -> Weights:
        """MERGE, chained: the final weights, from the trained ones, both plain and effective."""
        return weights

    def notes(self) -> list[str]:
        """Sentences the report must show: what was measured or decided on the way."""
        return []

    def log(self) -> dict[str, float]:
        """LOG: what an optimizer step's line in the log should say of the method's own state, by name."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What `prepare` learned and a resumed run must have again, as tensors."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""


HOOKS = tuple(name for name, value in vars(Method).items() if callable(value) and not name.startswith("_"))
"""Every hook's name."""


def overrides(method: Method, hook: str) -> bool:
    """Whether the method fills this hook: its axes are read off, not declared."""
    return getattr(type(method), hook) is not getattr(Method, hook)


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The model's transformer blocks, in order: its longest list of modules."""
    return max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len)


PLACES = {
    "": "chooses among the base's own weights",
    "linear": "adds to the linear layers",
    "feed_forward": "adds behind the feed-forward layers",
    "blocks": "adds blocks",
    "tokens": "adds virtual tokens",
}
"""Where a method adds parameters (`Method.adds`), in the order of wrapping: what is added later is not wrapped in turn."""


CHAINED_PLACES = frozenset({"linear", "feed_forward"})
"""Places whose methods go together; every other method stands alone on this axis."""
