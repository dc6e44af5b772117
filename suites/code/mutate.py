"""Kinds of mutation: each changes one place of a function so that it still compiles and no longer does what it says."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[ast.AST], Iterator[Callable[[], None]]]
"""Yields, for a node, the changes that can be made to it."""
COMPARED: dict[type, type] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
BOUNDARY: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
EQUAL: dict[type, type] = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}
SUM: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
PRODUCT: dict[type, type] = {
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
CALLS = {
    "max": "min", "min": "max", "upper": "lower", "lower": "upper", "isdigit": "isalpha", "sorted": "list",
    "sum": "max", "keys": "values", "enumerate": "list", "set": "list", "abs": "float",
}  # fmt: skip
STEPS = 20_000
"""Lines that a function may run before it counts as one that never ends."""


def _set(node: ast.AST, **fields: Any) -> None:
    """Set several fields of a node."""
    for name, value in fields.items():
        setattr(node, name, value)


def _longer(loop: ast.For | ast.While, last: ast.stmt) -> ast.stmt:
    """Return a loop with a statement more at its end."""
    loop.body.append(last)
    return loop


def _swapped(node: ast.AST, owner: type, field: str, table: dict[type, type]) -> Iterator[Callable[[], None]]:
    """Yield the change of an operator to its partner in a table."""
    if isinstance(node, owner):
        operator = getattr(node, field)
        first = operator[0] if isinstance(operator, list) else operator
        if type(first) in table:
            other = table[type(first)]()
            yield lambda: setattr(node, field, [other, *operator[1:]] if isinstance(operator, list) else other)


def _sums(node: ast.AST) -> Iterator[Callable[[], None]]:
    yield from _swapped(node, ast.BinOp, "op", SUM)
    yield from _swapped(node, ast.AugAssign, "op", SUM)


def _products(node: ast.AST) -> Iterator[Callable[[], None]]:
    yield from _swapped(node, ast.BinOp, "op", PRODUCT)
    yield from _swapped(node, ast.AugAssign, "op", PRODUCT)


def _booleans(node: ast.AST) -> Iterator[Callable[[], None]]:
    yield from _swapped(node, ast.BoolOp, "op", {ast.And: ast.Or, ast.Or: ast.And})


def _operands(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Mult):
        left, right = node.left, node.right
        yield lambda: _set(node, left=right, right=left)


def _numbers(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        value = node.value
        yield lambda: setattr(node, "value", value + 1)


def _truths(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        value = node.value
        yield lambda: setattr(node, "value", not value)


def _conditions(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, (ast.If, ast.While)):
        test = node.test
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), test))


def _calls(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Call):
        function = node.func
        field = "id" if isinstance(function, ast.Name) else "attr" if isinstance(function, ast.Attribute) else ""
        name = getattr(function, field, None) if field else None
        if name in CALLS:
            other = CALLS[name]
            yield lambda: setattr(function, field, other)


def _slices(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Slice) and node.step is None and (node.lower is None) != (node.upper is None):
        lower = node.lower
        upper = node.upper
        yield lambda: _set(node, lower=upper, upper=lower)


def _statements(node: ast.AST) -> Iterator[Callable[[], None]]:
    body = getattr(node, "body", None)
    if isinstance(node, (ast.For, ast.While, ast.If)) and isinstance(body, list) and len(body) > 1:
        for index, statement in enumerate(body):
            if isinstance(statement, (ast.AugAssign, ast.Assign, ast.Expr)):
                yield lambda index=index: _set(node, body=[*body[:index], *body[index + 1 :]])


def _returns(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield the change that returns from inside a loop, after its first round."""
    body = getattr(node, "body", None)
    if not isinstance(node, ast.FunctionDef) or not isinstance(body, list) or len(body) < 2:
        return
    loop = body[-2]
    last = body[-1]
    if isinstance(loop, (ast.For, ast.While)) and isinstance(last, ast.Return):
        yield lambda: _set(node, body=[*body[:-2], _longer(loop, last)])


def _names(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield the change of a returned name to another name of the function."""
    if isinstance(node, ast.FunctionDef):
        arguments = [argument.arg for argument in node.args.args]
        for part in ast.walk(node):
            if isinstance(part, ast.Return) and isinstance(part.value, ast.Name):
                for other in arguments:
                    if other != part.value.id:
                        name = part.value
                        yield lambda name=name, other=other: setattr(name, "id", other)


def _arguments(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Call) and len(node.args) == 2:
        first, second = node.args
        yield lambda: setattr(node, "args", [second, first])


KINDS: dict[str, Change] = {
    "comparison turned": lambda node: _swapped(node, ast.Compare, "ops", COMPARED),
    "boundary moved": lambda node: _swapped(node, ast.Compare, "ops", BOUNDARY),
    "equality turned": lambda node: _swapped(node, ast.Compare, "ops", EQUAL),
    "plus for minus": _sums,
    "another operator": _products,
    "and for or": _booleans,
    "operands exchanged": _operands,
    "number off by one": _numbers,
    "truth value turned": _truths,
    "condition negated": _conditions,
    "another function": _calls,
    "slice turned": _slices,
    "statement left out": _statements,
    "return too early": _returns,
    "another name returned": _names,
    "arguments exchanged": _arguments,
}
"""Kind of mutation -> where and how it changes a tree."""


def _changes(tree: ast.AST, kind: str) -> list[Callable[[], None]]:
    """Return every mutation of this kind that a tree allows, in the order of its nodes."""
    changes: list[Callable[[], None]] = []
    for node in ast.walk(tree):
        changes += KINDS[kind](node)
    return changes


def mutants(source: str, kind: str) -> Iterator[str]:
    """Yield every source that one mutation of this kind makes."""
    for site in range(len(_changes(ast.parse(source), kind))):
        tree = ast.parse(source)
        _changes(tree, kind)[site]()
        changed = ast.unparse(ast.fix_missing_locations(tree))
        if changed != source:
            yield changed


def behaviour(source: str, name: str, checks: list[tuple[Any, ...]]) -> list[str]:
    """Return what a function gives for each of the arguments, as text; an error or an endless loop is a result too.

    For sources of this suite only: it runs them.
    """
    space: dict[str, Any] = {}
    exec(compile(source, name, "exec"), space)
    return [_called(space[name], copy.deepcopy(arguments)) for arguments in checks]


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    lines = 0

    def count(*_: Any) -> Any:
        nonlocal lines
        lines += 1
        if lines > STEPS:
            raise TimeoutError
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        return repr(function(*arguments))
    except Exception as error:
        return type(error).__name__
    finally:
        sys.settrace(before)
