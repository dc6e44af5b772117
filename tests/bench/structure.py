"""Measures of how harness/ is built: `python -m tests.bench.structure [CHECKOUT ...]`, one column per checkout.

Circles are counted over all imports, those for type checkers and inside functions included. A line of code is a line that is
neither blank, nor a comment alone, nor part of a docstring; the counts per 1,000 lines are per 1,000 lines of code.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "harness"
LONG_FILE = 300
"""Lines above which a file is counted as long."""
LONG_FUNCTION = 40
"""Lines above which a function is counted as long, decorators and docstring included."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)


@dataclass(frozen=True)
class Source:
    """One parsed module: its dotted name, folder, text and syntax tree."""

    name: str
    folder: str
    text: str
    tree: ast.Module
    is_opening: bool


def read_sources(checkout: Path) -> list[Source]:
    """Return every module below `checkout`/harness. Raises FileNotFoundError where there is none."""
    sources = []
    for path in sorted((checkout / PACKAGE).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__")
        folder = path.parent.relative_to(checkout).as_posix()
        sources.append(Source(name, folder, text, ast.parse(text), path.name == "__init__.py"))
    if not sources:
        raise FileNotFoundError(f"{checkout} has no {PACKAGE}/ with Python files; give the top of a checkout")
    return sources


def imported_modules(source: Source, names: set[str]) -> set[str]:
    """Return those of `names` that a module imports, wherever in its text the import stands."""
    targets = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` counts from the module's own folder
            parts = source.name.split(".") + (["__init__"] if source.is_opening else [])
            base = ".".join([*parts[: -node.level], *filter(None, [node.module])]) if node.level else node.module or ""
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                targets.add(submodule if submodule in names else base)
    return (targets & names) - {source.name}


def count_circles(imports: dict[str, set[str]]) -> int:
    """Return the number of groups of two or more names that reach each other (strongly connected components)."""
    reached = {name: _reachable(name, imports) for name in imports}
    groups = set()
    for name in imports:
        group = frozenset(other for other in reached[name] if name in reached[other])
        if len(group) > 1:
            groups.add(group)
    return len(groups)


def _reachable(start: str, imports: dict[str, set[str]]) -> set[str]:
    """Return all names that can be reached from `start` in one or more steps."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for target in imports[waiting.pop()]:
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached


def folder_imports(sources: list[Source], imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return which folder imports from which other."""
    folders = {source.name: source.folder for source in sources}
    links: dict[str, set[str]] = {folder: set() for folder in folders.values()}
    for name, targets in imports.items():
        links[folders[name]] |= {folders[target] for target in targets} - {folders[name]}
    return links


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines on which docstrings stand, those below an attribute included."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED):
            for statement in node.body:
                if _is_docstring(statement):
                    lines |= set(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return lines


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def comment_lines(text: str) -> tuple[set[int], set[int]]:
    """Return the numbers of the lines that have a comment, and of those that hold nothing else."""
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
    commented = {token.start[0] for token in tokens}
    alone = {token.start[0] for token in tokens if token.line.lstrip().startswith("#")}
    return commented, alone


def count_source(source: Source) -> Counter[str]:
    """Return what is counted in one module."""
    counts: Counter[str] = Counter()
    lines = source.text.splitlines()
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()}
    commented, comments = comment_lines(source.text)
    docstrings = docstring_lines(source.tree)
    counts["lines"] = len(lines)
    counts["not blank"] = len(lines) - len(blank)
    counts["commented"] = len(commented)
    counts["comments"] = len(comments)
    counts["code"] = len(lines) - len(blank | comments | docstrings)
    counts["long files"] = len(lines) > LONG_FILE
    for node in ast.walk(source.tree):
        counts["statements"] += isinstance(node, ast.stmt) and not _is_docstring(node)
        counts["ternaries"] += isinstance(node, ast.IfExp)
        counts["parallel"] += _is_parallel(node)
        if isinstance(node, COMPREHENSIONS):
            counts["comprehensions"] += 1
            counts["double comprehensions"] += len(node.generators) > 1
        if isinstance(node, FUNCTIONS):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            counts["functions"] += 1
            counts["long functions"] += (node.end_lineno or first) - first + 1 > LONG_FUNCTION
            counts["dicts"] += _takes_or_returns_any_dict(node)
    return counts


def _is_parallel(node: ast.AST) -> bool:
    """Return whether a statement assigns several values to as many names at once (unpacking one value is not meant)."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def _takes_or_returns_any_dict(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether `dict[str, Any]` stands in an annotation of a function's parameters or of its result."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
    annotations = [node.returns, *(argument.annotation for argument in arguments)]
    return any("dict[str, Any]" in ast.unparse(annotation) for annotation in annotations if annotation)


def measure(checkout: Path) -> dict[str, str]:
    """Return the printed value of every measure of a checkout."""
    sources = read_sources(checkout)
    names = {source.name for source in sources}
    imports = {source.name: imported_modules(source, names) for source in sources}
    totals: Counter[str] = Counter()
    for source in sources:
        totals.update(count_source(source))
    sizes = Counter(source.folder for source in sources if not source.is_opening)

    def per_thousand(name: str) -> str:
        return f"{1000 * totals[name] / totals['code']:.0f}"

    return {
        "folders with modules": f"{len(sizes)}",
        "modules": f"{sizes.total()}",
        "modules per folder, median": f"{statistics.median(sizes.values()):g}",
        "modules per folder, most": f"{max(sizes.values())}",
        "circles of modules": f"{count_circles(imports)}",
        "circles of folders": f"{count_circles(folder_imports(sources, imports))}",
        "lines": f"{totals['lines']:,}",
        "lines of code": f"{totals['code']:,}",
        "lines with a comment, % of lines not blank": f"{100 * totals['commented'] / totals['not blank']:.1f}",
        "lines that are comments alone, %": f"{100 * totals['comments'] / totals['not blank']:.1f}",
        "statements per 1,000 lines of code": per_thousand("statements"),
        "comprehensions per 1,000": per_thousand("comprehensions"),
        "of these with two `for`": f"{totals['double comprehensions']}",
        "ternaries per 1,000": per_thousand("ternaries"),
        "parallel assignments per 1,000": per_thousand("parallel"),
        "functions": f"{totals['functions']:,}",
        "functions with dict[str, Any] in the signature": f"{totals['dicts']}",
        f"files above {LONG_FILE} lines": f"{totals['long files']}",
        f"functions above {LONG_FUNCTION} lines": f"{totals['long functions']}",
    }


def main() -> None:
    """Print a table of the measures, one column per checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT], help="top folders; default: this checkout")
    checkouts = parser.parse_args().checkouts
    columns = [measure(checkout) for checkout in checkouts]
    print("| measure | " + " | ".join(checkout.resolve().name for checkout in checkouts) + " |")
    print("|---|" + "---:|" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


if __name__ == "__main__":
    main()
