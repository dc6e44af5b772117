"""Code that a model wrote, scored by parsing alone: it compiles, it has the function, the function has the arguments.

Nothing is ever run. Whether the function is right, this cannot say.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

_FENCED = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def code_in(output: str) -> str:
    """Return the code of an answer: its fenced blocks, or all of it if it has none."""
    blocks = _FENCED.findall(output)
    return "\n".join(blocks) if blocks else output


def _tree(code: str) -> ast.Module | None:
    """Return the parsed code, None if it does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "answer", "exec")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def written(output: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Score an answer that should define `row["name"]` with `row["arguments"]`, in this order and under these names."""
    tree = _tree(code_in(output))
    named = []
    for node in tree.body if tree else []:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == row["name"]:
            named.append(node)
    signed = [node for node in named if [each.arg for each in node.args.args] == list(row["arguments"])]
    # a body that only passes is no answer
    full = [node for node in signed if any(not _empty(part) for part in node.body)]
    scores = {"written": bool(full), "compiles": bool(tree and tree.body), "name": bool(named), "signature": bool(signed)}
    return {name: float(score) for name, score in scores.items()}


def _empty(part: ast.stmt) -> bool:
    """Return whether a statement does nothing: `pass`, `...` or a text by itself."""
    return isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
