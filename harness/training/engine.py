"""The engine of a run in one process, and the model that it trains.

Other engines override what several processes change. All share the loop in
`harness/training/loop.py`: every process (rank) of a run goes through that loop with the same
examples, ledger and random streams, so all ranks take the same decisions. The engine splits a
step's examples over the ranks and gathers what each rank has. From a wrapped model it builds a
`TrainedModel`, which has masters and optimizer from its first line on, sums gradients over the
ranks, steps and saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example, Method, Step, Weights
from harness.models.adapters import Wrapped
from harness.recipes.optimizer import read_optimizer
from harness.training.checkpoint import (
    STATE,
    ProgressRecord,
    restore_methods,
    restore_training,
    save_checkpoint,
)
from harness.training.masters import Masters
from harness.training.protocol import Training

if TYPE_CHECKING:
    from harness.training.ledger import Ledger

T = TypeVar("T")


class BatchedRun(Protocol):
    """The part of a run (`harness.training.run.TrainingRun`) that a trained model uses."""

    model: Any

    def batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """Yield the micro-batches of these examples."""
        ...

    def groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Return the examples of each micro-batch."""
        ...

    def features(self, model: Any, batch: Batch) -> Tensor:
        """Return what the model's head reads at supervised positions, `(S, H)`."""
        ...


class Alone:
    """A run in one process, and the interface of the engines of several processes."""

    rank: int = 0
    """Index of this process among the run's processes. Rank 0 writes, evaluates and prepares."""
    size: int = 1
    """Number of processes of the run."""
    sharded: bool = False
    """Whether a rank holds only its part of what is trained."""
    forwards_alone: bool = True
    """Whether one rank can run the model in training without the others."""

    # --- collectives: every rank must call them, in the same order ---

    def all_gather(self, value: T) -> list[T]:
        """Return every rank's `value`, ordered by rank."""
        return [value]

    def broadcast(self, value: T) -> T:
        """Return rank 0's `value`."""
        return self.all_gather(value)[0]

    def wait_until_equal(self, read: Callable[[], T]) -> T:
        """Return what `read` reads from disk, as soon as every rank reads what rank 0 does.

        Raises OSError where a rank never does.
        """
        return read()

    def merge_ledgers(self, ledger: Ledger) -> None:
        """Replace what this rank spent since the last merge by what all ranks spent since then."""

    def on_rank_zero(self, ledger: Ledger, work: Callable[[], T]) -> T | None:
        """Return the result of `work` on rank 0; None on the other ranks, whose wait is charged."""
        return work()

    def all_reduce(self, part: float) -> float:
        """Return the sum of the ranks' parts of a quantity; each rank holds a different part."""
        return part

    # --- what is trained ---

    def split_step(self, step: Step) -> list[Step]:
        """Return each rank's share of a step's examples, ordered by rank."""
        return [step]

    def build(
        self,
        wrapped: Wrapped,
        training: Training,
        methods: Sequence[Method],
    ) -> TrainedModel:
        """Return the model in training: masters and optimizer of a wrapped model.

        Where ranks hold parts of the weights, methods keep this rank's part of what they prepared.
        """
        masters = Masters(wrapped)
        optimizer = make_optimizer(masters.tensors, training)
        return self.kind_of_model(self, masters, optimizer, methods)

    @property
    def kind_of_model(self) -> type[TrainedModel]:
        """The class of the models that this engine builds."""
        return TrainedModel

    # --- what methods prepared ---

    def broadcast_method_state(
        self,
        methods: Sequence[Method],
        folder: Path,
        device: torch.device,
    ) -> None:
        """Copy to every rank what methods prepared on rank 0."""

    @property
    def state(self) -> str:
        """Name of the file of a checkpoint that holds this rank's tensors."""
        return STATE

    def restore_methods(
        self,
        folder: Path,
        methods: Sequence[Method],
        device: torch.device,
    ) -> None:
        """Restore what methods had when the checkpoint was saved."""
        restore_methods(folder / self.state, methods, device)


def make_optimizer(tensors: Sequence[Tensor], training: Training) -> torch.optim.Optimizer:
    """Return the optimizer of every run, as the protocol names it. Its rate is set at each step."""
    optimizer = read_optimizer(training.optimizer)
    settings: dict[str, Any] = dict(optimizer.settings)
    decay = training.weight_decay
    match optimizer.name:
        case "sgd":
            return torch.optim.SGD(tensors, lr=0.0, weight_decay=decay, **settings)
        case "adafactor":
            return torch.optim.Adafactor(tensors, lr=0.0, weight_decay=decay)
        case _:
            betas = (settings["beta1"], settings["beta2"])
            eps = settings["eps"]
            return torch.optim.AdamW(tensors, 0.0, betas, eps, weight_decay=decay, fused=True)


class TrainedModel:
    """A wrapped model in training in one process: fp32 masters, their optimizer, and its passes."""

    def __init__(
        self,
        engine: Alone,
        masters: Masters,
        optimizer: torch.optim.Optimizer,
        methods: Sequence[Method],
    ):
        self.engine = engine
        self.masters = masters
        self.optimizer = optimizer
        self.methods = tuple(methods)

    # --- a step ---

    def batches(self, run: BatchedRun, step: Step) -> Iterator[tuple[Batch, bool, bool]]:
        """Yield this rank's micro-batches as (batch, does it count, is it the last)."""
        share = self.engine.split_step(step)[self.engine.rank]
        batches = list(run.batches(share))
        for number, batch in enumerate(batches, 1):
            yield batch, True, number == len(batches)

    def features(self, run: BatchedRun, batch: Batch) -> Tensor:
        """Return `run.features` of the model in training."""
        return run.features(run.model, batch)

    def gathered(self, module: nn.Module | None) -> AbstractContextManager[None]:
        """Let this rank call a module inside the context by itself, as often as it likes.

        Every rank must enter the context. None: a module that is not called by itself.
        """
        return nullcontext()

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of one micro-batch to the masters' gradients."""
        loss.backward()
        self.masters.take_gradients()

    def reduce(self) -> None:
        """Sum the step's gradients over ranks."""

    def step(self) -> None:
        """Update the masters by their gradients."""
        self.optimizer.step()

    def forget(self) -> None:
        """Drop the gradients of a step that is over, or given up in the middle of a pass."""
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self.masters.parameters:
            parameter.grad = None

    # --- state ---

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep model, masters and moments of this process in host memory inside the context.

        Afterwards they are back on their devices, bit for bit.
        """
        tensors = [*self.masters.wrapped.model.parameters(), *self.masters.tensors]
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, Tensor)]

        # Quantised weights stay: their data cannot be moved without their quantisation state.
        moved = []
        for tensor in tensors:
            if tensor.device.type != "cpu" and not hasattr(tensor, "quant_state"):
                moved.append((tensor, tensor.device))

        # What pulls keep of the base on the device would hold as much memory as what is moved.
        self.masters.forget_start()
        for tensor, _ in moved:
            tensor.data = tensor.data.cpu()
        try:
            yield
        finally:
            for tensor, device in moved:
                tensor.data = tensor.data.to(device)

    def begin(self) -> None:
        """Start a stage: with fresh moments."""
        self.optimizer.state.clear()

    def gather(self) -> Callable[[], Weights]:
        """Return a function that returns the effective weights on rank 0."""
        return self.masters.effective

    def save(self, folder: Path, record: ProgressRecord) -> None:
        """Save a checkpoint of the run's present state, whole or not at all."""
        save_checkpoint(folder, self.masters, self.optimizer, self.methods, record)

    def restore(self, folder: Path) -> None:
        """Restore masters and optimizer from a checkpoint."""
        restore_training(folder / self.engine.state, self.masters, self.optimizer)
