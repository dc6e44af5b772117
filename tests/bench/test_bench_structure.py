"""The measures of tests/bench/structure.py, on a package of a few lines whose measures are known."""

from __future__ import annotations

import pytest

from tests.bench.structure import measure

ALPHA = '''"""A module."""

from typing import Any

# a comment alone
x, y = 1, 2  # a comment behind code
pair = (1, 2)
a, b = pair


def first(table: dict[str, Any]) -> int:
    """Return something."""
    from harness.low.beta import second

    return second() if table else sum(i for j in [[1]] for i in j)
'''
BETA = '''"""Another."""
from harness import alpha


def second() -> int:
    return alpha.x
'''


def test_a_small_package_is_measured(tmp_path):
    (tmp_path / "harness" / "low").mkdir(parents=True)
    (tmp_path / "harness" / "__init__.py").write_text('"""The package."""\n')
    (tmp_path / "harness" / "low" / "__init__.py").write_text('"""A folder."""\n')
    (tmp_path / "harness" / "alpha.py").write_text(ALPHA)
    (tmp_path / "harness" / "low" / "beta.py").write_text(BETA)
    measures = measure(tmp_path)
    lines = 10  # of code: seven of ALPHA and three of BETA
    assert measures["modules"] == "2" and measures["modules per folder, most"] == "1"
    assert measures["circles of modules"] == "1" and measures["circles of folders"] == "1"
    assert measures["lines of code"] == f"{lines}"
    assert measures["parallel assignments per 1,000"] == f"{1000 / lines:.0f}"
    assert measures["ternaries per 1,000"] == f"{1000 / lines:.0f}"
    assert measures["comprehensions per 1,000"] == f"{1000 / lines:.0f}" and measures["of these with two `for`"] == "1"
    assert measures["functions"] == "2" and measures["functions with dict[str, Any] in the signature"] == "1"
    not_blank = 16  # these, five docstrings and a comment
    assert measures["lines that are comments alone, %"] == f"{100 / not_blank:.1f}"
    assert measures["lines with a comment, % of lines not blank"] == f"{200 / not_blank:.1f}"


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the top of a checkout"):
        measure(tmp_path)
