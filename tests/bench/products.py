"""How fast a piece of work is beside its own matrix products: the rate of the products alone bounds what it can reach.

All products of one call are recorded by their shapes, strides and types, and each is then timed by itself, on warm caches, in
the same process. The share is the time they would take alone over the time the whole call took.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

REPEATS = 3
"""Times a product is timed, of which the fastest counts."""
LEAST_SECONDS = 0.02
"""A product is repeated within one timing until it takes this long."""
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}
"""Operations whose last two arguments are multiplied."""


@dataclass(frozen=True)
class Product:
    """One matrix product: enough to do it again."""

    operation: Any
    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Multiplications and additions of an (..., M, K) by a (..., K, N)."""
        first, second = self.shapes
        count = 2 * second[-1]
        for size in first:
            count *= size
        return count

    def _matrix(self, shape: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
        """Return a matrix that lies in memory as the recorded one did, strides of 0 included."""
        reach = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        return torch.randn(1 + reach).to(self.dtype).as_strided(shape, stride)

    def seconds(self) -> float:
        """Return the CPU-seconds of one such product alone."""
        matrices = [self._matrix(shape, stride) for shape, stride in zip(self.shapes, self.strides, strict=True)]
        multiply = torch.bmm if self.operation is torch.ops.aten.bmm.default else torch.mm
        multiply(*matrices)
        fastest = float("inf")
        for _ in range(REPEATS):
            begin, count = time.process_time(), 0
            while count == 0 or time.process_time() - begin < LEAST_SECONDS:
                multiply(*matrices)
                count += 1
            fastest = min(fastest, (time.process_time() - begin) / count)
        return fastest


class _Recorded(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        matrices = args[-2:]
        if func in PRODUCTS and matrices[0].device.type == "cpu":  # prices are computed on the meta device
            shapes = tuple(tuple(matrix.shape) for matrix in matrices)
            strides = tuple(matrix.stride() for matrix in matrices)
            self.products[Product(func, shapes, strides, matrices[0].dtype)] += 1
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Share:
    """What the matrix products of some work say of it."""

    flops: float
    alone: float
    """CPU-seconds of the products alone."""
    total: float
    """CPU-seconds of the work."""

    def __str__(self) -> str:
        reached, possible = self.flops / self.total / 1e9, self.flops / self.alone / 1e9
        share = 100 * self.alone / self.total
        return f"{reached:.0f} GFLOP/s of {possible:.0f} that its matrix products reach alone: {share:.0f} %"


def share_of_products(work: Callable[[], float]) -> Share:
    """Return what the products of `work` say of it. It returns the CPU-seconds it took, and is run plainly and recorded."""
    total = work()
    with _Recorded() as recorded:
        work()
    alone = sum(count * product.seconds() for product, count in recorded.products.items())
    flops = sum(count * product.flops for product, count in recorded.products.items())
    return Share(flops, alone, total)
