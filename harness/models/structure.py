"""What a model is made of, as far as a pass over it costs: models of one structure are measured once."""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn


def structure_of(model: nn.Module, backward: bool) -> Any:
    """Return a hash of all that a pass over the model can cost: its modules' classes, settings and shapes, and what trains.

    What a module holds beside its parameters counts too: buffers by their shapes, and objects that compute for it (as peft's
    variants of a layer do) by their class and what they hold. `training` is left out, since dropout multiplies no matrices. A
    model that runs code of its own (hooks, a forward replaced on an instance, a function made on the spot) is like no other.
    """
    config = getattr(model, "config", None)
    parts: list[Any] = [backward, config.to_dict() if config is not None else None]
    for name, module in model.named_modules():
        # A hook may do anything, so such a model shares its price with no other.
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return object()
        settings = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        try:
            held = _described(settings, ())
        except TypeError:
            return object()
        parts.append((name, _class_of(module), held, [(key, _shape_of(value)) for key, value in tensors]))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that torch gives each module: its parameters, buffers, modules and hooks, and whether it trains."""


def _described(value: Any, within: tuple[int, ...]) -> Any:
    """Return a description of a value, whose `repr` is that of another value only where a pass over both costs the same.

    `within` holds the ids of the objects around it, which are not described again. Raises TypeError for what cannot be told:
    a function made on the spot, an object that shows nothing of itself.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device | torch.Size):
        return value
    if isinstance(value, Tensor):
        return _shape_of(value)
    if id(value) in within or isinstance(value, nn.Module):
        return _class_of(value)  # the model's own modules are described on their own
    within = (*within, id(value))
    if isinstance(value, dict):
        return _class_of(value), [(_described(key, within), _described(item, within)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return _class_of(value), [_described(item, within) for item in value]
    if isinstance(value, set | frozenset):
        return _class_of(value), sorted(repr(_described(item, within)) for item in value)
    if isinstance(value, Enum):
        return _class_of(value), value.name
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return _function_of(value)
    if isinstance(value, MethodType):
        return _function_of(value.__func__), _described(value.__self__, within)
    if isinstance(value, partial):
        return "partial", _described((value.func, value.args, value.keywords), within)
    return _class_of(value), _described(vars(value), within)  # TypeError where it has no attributes to show


def _shape_of(tensor: Tensor) -> Any:
    """Return what a tensor costs by: its shape, and whether it trains."""
    return tuple(tensor.shape), tensor.requires_grad


def _class_of(value: Any) -> str:
    """Return the name of a value's class, by which two classes are told apart."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _function_of(function: Any) -> str:
    """Return the name of a function or class of a module; raises TypeError for one that was made on the spot."""
    if "<" in function.__qualname__:
        raise TypeError(f"{function} is made on the spot, and may hold anything")
    return f"{function.__module__}.{function.__qualname__}"
