"""One run in several processes that all hold the whole model: plain data parallel, over gloo on CPUs and nccl on GPUs."""

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
from harness.training.checkpoint import method_tensors, restore_methods, write_tensors
from harness.training.engine import Alone

if TYPE_CHECKING:
    from harness.training.ledger import Ledger

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a rank waits for another: the first one evaluates meanwhile."""
LAG = 90.0
"""Seconds that a node may see a shared file system as it was: NFS remembers names for up to a minute."""


def deal(step: Sequence[Example], size: int) -> list[list[Example]]:
    """A step's examples in `size` shares: each example in exactly one, shares nearly equal in number and in tokens.

    Longest first, to and fro (0 1 2 2 1 0 ...): fixed by the examples alone, whatever their order and wherever the ranks are.
    """
    shares: list[list[Example]] = [[] for _ in range(size)]
    for place, example in enumerate(sorted(step, key=lambda e: (-len(e), e.id))):
        turn, rank = divmod(place, size)
        shares[size - 1 - rank if turn % 2 else rank].append(example)
    return shares


class Together(Alone):
    """One rank of several; each sees its share of every step, and gradients are summed over ranks once a step."""

    def __init__(self, rank: int, size: int, meeting: tuple[str, int], device: torch.device):
        """Joins the others at the store that listens at `meeting`, an address and port."""
        self.rank, self.size = rank, size
        store: Any = dist.TCPStore(*meeting, is_master=False, timeout=PATIENCE)  # type: ignore
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        self._talk = dist.new_group(backend="gloo", timeout=PATIENCE)  # words go over the CPU, and never wait for a device

    def leave(self) -> None:
        """The run is over."""
        dist.destroy_process_group()

    def exchange(self, thing: T) -> list[T]:
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing, group=self._talk)
        return things

    def same(self, read: Callable[[], T]) -> T:
        wanted, begin = self.agreed(read()), time.monotonic()
        while (found := read()) != wanted:
            if time.monotonic() - begin > LAG:
                raise OSError(f"{socket.gethostname()} does not see the run's files; put out on a file system of all nodes")
            time.sleep(0.5)
        return found

    def agree(self, ledger: Ledger) -> None:
        ledger.agree(self.exchange(ledger.fresh()))

    def first(self, ledger: Ledger, work: Callable[[], T]) -> T | None:
        found, begin = None, time.perf_counter()
        if self.rank == 0:
            found = work()
        self.agreed(None)
        if self.rank:
            with ledger.charge("waiting", 0.0, Counter(), torch.device("cpu")) as account:
                account.seconds += time.perf_counter() - begin  # devices are held, and paid for, while the first one works
        self.agree(ledger)
        return found

    def deal(self, step: Step) -> list[Step]:
        return deal(step, self.size)

    def reduce(self) -> None:
        under_way = []
        for master, parameter in zip(self.masters.tensors, self.masters.parameters, strict=True):
            if parameter.requires_grad:  # a rank that had no example has no gradient
                master.grad = torch.zeros_like(master) if master.grad is None else master.grad
                under_way.append(dist.all_reduce(master.grad, async_op=True))
        for work in under_way:
            work.wait()  # type: ignore[union-attr]

    def share(self, methods: Sequence[Method], folder: Path, device: torch.device) -> None:
        path = folder / "prepared.safetensors"
        if not self.agreed(bool(method_tensors(methods))):
            return
        if self.rank == 0:
            write_tensors(path, method_tensors(methods))
        self.agreed(None)
        if self.rank:
            restore_methods(path, methods, device)
        self.agreed(None)
        if self.rank == 0:
            path.unlink()

    def gather(self) -> Callable[[], Weights]:
        return super().gather() if self.rank == 0 else dict

    def save(self, folder: Path, methods: Sequence[Method], record: dict[str, Any]) -> None:
        if self.rank == 0:
            super().save(folder, methods, record)
