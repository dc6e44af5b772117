"""Functions of an imported module that run other code: how `tests.bench.mutants` plants a mutant without a new import."""

from __future__ import annotations

import ast
import gc
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

Place = tuple[str, int]
"""Qualified name of a function, and its first line."""
AT_IMPORT = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
"""Names of functions that run where they stand: at import, if they stand in no other function."""
PROBE = "_reached_by_a_test"


def compiled(tree: ast.Module, file: str) -> CodeType:
    """Return the code of a module's tree."""
    return compile(tree, file, "exec")


def can_be_swapped(before: CodeType, after: CodeType) -> bool:
    """Return whether two versions of a module differ inside functions alone, so that no import has to happen again.

    Constants of a module or a class, default values and decorators are what an import makes.
    """
    if _at_import(before) != _at_import(after):
        return False
    old, new = dict(_functions(before)), dict(_functions(after))
    closed = {place: len(code.co_freevars) for place, code in old.items() if place in new}
    return all(closed[place] == len(new[place].co_freevars) for place in closed)


def swap(file: str, code: CodeType) -> int:
    """Give all functions of a file that exist the code of this version, and return how many there were."""
    codes = dict(_functions(code))
    functions = [thing for thing in gc.get_objects() if type(thing) is FunctionType and thing.__code__.co_filename == file]
    swapped = 0
    for function in functions:
        place = (function.__code__.co_qualname, function.__code__.co_firstlineno)
        if place in codes:
            function.__code__ = codes[place]
            swapped += 1
    return swapped


def _functions(code: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """Yield the functions of a code object, those inside others included."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield (const.co_qualname, const.co_firstlineno), const
            yield from _functions(const)


def _at_import(code: CodeType) -> object:
    """Return what runs at import: bytes, names and constants, where a function counts by its name and line alone."""
    consts: list[object] = []
    for const in code.co_consts:
        if not isinstance(const, CodeType):
            consts.append((type(const), repr(const)))
        elif const.co_flags & inspect.CO_OPTIMIZED and const.co_name not in AT_IMPORT:
            consts.append((const.co_qualname, const.co_firstlineno))
        else:
            consts.append(_at_import(const))
    return code.co_code, code.co_names, consts


def probed(tree: ast.Module, module: str) -> ast.Module:
    """Return the tree with a call before every statement of every function: the probe, with the module and the line."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            _probe(function, module)
    return ast.fix_missing_locations(tree)


def _probe(node: ast.AST, module: str) -> None:
    """Put the probe before each statement of a node's blocks; functions and classes inside it have their own turn."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        statements: list[ast.AST] = []
        for child in block:
            if isinstance(child, ast.stmt) and not _is_docstring(child):
                statements.append(_call(module, child))
            statements.append(child)
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                _probe(child, module)
        setattr(node, name, statements)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _call(module: str, statement: ast.stmt) -> ast.stmt:
    """Return the probe's call before a statement."""
    values: list[ast.expr] = [ast.Constant(module), ast.Constant(statement.lineno)]
    return ast.copy_location(ast.Expr(ast.Call(ast.Name(PROBE, ast.Load()), values, [])), statement)
