"""lethe/api.py, from the plan's fields: `make docs` writes it, a test holds it to them.

Written out, so that type checkers, editors and `help(lethe.compare)` know every option.
"""

from __future__ import annotations

import dataclasses
import textwrap

from harness.bundled import ROOT
from harness.plan.plan import Plan, kind_of

PATH = ROOT / "lethe" / "api.py"
PATHS = ("data", "test", "model", "general", "rules", "answer_format", "deepspeed", "out", "tensorboard")
"""Options that may be given as paths too."""
LISTS = ("recipes", "measured", "suites")
"""Options that may be given as lists too."""
HEAD = '''"""The Python API. Written by `make docs` from the fields of harness/plan/plan.py; change those, not this."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from lethe.process import carried_out

if TYPE_CHECKING:
    import pandas as pd


def compare(  # noqa: PLR0913
    plan: str | PathLike[str] | None = None,
    *,
    quiet: bool = False,
'''
DOC = '''
    """Run a comparison and return its table, one line for each row (pandas).

    Every run that the store lacks is made; what is there already is not made again. Results and report are written to
    `<out>/<name>/`. An option that is not given has the value of the plan file, else the default named below.

    Args:
        plan: A TOML file with any of these options, or a preset for usual hardware; options given here win over it.
        quiet: Show no progress.
'''
TAIL = '''
    Returns:
        The table of the report: gain, retention and costs of each row, with intervals.

    Raises:
        PlanError: What was asked cannot be done; `faults` has a sentence on each reason, with the cure.
        InternalError: Lethe itself failed.
    """
    return carried_out(locals())
'''


def api() -> str:
    """Return the text of lethe/api.py."""
    fields = dataclasses.fields(Plan)
    parameters = "".join(f"    {field.name}: {_type(field)} = None,\n" for field in fields)
    documented = "".join(_documented(field) for field in fields)
    return f"{HEAD}{parameters}) -> pd.DataFrame:{DOC}{documented}{TAIL}"


def _type(field: dataclasses.Field) -> str:
    """Return the annotation of an option's keyword: its own type, and None where it is not given."""
    kind = kind_of(field.name).__name__
    if field.name in PATHS:
        kind += " | PathLike[str]"
    if field.name in LISTS:
        kind += " | Sequence[str]"
    return f"{kind} | None"


def _documented(field: dataclasses.Field) -> str:
    """Return an option's lines in the docstring."""
    text = field.metadata["help"].replace("\\", "\\\\")  # what is a backslash in the text is one in the docstring too
    if field.default is not None:
        text += f" (default: {field.default})"
    return (
        textwrap.fill(
            f"{field.name}: {text}.",
            width=120,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


if __name__ == "__main__":
    PATH.write_text(api(), encoding="utf-8")
