"""What was forgotten, item by item: answers the base had right and a method lost, worst families first."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.report.summary import Summary

Key = tuple[str, str, str]
"""task, metric, item"""
SHOWN = 400
"""Items on the page at most; all of them are in the store."""
TEXT_BUDGET = 4_000_000
"""Characters of answers on the page at most."""


@dataclass(frozen=True)
class Answer:
    """One answer and everyone who gave it."""

    rows: tuple[str, ...]
    text: str
    right: bool


@dataclass(frozen=True)
class Item:
    """A general item at least one method forgot."""

    task: str
    family: str
    item: str
    prompt: str
    target: str
    base: str
    forgot: tuple[str, ...]
    answers: tuple[Answer, ...]
    """The methods' answers; equal ones together, wrong ones first."""


@dataclass(frozen=True)
class Flips:
    """The sample the page shows, and what it is a sample of."""

    items: list[Item]
    forgotten: int
    """Items at least one method forgot."""
    rows: list[str]
    """The recipes that were looked at."""


def read_flips(summary: Summary) -> Flips:
    """All forgotten items counted; those of the worst families in full until the page is full."""
    wide = summary.binary
    rows = [row.name for row in summary.recipes if row.done and row.name in wide]
    if not rows or summary.base not in wide:
        return Flips([], 0, rows)
    lost = wide[rows].lt(wide[summary.base], axis=0)
    lost = lost[lost.any(axis=1)]
    forgot = {key: tuple(row for row in rows if line[row]) for key, line in lost.to_dict("index").items()}
    frame = _texts(summary, lost)
    chosen, used = [], 0
    for key in _order(summary, lost):
        item = _item(frame, key, summary.base, rows, forgot[key])
        used += sum(min(len(a.text), 2000) for a in item.answers)
        if len(chosen) == SHOWN or used > TEXT_BUDGET:
            break
        chosen.append(item)
    return Flips(chosen, len(lost), rows)


def _order(summary: Summary, lost: pd.DataFrame) -> list[Key]:
    """Families by what the methods lost there on average; inside, items most methods forgot first."""
    assert summary.analysis is not None
    family = summary.analysis.measures.drop_duplicates("task").set_index("task")["family"]
    names = [row.name for row in summary.recipes if row.done]
    harm = {f: sum(summary.estimate(f"change:family:{f}", r).value for r in names) for f in set(family)}
    how_many = lost.sum(axis=1)
    return sorted(lost.index, key=lambda k: (_or_zero(harm.get(family[k[0]])), family[k[0]], -how_many[k], *k))


def _or_zero(value: float | None) -> float:
    return value if value is not None and value == value else 0.0


def _texts(summary: Summary, lost: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    keys = ["task", "metric", "item"]
    table = summary.scores.drop_duplicates(["row", *keys])
    table = table[pd.MultiIndex.from_frame(table[keys]).isin(lost.index)]
    return {key: part.set_index("row") for key, part in table.groupby(keys)}  # type: ignore[misc]


def _item(frame: dict[Key, pd.DataFrame], key: Key, base: str, rows: list[str], forgot: tuple[str, ...]) -> Item:
    part = frame[key]
    grouped: dict[tuple[bool, str], list[str]] = {}
    for row in rows:
        if row in part.index:
            grouped.setdefault((bool(part.at[row, "score"] == 1), _text(part.at[row, "output"])), []).append(row)
    answers = [
        Answer(tuple(who), text, right) for (right, text), who in sorted(grouped.items(), key=lambda g: (g[0][0], -len(g[1])))
    ]
    first = part.loc[base]
    return Item(
        key[0], str(first["family"]), key[2], _text(first["prompt"]), _text(first["target"]), _text(first["output"]),
        forgot, tuple(answers),
    )  # fmt: skip


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)
