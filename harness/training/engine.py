"""How one run is computed: here, in one process. The other engines say what several processes do differently.

The loop in `harness/training/loop.py` serves all of them. Where a run has several processes (ranks), every rank goes through
that loop
with the same examples, ledger and random streams, so that all take the same decisions; an engine deals a step's examples over
them, adds up what each computed, and holds the trained state (`masters`, `optimizer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from harness.contract import Batch, Example, Method, Step, Weights
from harness.models.adapters import Wrapped
from harness.training.checkpoint import STATE, restore_methods, restore_training, save_checkpoint
from harness.training.masters import Masters

if TYPE_CHECKING:
    from harness.training.ledger import Ledger

T = TypeVar("T")


class ModelInTraining(Protocol):
    """What an engine needs of the run that it computes (`harness.training.run.TrainingRun`)."""

    model: Any

    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """Micro-batches of these examples."""
        ...

    def groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """The examples of each micro-batch."""
        ...

    def nll(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """(logits, token losses) at supervised places, `(S, V)` and `(S,)`."""
        ...


class Alone:
    """One process."""

    rank: int = 0
    """Which of the run's processes this is; the first one writes, evaluates, and prepares."""
    size: int = 1
    """How many there are."""
    sharded: bool = False
    """Whether a rank holds only its part of what is trained."""
    forwards_alone: bool = True
    """Whether one rank can run the model in training without the others."""
    masters: Masters
    optimizer: torch.optim.Optimizer

    # --- what ranks tell each other ---

    def exchange(self, thing: T) -> list[T]:
        """What every rank gives here, in the order of ranks."""
        return [thing]

    def agreed(self, thing: T) -> T:
        """What the first rank gives here."""
        return self.exchange(thing)[0]

    def same(self, read: Callable[[], T]) -> T:
        """What `read` finds on disk, once every rank finds what the first does. Raises OSError where one never will."""
        return read()

    def agree(self, ledger: Ledger) -> None:
        """Put what all ranks spent since the last time in place of what this one did."""

    def first(self, ledger: Ledger, work: Callable[[], T]) -> T | None:
        """What `work` gives where the first rank does it, while the others wait (which is charged); None on the others."""
        return work()

    def total(self, part: float) -> float:
        """The sum over what ranks hold different parts of."""
        return part

    # --- a step ---

    def deal(self, step: Step) -> list[Step]:
        """Each rank's share of a step's examples."""
        return [step]

    def batches(self, run: ModelInTraining, step: Step) -> Iterator[tuple[Batch, bool, bool]]:
        """This rank's micro-batches: (batch, does it count, is it the last)."""
        batches = list(run.batches(self.deal(step)[self.rank]))
        for place, batch in enumerate(batches, 1):
            yield batch, True, place == len(batches)

    def nll(self, run: ModelInTraining, batch: Batch) -> tuple[Tensor, Tensor]:
        """`run.nll` of the model in training."""
        return run.nll(run.model, batch)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Gradients of one micro-batch, summed in the masters'."""
        loss.backward()
        self.masters.take_gradients()

    def reduce(self) -> None:
        """Sum the step's gradients over ranks."""

    def step(self) -> None:
        """Move the masters by their gradients."""
        self.optimizer.step()

    def forget(self) -> None:
        """Drop the gradients of a step that is over, or given up, if need be in the middle of a backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self.masters.parameters:
            parameter.grad = None

    # --- state ---

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, model, masters and moments of this process are in the host's memory; then they are back, bit for bit."""
        moments = (t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, Tensor))
        held = [*self.masters.wrapped.model.parameters(), *self.masters.tensors, *moments]
        home = [(t, t.device) for t in held if t.device.type != "cpu" and not hasattr(t, "quant_state")]
        self.masters.forget_start()
        for tensor, _ in home:
            tensor.data = tensor.data.cpu()
        try:
            yield
        finally:
            for tensor, device in home:
                tensor.data = tensor.data.to(device)

    def build(self, wrapped: Wrapped, weight_decay: float, methods: Sequence[Method]) -> None:
        """Masters and optimizer for a wrapped model; methods keep what they need of what they prepared."""
        self.masters = Masters(wrapped)
        self.weight_decay = weight_decay
        self.begin()

    def begin(self) -> None:
        """An optimizer with fresh moments."""
        self.optimizer = torch.optim.AdamW(self.masters.tensors, lr=0.0, weight_decay=self.weight_decay, fused=True)

    def share(self, methods: Sequence[Method], folder: Path, device: torch.device) -> None:
        """Give every rank what methods prepared on the first."""

    def gather(self) -> Callable[[], Weights]:
        """Gives the effective weights, on the first rank."""
        return self.masters.effective

    def save(self, folder: Path, methods: Sequence[Method], record: dict[str, Any]) -> None:
        """A checkpoint of the run as it stands; whole or not at all."""
        save_checkpoint(folder, self.masters, self.optimizer, methods, record)

    @property
    def state(self) -> str:
        """The file of a checkpoint that holds this rank's tensors."""
        return STATE

    def restore_methods(self, folder: Path, methods: Sequence[Method], device: torch.device) -> None:
        """Give methods back what they had when the checkpoint was saved."""
        restore_methods(folder / self.state, methods, device)

    def restore(self, folder: Path) -> None:
        """Give masters and optimizer back their values."""
        restore_training(folder / self.state, self.masters, self.optimizer)
