"""What a pass through a model costs, known before it is made.

FLOPs follow the executed (padded) shapes: price = a * B*T + b * S + c * B*T^2 + d * B + e for a batch of B rows, T tokens a row
and S head places; in a packed batch c counts the sum of its documents' squared lengths. The coefficients are exact for a
transformer and whatever is added to it (d: virtual tokens in front of each row; e: work on weights alone). They come from the
formulas of `torch.utils.flop_counter` over an empty copy of the model (meta device, eager attention: the formulas are blind to
fused CPU attention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from harness.contract import Batch, Example
from harness.errors import PlanError
from harness.models.base_model import empty_model
from harness.models.forward import innermost
from harness.models.meta_shapes import MetaFlops
from harness.models.short_documents import executed_lengths
from harness.models.structure import structure_of

T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """What a batch costs by: rows B, padded tokens a row T, head places S, and where packed what its documents attend over."""

    rows: int
    width: int
    places: int
    documents: tuple[int, ...] = ()

    @classmethod
    def of(cls, batch: Batch) -> Shape:
        rows, width = batch.tokens.shape
        return cls(rows, width, len(batch.places), executed_lengths(batch.documents, batch.tokens.device.type))

    @classmethod
    def padded(cls, examples: Sequence[Example]) -> Shape:
        """Return the shape of the padded batch that these examples will make."""
        return cls(len(examples), max(map(len, examples)), sum(sum(example.supervised[1:]) for example in examples))

    @classmethod
    def packed(cls, examples: Sequence[Example], device: str = "cpu") -> Shape:
        """Return the shape of the packed batch that these examples will make on a device of this type."""
        lengths = tuple(map(len, examples))
        places = sum(sum(example.supervised[1:]) for example in examples)
        return cls(1, sum(lengths), places, executed_lengths(lengths, device))

    @property
    def squares(self) -> int:
        """Sum of the squared lengths that attention runs over."""
        return sum(n * n for n in self.documents) if self.documents else self.rows * self.width**2


@dataclass(frozen=True)
class Price:
    """FLOPs of one pass over a batch, by its shape."""

    token: float
    place: float
    square: float
    row: float
    call: float

    def of(self, shape: Shape) -> float:
        tokens = shape.rows * shape.width
        batch = self.row * shape.rows + self.call
        return self.token * tokens + self.place * shape.places + self.square * shape.squares + batch


PROBES = (Shape(1, 8, 2), Shape(2, 8, 4), Shape(1, 16, 2), Shape(1, 16, 8), Shape(1, 24, 4), Shape(3, 16, 6))


def price_of(model: nn.Module, *, backward: bool) -> Price:
    """Measure a model's price on the meta device, with its present set of trained parameters.

    Models of one structure have one price, so each structure is measured once per process.
    """
    key = structure_of(model, backward)
    if key not in _measured:
        _measured[key] = measure_price(model, backward=backward)
    return _measured[key]


_measured: dict[Any, Price] = {}
"""Prices by `structure_of`."""


def measure_price(model: nn.Module, *, backward: bool) -> Price:
    """Count passes over `PROBES` and fit the price; raises RuntimeError where it does not reproduce them."""
    counted = [count_flops(model, shape, backward=backward) for shape in PROBES]
    price = fit(counted)
    for shape, flops in zip(PROBES, counted, strict=True):
        if abs(price.of(shape) - flops) > 0.005 * flops:
            raise RuntimeError(f"price model off at {shape}: counted {flops:.4g}, priced {price.of(shape):.4g}")
    return price


def fit(counted: Sequence[float]) -> Price:
    """Return the coefficients that give these counts at `PROBES`: whole numbers, less the solver's noise."""
    import numpy as np

    # Linear in tokens, places, squared lengths, rows and calls: what a transformer's passes are
    # made of.
    columns = np.array([[s.rows * s.width, s.places, s.squares, s.rows, 1] for s in PROBES], float)
    solution, *_ = np.linalg.lstsq(columns, np.array(counted, float), rcond=None)
    return Price(*(float(round(x)) for x in solution))


def count_flops(model: nn.Module, shape: Shape, *, backward: bool) -> int:
    """Return the FLOPs of one pass over a batch of this shape by torch's formulas, head only where supervised."""
    from harness.models.forward import logits_at

    batch = empty_batch(shape, next(model.parameters()).device)

    def counted(mask: torch.Tensor) -> int:
        with MetaFlops() as counter, torch.set_grad_enabled(backward), autocast_anywhere():
            logits = logits_at(model, batch, attention_mask=mask)
            if backward:
                logits.sum().backward()
                model.zero_grad()
        return counter.flops

    return with_mask(batch, counted)


def empty_batch(shape: Shape, device: torch.device) -> Batch:
    """Return a padded batch of this shape, of token 0."""
    tokens = torch.zeros((shape.rows, shape.width), dtype=torch.long, device=device)
    places = torch.zeros(shape.places, dtype=torch.long, device=device)
    return Batch(tokens, torch.ones_like(tokens), places, places, ())


def with_mask(batch: Batch, work: Callable[[torch.Tensor], T]) -> T:
    """Return `work` with the batch's mask; on the meta device with a mask of real values, if `work` reads them."""
    try:
        return work(batch.mask)
    except RuntimeError:  # an architecture that looks whether anything is padding
        if not batch.mask.is_meta:
            raise
    try:
        return work(torch.ones(batch.tokens.shape, dtype=torch.long))
    except RuntimeError as error:
        cause = " ".join(str(error).split())
        raise PlanError(
            f"what this architecture computes cannot be counted without weights ({cause}); give another one"
        ) from error


@contextmanager
def autocast_anywhere() -> Iterator[None]:
    """Make `torch.autocast` do nothing on the meta device, where torch refuses it even to switch it off (as peft does)."""
    real: Any = torch.autocast

    def autocast(device_type: str, *args: Any, **options: Any) -> AbstractContextManager[Any]:
        return nullcontext() if device_type == "meta" else real(device_type, *args, **options)

    torch.autocast = autocast  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.autocast = real  # type: ignore[misc]


@dataclass
class Work:
    """What a model was seen to run: FLOPs, and tokens read (padding included)."""

    flops: float = 0.0
    tokens: int = 0


@contextmanager
def executed(model: Any, price: Price) -> Iterator[Work]:
    """Counts every forward of `model` inside, whoever calls it, at its forward `price`; with a key-value cache or without.

    q new tokens of a row that attend to K of the cache and themselves cost a * q + c * q * K, and b a place of the head. Trials
    of what the model can do are not its work (`uncounted`).
    """
    work = Work()

    def forward(_: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        if _paused:
            return
        tokens = args[0] if args else inputs.get("input_ids")

        # With a cache only the new tokens are computed, and they attend to all that came before.
        rows, new = (inputs["inputs_embeds"] if tokens is None else tokens).shape[:2]
        cache = inputs.get("past_key_values")
        seen = new + (cache.get_seq_length() if cache is not None else 0)
        work.flops += rows * (price.token * new + price.square * new * seen + price.row)
        work.tokens += rows * new

    def head(_: nn.Module, __: Any, logits: torch.Tensor) -> None:
        if not _paused:
            work.flops += price.place * (logits.numel() // logits.shape[-1])

    handles = [
        innermost(model).register_forward_pre_hook(forward, with_kwargs=True),  # peft and decoding both call it
        model.get_output_embeddings().register_forward_hook(head),
    ]
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()


_paused: list[None] = []


@contextmanager
def uncounted() -> Iterator[None]:
    """Let no `executed` count a forward inside the context."""
    _paused.append(None)
    try:
        yield
    finally:
        _paused.pop()


@cache
def full_price(path: str, backward: bool) -> Price:
    """Return the price of the base at `path` with everything trained."""
    return price_of(empty_model(path), backward=backward)
