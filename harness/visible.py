"""Texts of others (records, names, answers) made harmless where they are shown: in a terminal, a table of CSV, Markdown.

No torch here. Pages escape HTML by their templates.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 2_000
"""Characters of one text shown; the rest stays in the store."""
HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control characters but tab and line end, halves of surrogate pairs, and what has no width or turns the writing direction:
Unicode's default ignorable characters, but for the variation selectors that emoji need."""
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
"""How a cell begins that a spreadsheet would compute, or that `csv_text` has marked already."""
MARKS = re.compile(
    r"\\|\*|~|\||<(?=[A-Za-z/!?])|\](?=[(\[:])|!(?=\[)|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|(?<=_)_|_(?=_)"
    r"|(?<=[A-Za-z]):(?=//)|(?<=www)\.|@(?=\w)",
    re.IGNORECASE,
)
"""Characters where Markdown would begin HTML, a link, an image, an entity, emphasis, or another cell."""


def visible(value: object, longest: int | None = LONGEST) -> str:
    """Return a text with every character that could hide or reorder others spelled out, cut at `longest`."""
    text = "" if value is None or value != value else str(value)
    cut = len(text) - longest if longest and len(text) > longest else 0
    text = HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text[:longest] if cut else text)
    return f"{text} … ({cut:,} more characters in the store)" if cut else text


def markdown_text(value: object, longest: int | None = None) -> str:
    """Return a text in one line that Markdown shows as it is; backticks stay, since code is harmless."""
    text = visible(value, longest).replace("\n", " ")
    return MARKS.sub(lambda mark: "&lt;" if mark[0] == "<" else f"\\{mark[0]}", text)


def markdown_code(value: object) -> str:
    """Return a text as a code span of Markdown, whatever backticks it holds."""
    text = visible(value).replace("\n", " ")
    fence = "`" * (1 + _longest_run(text))
    return f"{fence} {text} {fence}" if text.startswith("`") or text.endswith("`") else f"{fence}{text}{fence}"


def markdown_block(text: str, language: str = "") -> str:
    """Return lines as a block of code of Markdown, whatever backticks they hold."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    """Return how many backticks stand side by side, at most."""
    return max((len(run) for run in re.findall("`+", text)), default=0)


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV. A text that a spreadsheet would take for a formula begins with an apostrophe."""

    returns = False

    def cell(value: object) -> object:
        nonlocal returns
        if not isinstance(value, str):
            return value
        returns = returns or "\r" in value
        return f"'{value}" if FORMULA.match(value) else value

    # A carriage return ends a line where it is not quoted, and is not quoted by itself.
    harmless = _texts_changed(table, cell)
    return harmless.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


def read_csv_text(data: bytes) -> pd.DataFrame:
    """Return the table that `csv_text` wrote, without its apostrophes."""
    import pandas as pd

    def cell(value: object) -> object:
        return value[1:] if isinstance(value, str) and value.startswith("'") and FORMULA.match(value) else value

    return _texts_changed(pd.read_csv(BytesIO(data)), cell)


def _texts_changed(table: pd.DataFrame, cell: Callable[[object], object]) -> pd.DataFrame:
    """Return the table with this function of every name and of every cell that may hold text."""
    import pandas as pd
    from pandas.api.types import is_numeric_dtype

    columns = {}
    for name in table:
        column = table[name]
        if not (is_numeric_dtype(column)):
            column = column.astype(object).map(cell)
        columns[cell(name)] = column
    return pd.DataFrame(columns, index=table.index)
