"""What operations answer on the meta device, remembered; and the FLOPs of a pass over an empty model.

torch works out the shape of most answers on the meta device in Python, anew for each operation of each layer. An answer's
shape, strides and type follow from those of the arguments, so they are worked out once a process here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class _Answer:
    """Size, strides and type of each tensor that an operation gave; `single` where it gave no tuple."""

    tensors: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]
    single: bool

    def made(self) -> Any:
        """Return new tensors like those."""
        tensors = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in self.tensors]
        return tensors[0] if self.single else tuple(tensors)


_known: dict[Any, _Answer] = {}
"""By operation and arguments."""


class MetaShapes(TorchDispatchMode):
    """Inside, operations on the meta device are worked out once for each kind of arguments."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, HigherOrderOperator):
            return NotImplemented
        kwargs = kwargs or {}
        # What was worked out once for such arguments is only made again in its shape.
        key = _key_of(func, args, kwargs)
        if key in _known:
            return _known[key].made()
        result = func(*args, **kwargs)
        if key is not None and (answer := _answer_of(result, args)):
            _known[key] = answer
        return result


class MetaFlops(MetaShapes):
    """Counts, in `flops`, what torch's own formulas say that the operations inside cost."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        result = super().__torch_dispatch__(func, types, args, kwargs)
        # Counted whether or not the shapes were known already; what has no formula costs nothing.
        formula = flop_registry.get(getattr(func, "_overloadpacket", None))
        if formula is not None:
            self.flops += formula(*args, **kwargs or {}, out_val=result)
        return result


def _key_of(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an answer follows from; None where it may depend on values, or is one of the arguments or a view of one."""
    if not _makes_tensors(func):
        return None
    try:
        key = (func, _described(args), _described(tuple(kwargs.items())), torch.get_default_dtype())
        hash(key)
    except TypeError:
        return None
    return key


@cache
def _makes_tensors(func: Any) -> bool:
    """Return whether an operation modifies no argument and returns new tensors only, by its schema."""
    schema = func._schema
    makes_own = all(str(value.type) == "Tensor" and value.alias_info is None for value in schema.returns)
    return makes_own and bool(schema.returns) and not schema.is_mutable


def _described(argument: Any) -> Any:
    """Return a hashable description of an argument; raises TypeError for a tensor that has values."""
    if isinstance(argument, Tensor):
        if not argument.is_meta or type(argument) not in (Tensor, torch.nn.Parameter):
            raise TypeError("only tensors without values are told by their shapes")
        return argument.shape, argument.stride(), argument.dtype
    if isinstance(argument, tuple | list):
        return tuple(map(_described, argument))
    return type(argument), argument


def _answer_of(result: Any, args: Any) -> _Answer | None:
    """Return what to remember of an answer; None where it has no tensor, or shares its storage with an argument after all."""
    # Lists and numbers are left to torch: there is nothing to win with them.
    tensors = result if isinstance(result, tuple) else (result,)
    if not all(type(tensor) is Tensor and tensor.is_meta for tensor in tensors):
        return None
    # A view that its schema does not declare would be made as a tensor of its own.
    storages = {argument.untyped_storage()._cdata for argument in args if isinstance(argument, Tensor)}
    if any(tensor.untyped_storage()._cdata in storages for tensor in tensors):
        return None
    return _Answer(tuple((t.size(), t.stride(), t.dtype) for t in tensors), tensors is not result)
