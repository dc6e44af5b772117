"""The code suite: mutated functions that are really wrong, and answers that are parsed and never run."""

from __future__ import annotations

import ast
import json
from collections import Counter

import pytest

from suites.code.build import FOLDER, pairs, tasks
from suites.code.functions import CHECKS, FUNCTIONS, source_of
from suites.code.mutate import behaviour, mutants
from suites.code.score import written

ROW = {"name": "mean", "arguments": ["numbers"]}
ANSWERS = {
    "def mean(numbers):\n    return sum(numbers) / len(numbers)": (1, 1, 1, 1),
    "当然：\n```python\ndef mean(numbers):\n    return 1\n```\n希望有用。": (1, 1, 1, 1),
    "Sure:\n```\nimport math\n\ndef mean(numbers: list) -> float:\n    return math.fsum(numbers)\n": (1, 1, 1, 1),
    "```python\ndef mean(values):\n    return 1\n```": (0, 1, 1, 0),
    "```python\ndef average(numbers):\n    return 1\n```": (0, 1, 0, 0),
    "```python\ndef mean(numbers):\n    return 1 +\n```": (0, 0, 0, 0),
    "```python\ndef mean(numbers)\n    return 1\n```": (0, 0, 0, 0),
    '```python\ndef mean(numbers):\n    """Return the mean."""\n    pass\n```': (0, 1, 1, 1),
    "The mean of a list is its sum over its length.": (0, 0, 0, 0),
    "": (0, 0, 0, 0),
    "(" * 5000: (0, 0, 0, 0),
}


@pytest.mark.parametrize("output", ANSWERS, ids=range(len(ANSWERS)))
def test_written_code_is_parsed(output: str) -> None:
    found = written(output, ROW)
    assert list(found) == ["written", "compiles", "name", "signature"]
    assert tuple(found.values()) == ANSWERS[output]


def test_nothing_that_was_written_is_run(tmp_path) -> None:
    trap = tmp_path / "trap"
    output = f"```python\nopen({str(trap)!r}, 'w')\ndef mean(numbers):\n    return open({str(trap)!r}, 'w')\n```"
    assert written(output, ROW)["written"] == 1
    assert not trap.exists()


def test_every_pair_has_a_right_and_a_wrong_function() -> None:
    made = pairs()
    assert len(made) == 200
    kinds = Counter(str(row["id"]).split("-", 2)[2] for row in made)
    assert len(kinds) >= 12
    wrong = set()
    for row in made:
        name = str(row["cluster"])
        choices, answer = list(row["choices"]), int(str(row["answer"]))  # type: ignore[call-overload]
        right = behaviour(choices[answer], name, CHECKS[name])
        assert right == behaviour(source_of(name), name, CHECKS[name])
        assert behaviour(choices[1 - answer], name, CHECKS[name]) != right
        wrong.add(choices[1 - answer])
    assert len(wrong) == 200
    lines = (FOLDER / "code_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == made, "the same seed, the same pairs"


def test_the_functions_do_what_they_say() -> None:
    """A few, by hand: the right side of a pair must be right."""
    assert FUNCTIONS["median"]([4, 1, 3, 2]) == 2.5
    assert FUNCTIONS["is_leap_year"](1900) is False
    assert FUNCTIONS["merge"]([1, 5, 9], [2, 6]) == [1, 2, 5, 6, 9]
    assert FUNCTIONS["caesar"]("xyz", 3) == "abc"
    assert FUNCTIONS["to_binary"](13) == "1101"
    assert FUNCTIONS["clock"](3661) == (1, 1, 1)
    assert all("Error" not in text for name in FUNCTIONS for text in behaviour(source_of(name), name, CHECKS[name]))


def test_a_mutation_changes_one_place() -> None:
    found = list(mutants(source_of("clamp"), "another function"))
    assert len(found) == 2
    assert all(ast.parse(text) for text in found)
    assert behaviour("def f(n):\n    while True:\n        n += 1", "f", [(1,)]) == ["TimeoutError"]


def test_functions_to_write_name_their_arguments() -> None:
    made = tasks()
    assert len(made) == len(FUNCTIONS)
    for row in made:
        source = source_of(str(row["name"]))
        assert written(source, row)["written"] == 1
        assert f"{row['name']}({', '.join(row['arguments'])})" in str(row["question"])  # type: ignore[arg-type]
