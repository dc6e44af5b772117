"""The registry of this suite's functions: what each is tried on, and its source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

CHECKS: dict[str, list[tuple[Any, ...]]] = {}
"""Function -> arguments it is tried on, on which a wrong one gives itself away."""
REGISTERED: dict[str, Callable[..., Any]] = {}
"""Name -> function, in the order of import."""


def tried_on(*arguments: tuple[Any, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function with the arguments it is tried on."""

    def registered(function: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS[function.__name__] = list(arguments)
        REGISTERED[function.__name__] = function
        return function

    return registered


def source_of(name: str) -> str:
    """Return a function's source without its decorator, as `ast.unparse` writes it."""
    tree = ast.parse(inspect.getsource(REGISTERED[name]))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    return ast.unparse(tree)
