"""Hooks called and what they return checked: a method of somebody else's that returns a wrong thing is named with its hook.

Without this a None or a wrong shape would fail far from where it was made, or be broadcast and train something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Example, Method, Run, Step


class HookError(Exception):
    """A hook returned what its contract does not allow (harness/contract.py)."""


def ask(method: Method, hook: str, *arguments: Any) -> Any:
    """Call a method's hook and return its value. Raises HookError if the contract does not allow the value."""
    # A wrong value is named here, with its hook: further on it would only be a wrong shape.
    value = getattr(method, hook)(*arguments)
    if hook in RETURNS:
        allowed, expected = RETURNS[hook]
        if not allowed(value, *arguments):
            raise HookError(
                f"{type(method).__name__}.{hook} returned {described(value)}, and must return {expected(*arguments)}"
            )
    return value


def ask_stream(method: Method, steps: Iterator[Step], run: Run) -> Iterator[Step]:
    """Yield the steps that a method makes of these, each checked as it comes."""
    for step in ask(method, "stream", steps, run):
        if not _examples(step) or not step:
            text = f"{type(method).__name__}.stream yielded {described(step)}, and must yield lists of examples, none empty"
            raise HookError(text)
        yield step


def described(value: Any) -> str:
    """Return what a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None:
        return "None (is a return missing?)"
    if isinstance(value, int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def _examples(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(example, Example) for example in value)


def _steps(value: Any, *_: Any) -> bool:
    return isinstance(value, list) and all(_examples(step) and step for step in value)


def _like(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape


def _shares(value: Any, batch: Any) -> bool:
    return _like(value, batch.labels) or (isinstance(value, int | float) and math.isfinite(value))


def _weights(value: Any, weights: Mapping[str, Tensor], *_: Any) -> bool:
    named = isinstance(value, dict) and value.keys() <= weights.keys()
    return named and all(_like(tensor, weights[name]) for name, tensor in value.items())


def _truth(value: Any, *_: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool and value.numel() == 1)


def _rate(value: Any, *_: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _shape(tensor: Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}"


RETURNS: dict[str, tuple[Callable[..., bool], Callable[..., str]]] = {
    "records": (lambda value, *_: _examples(value), lambda *_: "a list of examples"),
    "trainable": (lambda value, *_: isinstance(value, nn.Module), lambda *_: "the model to train, a torch module"),
    "order": (lambda value, *_: _examples(value), lambda *_: "a list of the epoch's examples"),
    "rests": (_truth, lambda *_: "True or False"),
    "stream": (lambda value, *_: hasattr(value, "__iter__"), lambda *_: "an iterator of steps, each a list of examples"),
    "split": (_steps, lambda *_: "a list of steps, each a list of examples, none empty"),
    "token_weights": (lambda value, nll, *_: _like(value, nll), lambda nll, *_: f"{_shape(nll)}, a weight for each token"),
    "share": (_shares, lambda batch: f"a number, or {_shape(batch.labels)}"),
    "penalty": (
        lambda value, logits, *_: _like(value, logits[:, 0]),
        lambda logits, *_: f"{_shape(logits[:, 0])}, a loss for each token",
    ),
    "pull": (
        lambda value, name, theta, start: value is None or _like(value, theta),
        lambda name, theta, start: f"None or {_shape(theta)}, as the weight {name} has",
    ),
    "rate": (_rate, lambda *_: "a finite factor of 0 or more"),
    "stop": (_truth, lambda *_: "True or False"),
    "finish": (_weights, lambda *_: "a dict of the weights it was given, by name and of their shapes"),
    "notes": (
        lambda value: isinstance(value, list) and all(isinstance(note, str) for note in value),
        lambda: "a list of sentences",
    ),
    "log": (
        lambda value: isinstance(value, dict) and all(isinstance(number, int | float) for number in value.values()),
        lambda: "a dict of numbers by name",
    ),
    "state": (
        lambda value: isinstance(value, dict) and all(isinstance(tensor, Tensor) for tensor in value.values()),
        lambda: "a dict of tensors by name",
    ),
}
"""Hook -> whether a value is allowed, given the hook's arguments too, and what is, in words."""
