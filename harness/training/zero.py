"""One run in several processes that each hold a part of it: DeepSpeed's ZeRO-2 and ZeRO-3.

DeepSpeed shards and updates gradients, fp32 masters and moments (ZeRO-3: the model too). Lethe's scaling, pulls and clipping
act on this rank's shards: after the last backward pass of a step, its shards of masters and gradients are ordinary flat fp32
tensors, on which these (elementwise) operations work as they do on whole tensors.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Batch, Method, Step, Weights
from harness.models.adapters import Wrapped
from harness.plan.deepspeed import DeepSpeedConfig
from harness.store.files import replacing
from harness.training.checkpoint import ProgressRecord, restore_masters, write_progress, write_state
from harness.training.data_parallel import Together
from harness.training.engine import BatchedRun, TrainedModel, make_optimizer
from harness.training.protocol import Training
from harness.training.shards import Shards


class Zero(Together):
    """One rank of a run whose optimizer DeepSpeed shards, as a DeepSpeed configuration says."""

    sharded = True

    def __init__(self, rank: int, size: int, meeting: tuple[str, int], device: torch.device, config: DeepSpeedConfig):
        super().__init__(rank, size, meeting, device)
        self.config = config
        self._built: ShardedModel | None = None
        """The model built last, which holds DeepSpeed's buffers until another is built."""
        # In stage 3 each rank holds a slice of every weight, so a forward needs all ranks.
        self.forwards_alone = config["zero_optimization"]["stage"] < 3
        # DeepSpeed reads these from the environment. Local ones count the devices that this process sees.
        os.environ["RANK"] = str(rank)
        os.environ["WORLD_SIZE"] = str(size)
        os.environ["LOCAL_RANK"] = str(device.index or 0)
        os.environ["LOCAL_SIZE"] = str(max(1, torch.cuda.device_count()))
        os.environ["DS_ACCELERATOR"] = device.type

    def all_reduce(self, part: float) -> float:
        return sum(self.all_gather(part))

    @property
    def state(self) -> str:
        return f"state-{self.rank}.safetensors"

    def build(self, wrapped: Wrapped, training: Training, methods: Sequence[Method]) -> TrainedModel:
        # The buffers of an earlier model are as large as the model.
        if self._built is not None:
            self._built.deep.destroy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about DeepSpeed's own use of torch
            import deepspeed

            # Compiling this operator takes minutes, and only CPUs use it.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
            trained = [p for p in wrapped.model.parameters() if p.requires_grad]
            inner = make_optimizer(trained, training)
            config = self._fitting(sum(p.numel() for p in trained))
            deep = deepspeed.initialize(model=wrapped.model, optimizer=inner, config=config)[0]
        self._built = ShardedModel(self, deep, Shards(wrapped, deep.optimizer, self.all_reduce), methods)
        return self._built

    def _fitting(self, parameters: int) -> DeepSpeedConfig:
        """Return the configuration with a reduction bucket no larger than what is trained.

        DeepSpeed allocates the whole bucket: 2 GB by default.
        """
        # The default bucket holds 500 million numbers, which is more than a small model has.
        zero = {"reduce_bucket_size": min(500_000_000, parameters)} | self.config["zero_optimization"]
        return self.config | {"zero_optimization": zero}


class ShardedModel(TrainedModel):
    """A model in training of which every rank holds a part, as DeepSpeed cuts it."""

    def __init__(self, engine: Zero, deep: Any, shards: Shards, methods: Sequence[Method]):
        """Take a model as DeepSpeed wraps it, and this rank's shards of its masters."""
        super().__init__(engine, shards, deep.optimizer, methods)
        self.deep = deep
        self.inner = deep.optimizer.optimizer
        """The optimizer that DeepSpeed wraps: it holds this rank's moments."""
        self._shards = shards
        for method in methods:
            shards.cut(method)
        self.begin()

    def begin(self) -> None:
        self.inner.state.clear()

    def aside(self) -> AbstractContextManager[None]:
        """Move nothing: DeepSpeed keeps its tensors in place, and sharding leaves enough memory."""
        return nullcontext()

    def batches(self, run: BatchedRun, step: Step) -> Iterator[tuple[Batch, bool, bool]]:
        """Yield equally many micro-batches on every rank, since all ranks take part in each pass.

        A rank with fewer repeats one that does not count.
        """
        shares = self.engine.split_step(step)
        # A rank with fewer micro-batches repeats one that does not count, so that collectives
        # match.
        passes = max(len(run.groups(share)) for share in shares)
        batches = list(run.batches(shares[self.engine.rank]))
        filler = batches[-1] if batches else next(run.batches(shares[0][:1]))
        for index in range(passes):
            counts = index < len(batches)
            batch = batches[index] if counts else filler
            yield batch, counts, index == passes - 1

    def features(self, run: BatchedRun, batch: Batch) -> Tensor:
        return run.features(self.deep, batch)

    @contextmanager
    def gathered(self, module: nn.Module | None) -> Iterator[None]:
        # Outside stage 3 the weights are whole on each rank.
        if module is None or not self._shards.stage3:
            yield
            return
        from deepspeed import zero

        # DeepSpeed's hooks would free the weights after each call and gather them for the next one, together with the other
        # ranks, which may call the module more often or less often than this one.
        with zero.GatheredParameters(list(module.parameters())), _without_hooks(module):
            yield

    def backward(self, loss: Tensor, last: bool) -> None:
        self.deep.set_gradient_accumulation_boundary(last)
        # DeepSpeed takes the mean over ranks, Lethe the sum.
        self.deep.backward(loss * self.engine.size, scale_wrt_gas=False)
        if last:
            self.masters.take_gradients()

    def reduce(self) -> None:
        """Do nothing: DeepSpeed sums over ranks in the backward pass."""

    def step(self) -> None:
        self._shards.give_gradients()
        self.deep.step()

    def forget(self) -> None:
        for shard in self.masters.tensors:
            shard.grad = None

    def gather(self) -> Callable[[], Weights]:
        values = self._shards.gathered(keep=self.engine.rank == 0)
        # Only rank 0 needs them, and has the room: it evaluates.
        if self.engine.rank > 0:
            return dict
        return lambda: self.masters.wrapped.effective(values)

    def save(self, folder: Path, record: ProgressRecord) -> None:
        # Each rank writes its own part into rank 0's folder, which takes the old one's place when
        # all are done.
        if self.engine.rank == 0:
            with replacing(folder) as fresh:
                write_progress(fresh, record)
                self._save_part(fresh)
        else:
            self._save_part(None)

    def _save_part(self, folder: Path | None) -> None:
        """Write this rank's file into rank 0's folder; rank 0 waits for all."""
        folder = Path(self.engine.broadcast(str(folder)))
        moments = {index: self.inner.state[flat] for index, flat in enumerate(self._shards.flats)}
        write_state(folder / self.engine.state, self.masters, moments, self.methods)
        self.engine.broadcast(None)

    def restore(self, folder: Path) -> None:
        moments = restore_masters(folder / self.engine.state, self.masters)
        for index, flat in enumerate(self._shards.flats):
            state = moments.get(index, {})
            self.inner.state[flat] = {name: tensor.to(flat.device) for name, tensor in state.items()}
        self._shards.refresh()


HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Where torch keeps what is called around a module's passes."""


@contextmanager
def _without_hooks(module: nn.Module) -> Iterator[None]:
    """Call a module, and those inside it, without their hooks."""
    kept = []
    for part in module.modules():
        for name in HOOKS:
            kept.append((part, name, getattr(part, name)))
            setattr(part, name, OrderedDict())
    try:
        yield
    finally:
        for part, name, hooks in kept:
            setattr(part, name, hooks)
