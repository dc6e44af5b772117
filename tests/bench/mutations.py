"""The small changes of a module's syntax tree that `tests.bench.mutants` plants, one at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sum": "max", "sorted": "list"}
Mutation = tuple[int, str, int, int]
"""Line, what is changed, and where: the place among those that can be changed, and which of its changes."""


def mutations(text: str) -> Iterator[Mutation]:
    """Yield every mutation of a module, in an order that its text alone decides."""
    for place, node in enumerate(_places(ast.parse(text))):
        for kind in range(_kinds(node)):
            changed = copy.deepcopy(node)
            _change(changed, kind)
            before = ast.unparse(node)
            after = ast.unparse(ast.fix_missing_locations(changed))
            if before != after:
                yield _line(node), f"{_short(before)}  ->  {_short(after)}", place, kind


def mutated(text: str, place: int, kind: int) -> ast.Module:
    """Return the module with one mutation."""
    tree = ast.parse(text)
    _change(list(_places(tree))[place], kind)
    return ast.fix_missing_locations(tree)


def _line(node: ast.AST) -> int:
    """Return the line of a node; of a comprehension, that of what it goes through."""
    return node.iter.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 0)


def _short(text: str) -> str:
    """Return the first line of a piece of code, at most 60 characters of it."""
    return text.splitlines()[0][:60] if text else "nothing"


def _places(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what can be changed: not annotations, messages of exceptions, decorators, docstrings or code for type checkers."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.Assert) or (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                continue
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "field":
                continue
            yield child
            yield from _places(child)


def _kinds(node: ast.AST) -> int:
    """Return in how many ways a node can be changed."""
    match node:
        case ast.Compare() if len(node.ops) == 1:
            return 1
        case ast.BinOp() | ast.AugAssign():
            return int(type(node.op) in COMPUTED)
        case ast.BoolOp() | ast.Expr(value=ast.Call()):
            return 1
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return 1
        case ast.If() | ast.IfExp() | ast.While():
            return 1
        case ast.Constant(value=bool() | int() | float()):
            return 1
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            return 1 + len(node.keywords)
        case ast.Call():
            return len(node.keywords)
        case ast.Return(value=value) if value is not None:
            return int(not isinstance(value, ast.Constant))
        case ast.comprehension():
            return len(node.ifs)
    return 0


def _change(node: ast.AST, kind: int) -> None:
    """Change a node in the way of that number."""
    match node:
        case ast.Compare():
            node.ops[0] = COMPARED[type(node.ops[0])]()
        case ast.BinOp() | ast.AugAssign():
            node.op = COMPUTED[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.Expr():
            node.value = ast.Constant(None)  # the statement is left out
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
            if isinstance(node.op, ast.Not):
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.If() | ast.IfExp() | ast.While():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Call(func=ast.Name(id=name)) if name in NAMES and kind == len(node.keywords):
            node.func = ast.Name(NAMES[name], ast.Load())
        case ast.Call():
            del node.keywords[kind]
        case ast.Return():
            node.value = ast.Constant(None)
        case ast.comprehension():
            del node.ifs[kind]
        case _:
            raise AssertionError(f"no way to change {type(node).__name__}")
