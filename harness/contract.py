"""What a plug-in may see: Method, Batch, Example, Run.

Shapes: a batch holds B rows of T tokens, of which S are supervised (their next-token loss is trained).
The language-model head runs only at those S places, so per-token tensors are flat, `(S,)`, and logits `(S, V)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Example:
    """One tokenised training sequence."""

    id: str
    """Hash of the record it came from."""
    tokens: tuple[int, ...]
    """Token ids, template included."""
    supervised: tuple[bool, ...]
    """True where this token is a target: the answers and their stop tokens."""
    source: str = "domain"
    """`domain`, `general`, `generated` or `anchor` (general data for a penalty alone): the ledger's token classes."""

    stage: int = 1
    """Which of the plan's domain files it comes from, from 1."""
    part: float = 1.0
    """Share of its record's targets that it holds: below 1 where SPLIT cut it."""
    shown: tuple[int, ...] | None = None
    """What the base reads, for `run.base_logits`, in place of the first `hidden` tokens; None: it reads what the model does."""
    hidden: int = 0
    """How many tokens those are: none of them a target."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def as_taught(self) -> Example:
        """What the base reads for `run.base_logits`: the same targets behind what is `shown`."""
        if self.shown is None:
            return self
        tokens = (*self.shown, *self.tokens[self.hidden :])
        supervised = (False,) * len(self.shown) + self.supervised[self.hidden :]
        return replace(self, tokens=tokens, supervised=supervised, shown=None, hidden=0)


@dataclass(frozen=True)
class Batch:
    """One micro-batch, right-padded or packed; examples never attend to each other."""

    tokens: Tensor
    """(B, T) token ids."""
    mask: Tensor
    """(B, T) 1 at real tokens, 0 at padding."""
    places: Tensor
    """(S,) flat positions b * T + t whose logits predict a supervised token."""
    labels: Tensor
    """(S,) the supervised tokens, in the order of `places`."""
    examples: tuple[Example, ...]
    """The B examples, in row order; all in one row where they are packed."""
    documents: tuple[int, ...] = ()
    """Lengths of the examples of a packed batch, which stand end to end in its one row; empty: an example a row."""
    cache: dict[str, Any] = field(default_factory=dict, repr=False)
    """What was computed once for this batch (the base's logits), keyed by its name."""
    whole: Batch | None = field(default=None, repr=False)
    """The micro-batch of which this holds a piece of the places; None if it holds all of them."""
    begin: int = 0
    """Index among the places of `whole` at which the piece begins."""

    def piece(self, begin: int, end: int) -> Batch:
        """Return this micro-batch with its supervised places from `begin` to `end` alone; itself if these are all."""
        if (begin, end) == (0, len(self.places)):
            return self
        return replace(self, places=self.places[begin:end], labels=self.labels[begin:end], cache={}, whole=self, begin=begin)

    @property
    def rows(self) -> Tensor:
        """(S,) the example each supervised token belongs to: its row, where examples are not packed."""
        if self.documents:
            ends = torch.tensor(self.documents, device=self.places.device).cumsum(0)
            return torch.bucketize(self.places, ends, right=True)
        return self.places // self.tokens.shape[1]

    def from_source(self, source: str) -> Tensor:
        """(S,) True where the supervised token's row came from `source`."""
        flags = torch.tensor([e.source == source for e in self.examples], device=self.places.device)
        return flags[self.rows]


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


T = TypeVar("T")
Step = list[Example]
"""The examples of one optimizer step."""
Weights = dict[str, Tensor]
"""Plain parameter name -> effective fp32 weight."""


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
        """A stage's training examples, before RECORDS; those of later stages than the present one are not to be asked for."""

    @property
    def domain(self) -> Sequence[Example]:
        """The training examples of the stage under way."""
        return self.domain_of(self.stage)

    @abstractmethod
    def generator(self, name: str) -> torch.Generator:
        """A fresh CPU generator seeded from (seed, name): one method's draws never move another's."""

    @abstractmethod
    def free_memory(self) -> float:
        """Bytes free on the device, the least of the run's devices; infinite on a CPU."""

    @abstractmethod
    def summed(self, value: float) -> float:
        """A sum over weights, from this process's sum over the part of them that `gradient` and `update` see here."""

    @abstractmethod
    def rng(self, name: str) -> AbstractContextManager[None]:
        """For code that draws from the global generators: forks them, seeds them from (seed, name), restores them."""

    @property
    @abstractmethod
    def general(self) -> Sequence[Example]:
        """The general pool (training part); empty where the plan has none."""

    @abstractmethod
    def near_duplicates(self, examples: Sequence[Example], similar: float) -> list[int]:
        """For each example the place of the first that it nearly repeats, its own where there is none before it.

        `similar` is the least Jaccard similarity of the words' 5-grams, 0.85 or more; above 1 nothing is alike. Not charged.
        """

    @abstractmethod
    def difficulty(self, model: nn.Module, examples: Sequence[Example], by: str) -> Tensor:
        """(n,) how hard `model` finds each example; charged as `reading`, one forward over all.

        `by`: `loss`, the mean token loss in nats, or `similarity`, how far that exceeds what the model's own entropy lets
        expect (mean z_loss - z_entropy over its tokens, harness/decoding/difficulty.py).
        """

    @abstractmethod
    def generate(
        self, model: nn.Module | None, prompts: Sequence[Sequence[int]], *, limit: int, temperature: float, name: str
    ) -> list[Example]:
        """What `model` says after each prompt, sampled from the random stream `name`: examples of source `generated`.

        None is the model in training as it is now: every process of the run must ask, outside `prepare` and its like.
        At most `limit` new tokens, up to and with a stop token; these are supervised. An empty prompt is BOS alone; where the
        model then asks a question, it answers it too. Charged as `generation`, at the price of the forwards that it runs.
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
    def dev_scores(self, model: nn.Module | None = None) -> float | None:
        """Retention, the macro mean score from 0 to 1, on the general dev items, never a test item.

        Of the model in training, or of another. Charged as `dev`, at the price of the forwards that it runs; None where the
        budget does not pay for one more.
        """

    @abstractmethod
    def weights(self) -> Weights:
        """Effective fp32 weights of the model as trained so far, by plain name."""

    @abstractmethod
    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """Length-bucketed micro-batches of these examples, in a fixed order."""

    @abstractmethod
    def nll(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Per-token loss (S,) in nats, fp32, and logits (S, V), fp32. Not charged: wrap it in `charged`."""

    @abstractmethod
    def charged(self, account: str, model: nn.Module, batch: Batch, *, backward: bool) -> AbstractContextManager[Bill]:
        """Bills what runs inside to `account` at the price of a forward (and backward) pass of `model` over `batch`.

        Yields the bill: what a method computes beside that pass is added to it.
        """

    @abstractmethod
    def base_logits(self, batch: Batch, source: str = "domain") -> Tensor:
        """Logits of the untouched base at the supervised tokens of the rows from `source`, no gradient.

        As many rows as `batch.from_source(source)` has True, in its order. Charged as `teacher`, computed once a batch.
        """


class Method:
    """One idea, one file. Override only the hooks the idea needs.

    Settings are the constructor's keywords, each with a default.
    """

    paper: ClassVar[str] = ""
    """Source and equation in words, then its BibTeX."""
    verified: ClassVar[str] = ""
    """What was checked beyond the laws that every method is held to: which figure or law. Empty: nothing more."""
    off: ClassVar[dict[str, Any] | None] = {}
    """Settings at which it is plain fine-tuning bit for bit; None where there are none."""
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
    unsharded: ClassVar[str] = ""
    """Why it does not work where each process holds a part of the weights only (ZeRO-2, ZeRO-3); empty where it does."""
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
        """UPDATE, chained: wraps the optimizer's step, which `step` makes; `weights` are the trained parameters it moves."""
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


def last_answer(example: Example) -> int:
    """Return the place where an example's last answer begins: the first of its last run of supervised tokens."""
    index = len(example) - 1
    while index > 0 and not example.supervised[index]:
        index -= 1
    while index > 0 and example.supervised[index - 1]:
        index -= 1
    return index


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
