"""A pretended GPU: tensors on it are computed on the CPU, and an operation over two devices fails as it does in CUDA.

`register()` makes the device `fakegpu` known to torch and gives it. That cannot be undone, and torch then believes that this is
the process's accelerator: only for a process that does nothing else (tests/training/test_devices.py starts one).

What CUDA allows is allowed: copies, tensors of the CPU without dimensions (but in no list of tensors), places on the CPU that
index a tensor of the device. A generator of the CPU, an array of numpy and all else are refused. Random numbers are the CPU's,
so a run here has the bits of one on the CPU wherever attention is computed alike (`SDPBackend.MATH`).

Not pretended: memory, streams, speed, kernels of its own (bitsandbytes, Liger, flash attention), and to give a tensor's `data`
the device's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.utils._device  # which torch imports only when it is asked for
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing

NAME = "fakegpu"
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations whose second argument, a list of places, may be on the CPU."""
COMPOSITE = {aten.silu_backward.default}
"""Operations that torch would compute out of others here, in other roundings than the CPU's own."""


class OnDevice(Tensor):
    """A tensor of the device: its values are in `held`, a tensor of the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        kind = {"dtype": held.dtype, "device": torch.device(NAME, 0)}
        made = Tensor._make_wrapper_subclass(cls, held.size(), **layout, **kind)  # type: ignore[attr-defined]
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, *args, **kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # for which `module.to` keeps parameters, and their ties
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> OnDevice:
        return OnDevice(inner["held"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copy = OnDevice(self.held.clone())
            wanted = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if wanted else copy.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:  # type: ignore[override]
        raise TypeError("a tensor of the device is no array: copy it to the CPU first")

    __array__ = numpy


def compute(func: Any, *args: Any, **kwargs: Any) -> Any:
    """One operation: refused over two devices, else computed on the CPU; its answer is where CUDA would leave it."""
    arguments = [*args, *kwargs.values()]
    leaves = list(leaves_of(arguments))
    here = any(isinstance(leaf, OnDevice) for leaf in leaves)
    # where the answer is: beside what is overwritten, on the device that is named, or with the arguments
    named = kwargs.get("device")
    stays = isinstance(args[0], OnDevice) if func is aten.copy_.default else is_ours(named) or (here and named is None)
    if here and func not in COPIES:
        refuse(func, list(foreign(func, arguments)))
    if func in INDEXED and not isinstance(args[0], OnDevice):
        refuse(func, [leaf for leaf in leaves if isinstance(leaf, OnDevice)])
    if stays:
        refuse(func, [leaf for leaf in leaves if isinstance(leaf, torch.Generator)])
    found = func(*[on_host(leaf) for leaf in args], **{name: on_host(leaf) for name, leaf in kwargs.items()})
    if not stays:
        return args[0] if func is aten.copy_.default else found
    return return_and_correct_aliasing(func, args, kwargs, on_device(found))


def leaves_of(arguments: Iterable[Any]) -> Iterator[Any]:
    """What an operation is given; its lists have no lists of their own."""
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from argument
        else:
            yield argument


def foreign(func: Any, arguments: list[Any]) -> Iterator[Tensor]:
    """Tensors of the CPU that CUDA would not take along."""
    for place, argument in enumerate(arguments):
        if func in INDEXED and place == 1:
            continue
        if isinstance(argument, (list, tuple)):
            yield from (leaf for leaf in argument if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice))
        elif isinstance(argument, Tensor) and not isinstance(argument, OnDevice) and argument.dim():
            yield argument


def refuse(func: Any, others: list[Any]) -> None:
    if others:
        told = ", ".join(f"{type(other).__name__}{tuple(getattr(other, 'shape', ()))} on {other.device}" for other in others)
        raise RuntimeError(f"{func} over two devices: {told}")


def is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def on_host(leaf: Any) -> Any:
    """The same where the CPU computes; in lists, all of them."""
    if isinstance(leaf, OnDevice):
        return leaf.held
    if isinstance(leaf, (list, tuple)):
        return [on_host(one) for one in leaf]
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == NAME else leaf


def on_device(found: Any) -> Any:
    """What the CPU answered, with its tensors on the device."""
    if isinstance(found, Tensor):
        return OnDevice(found)
    return type(found)(map(on_device, found)) if type(found) in (list, tuple) else found


class _Factories(TorchFunctionMode):
    """Makes new tensors on the CPU and sends them: torch's own way to make them there would not know of `held`."""

    makers = torch.utils._device._device_constructors() | {torch.as_tensor}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.makers or not is_ours(kwargs.get("device")):
            return func(*args, **kwargs)
        refuse(func, [leaf for leaf in kwargs.values() if isinstance(leaf, torch.Generator)])
        wanted, grows = kwargs.pop("device"), kwargs.pop("requires_grad", False)
        return func(*args, **kwargs).to(wanted).requires_grad_(grows)


class _Backend(torch.utils.backend_registration._DummyBackendModule):
    """What torch asks of a kind of device: here the generator is the CPU's, which is looked after already."""

    def get_rng_state(self, device: Any) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_libraries: list[Any] = []
"""Held, for what they register ends with them."""


def register() -> torch.device:
    """Make the device known to this process, for good."""
    if not _libraries:
        torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
        everything, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
        everything.fallback(lambda func, *args, **kwargs: compute(func, *args, **kwargs), "PrivateUse1")
        for func in COMPOSITE:
            own.impl(func, lambda *args, func=func, **kwargs: compute(func, *args, **kwargs), "PrivateUse1")
        _libraries.extend((everything, own, _Factories()))
        _libraries[-1].__enter__()
    return torch.device(NAME, 0)
