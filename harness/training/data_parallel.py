"""One run in several processes that each hold the whole model: plain data parallel, gloo on CPUs and nccl on GPUs."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from harness.contract import Example, Method, Step, Weights
from harness.training.checkpoint import ProgressRecord, method_tensors, restore_methods, write_tensors
from harness.training.engine import Alone, TrainedModel

if TYPE_CHECKING:
    from harness.training.ledger import Ledger

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a rank waits for another: rank 0 evaluates meanwhile."""
LAG = 90.0
"""Seconds for which a node may see an old state of a shared file system: NFS caches names for up to a minute."""


def split_step(step: Sequence[Example], size: int) -> list[list[Example]]:
    """Split a step's examples into `size` shares: each example in exactly one, shares nearly equal in number and tokens.

    Dealt longest first, in a zigzag over the ranks (0 1 2 2 1 0 ...). The examples alone decide, not their order nor where
    the ranks run.
    """
    shares: list[list[Example]] = [[] for _ in range(size)]
    # Dealt out in a snake, longest first: each rank gets a long one and a short one in turn, so no
    # rank waits long for another. Ties are broken by id, so that every rank makes the same split
    # without asking.
    longest_first = sorted(step, key=lambda example: (-len(example), example.id))
    for position, example in enumerate(longest_first):
        turn, rank = divmod(position, size)
        if turn % 2:
            rank = size - 1 - rank
        shares[rank].append(example)
    return shares


class Together(Alone):
    """One rank of several. Each computes its share of every step; gradients are summed over ranks once per step."""

    def __init__(self, rank: int, size: int, meeting: tuple[str, int], device: torch.device):
        """Join the other ranks at the store that listens at `meeting`, an address and port."""
        self.rank = rank
        self.size = size
        # Seven days of patience: rank 0 evaluates while the others wait, which may take hours, and
        # torch's default would end the run.
        store: Any = dist.TCPStore(*meeting, is_master=False, timeout=PATIENCE)  # type: ignore
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        # Python objects go over the CPU, so that they never wait for a device.
        self._objects = dist.new_group(backend="gloo", timeout=PATIENCE)

    def leave(self) -> None:
        """Leave the group of ranks: the run is over."""
        dist.destroy_process_group()

    def all_gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._objects)
        return values

    def wait_until_equal(self, read: Callable[[], T]) -> T:
        # Rank 0 has read what counts; the others read the same files until they agree with it.
        expected = self.broadcast(read())
        begin = time.monotonic()
        content = read()
        while content != expected:
            if time.monotonic() - begin > LAG:
                host = socket.gethostname()
                raise OSError(f"{host} does not see the run's files; put out on a file system of all nodes")
            time.sleep(0.5)
            content = read()
        return content

    def merge_ledgers(self, ledger: Ledger) -> None:
        ledger.merge(self.all_gather(ledger.fresh()))

    def on_rank_zero(self, ledger: Ledger, work: Callable[[], T]) -> T | None:
        begin = time.perf_counter()
        result = work() if self.rank == 0 else None
        # Where every rank waits until the work is done.
        self.broadcast(None)
        # The other ranks hold their devices, which are paid for, while rank 0 works.
        if self.rank:
            with ledger.charge("waiting", 0.0, Counter(), torch.device("cpu")) as account:
                account.seconds += time.perf_counter() - begin
        self.merge_ledgers(ledger)
        return result

    def split_step(self, step: Step) -> list[Step]:
        return split_step(step, self.size)

    @property
    def kind_of_model(self) -> type[TrainedModel]:
        return ReplicatedModel

    def broadcast_method_state(self, methods: Sequence[Method], folder: Path, device: torch.device) -> None:
        path = folder / "prepared.safetensors"
        # Nothing to send where no method prepared anything: the common case, which should not cost
        # a file.
        if not self.broadcast(bool(method_tensors(methods))):
            return
        if self.rank == 0:
            write_tensors(path, method_tensors(methods))

        # The file must be whole before the others read it, and read by all before it is deleted.
        self.broadcast(None)
        if self.rank:
            restore_methods(path, methods, device)
        self.broadcast(None)
        if self.rank == 0:
            path.unlink()


class ReplicatedModel(TrainedModel):
    """A model in training of which every rank holds all."""

    def reduce(self) -> None:
        # Started all at once and awaited together, so that messages overlap.
        sums = []

        # A frozen parameter has no gradient on any rank, and summing nothing would still cost a
        # message each.
        for master, parameter in zip(self.masters.tensors, self.masters.parameters, strict=True):
            if not parameter.requires_grad:
                continue
            if master.grad is None:  # this rank had no example
                master.grad = torch.zeros_like(master)
            sums.append(dist.all_reduce(master.grad, async_op=True))
        for work in sums:
            work.wait()  # type: ignore[union-attr]

    def gather(self) -> Callable[[], Weights]:
        return super().gather() if self.engine.rank == 0 else dict

    def save(self, folder: Path, record: ProgressRecord) -> None:
        if self.engine.rank == 0:
            super().save(folder, record)
