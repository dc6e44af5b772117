"""Writes the items of this suite: `python -m suites.code.build`. Pairs of a right and a mutated function, functions to write.

Only functions of this suite are ever run, here, to be sure that a mutated one is wrong; nothing that a model writes is.
"""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

from suites.code.functions import CHECKS, FUNCTIONS, source_of
from suites.code.mutate import KINDS, behaviour, mutants

FOLDER = Path(__file__).parent
SEED = 0
PAIRS = 200
ASK = (
    "Write a Python function `{name}({arguments})`. {does}\nAnswer with the function alone, in one code block.",
    "写一个 Python 函数 `{name}({arguments})`。要求：{does}\n只回答这个函数，放在一个代码块里。",
)


def wrong_functions() -> dict[str, list[tuple[str, str, str]]]:
    """Return {kind: [(function, right source, wrong source)]}: every mutation that changes what a function does."""
    by_kind: dict[str, list[tuple[str, str, str]]] = {kind: [] for kind in KINDS}
    for name in FUNCTIONS:
        source = source_of(name)
        right = behaviour(source, name, CHECKS[name])
        for kind in KINDS:
            for mutant in mutants(source, kind):
                if behaviour(mutant, name, CHECKS[name]) != right:
                    by_kind[kind].append((name, source, mutant))
    return by_kind


def pairs() -> list[dict[str, object]]:
    """Return the pairs, as evenly over the kinds of mutation as these allow; no wrong function stands twice."""
    rng = random.Random(SEED)
    kinds = wrong_functions()
    for candidates in kinds.values():
        rng.shuffle(candidates)
    rows: list[dict[str, object]] = []
    taken: set[str] = set()
    while len(rows) < PAIRS:
        before = len(rows)
        for kind, candidates in kinds.items():
            while candidates and candidates[-1][2] in taken:
                candidates.pop()
            if not candidates or len(rows) == PAIRS:
                continue
            name, right, wrong = candidates.pop()
            taken.add(wrong)
            answer = len(rows) % 2
            choices = [right, wrong] if answer == 0 else [wrong, right]
            row: dict[str, object] = {
                "id": f"code-{len(rows)}-{kind.replace(' ', '-')}",
                "question": "",
                "choices": choices,
                "answer": answer,
            }
            rows.append(row | {"cluster": name})
        if len(rows) == before:
            raise RuntimeError(f"the functions have only {before} mutations; write more of them")
    return rows


def tasks() -> list[dict[str, object]]:
    """Return the functions to write: every third is asked for in Chinese, its description in English as code has it."""
    rows: list[dict[str, object]] = []
    for number, name in enumerate(FUNCTIONS):
        tree = ast.parse(source_of(name)).body[0]
        assert isinstance(tree, ast.FunctionDef)
        arguments = [argument.arg for argument in tree.args.args]
        does = ast.get_docstring(tree) or ""
        ask = ASK[1] if number % 3 == 2 else ASK[0]
        question = ask.format(name=name, arguments=", ".join(arguments), does=does)
        rows.append({"id": f"write-{name}", "question": question, "name": name, "arguments": arguments})
    return rows


def main() -> None:
    """Write the two files of items."""
    for file, rows in (("code_pairs", pairs()), ("code_written", tasks())):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (FOLDER / f"{file}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
