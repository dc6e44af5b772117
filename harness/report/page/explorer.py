"""What was forgotten, item by item: answers the base had right and a method lost, worst families first."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import pandas as pd

from harness.report.summary.item_tables import right_or_wrong
from harness.report.summary.summary import Summary
from harness.report.tables.forgetting_kinds import kind_table
from harness.stats.quantity_name import change_of_family
from harness.visible import visible

Key = tuple[str, str, str]
KEYS = ["task", "metric", "item"]
MOST = 20_000
"""Items on the page at most."""
TEXT_BUDGET = 5_000_000
"""Bytes of texts on the page at most; all of them are in the store."""


@dataclass(frozen=True)
class Answer:
    """One answer and everyone who gave it."""

    rows: tuple[str, ...]
    text: str
    right: bool


@dataclass(frozen=True)
class Item:
    """A general item at least one method forgot; texts as they may be shown."""

    task: str
    family: str
    item: str
    channel: str
    """How it is answered: by generation, by choice, by likelihood."""
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
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)
    """Family -> recipe -> kind of forgetting, where a probe told."""

    @property
    def kind_names(self) -> list[str]:
        """The kinds of forgetting that there are."""
        return sorted(set(chain.from_iterable(of_rows.values() for of_rows in self.kinds.values())))


def read_flips(summary: Summary) -> Flips:
    """Return all forgotten items counted; those of the worst families in full until the page is full."""
    wide = summary.computed(right_or_wrong)
    rows = [row.name for row in summary.tuned if row.done and row.name in wide]
    if not rows or summary.base not in wide:
        return Flips([], 0, rows)

    # Items that the base has right and a recipe has wrong.
    lost = wide[rows].lt(wide[summary.base], axis=0)
    lost = lost[lost.any(axis=1)]
    order = _order(summary, lost)[:MOST]
    forgot = {key: tuple(row for row in rows if line[row]) for key, line in lost.loc[order].to_dict("index").items()}
    answers = _answers(summary, [summary.base, *rows], order)

    # Whole items until the page is full: half an item would explain nothing.
    chosen, used = [], 0
    for key in order:
        item = _item(key, answers[key], summary.base, rows, forgot[key])
        used += sum(len(text.encode()) for text in (item.prompt, item.target, item.base, *(a.text for a in item.answers)))
        if used > TEXT_BUDGET:
            break
        chosen.append(item)
    return Flips(chosen, len(lost), rows, _kinds(summary))


def _kinds(summary: Summary) -> dict[str, dict[str, str]]:
    """Return family -> recipe -> kind of forgetting."""
    table = summary.computed(kind_table)
    if table.empty:
        return {}
    kinds: dict[str, dict[str, str]] = {}
    for line in table.to_dict("records"):
        kinds.setdefault(str(line["family"]), {})[str(line["row"])] = str(line["kind"])
    return kinds


def _order(summary: Summary, lost: pd.DataFrame) -> list[Key]:
    """Return families by what the methods lost there on average; inside, items most methods forgot first."""
    assert summary.analysis is not None

    # Families that lost most come first, and in them the items that most recipes lost.
    family = summary.analysis.measures.drop_duplicates("task").set_index("task")["family"]
    names = [row.name for row in summary.tuned if row.done]

    # Families without a change have nothing to be sorted by.
    harm = {f: sum(summary.estimate(change_of_family(f), r).value for r in names) for f in set(family)}
    how_many = lost.sum(axis=1)
    return sorted(lost.index, key=lambda k: (_or_zero(harm.get(family[k[0]])), family[k[0]], -how_many[k], *k))


def _or_zero(value: float | None) -> float:
    return value if value is not None and value == value else 0.0


def _answers(summary: Summary, rows: list[str], order: list[Key]) -> dict[Key, dict[str, tuple]]:
    """Return item -> row -> (family, channel, score, prompt, output, target), first seed."""
    wanted = pd.MultiIndex.from_tuples(order, names=KEYS)
    answers: dict[Key, dict[str, tuple]] = {}
    for row in rows:
        # One seed of each row: the page shows examples, and the tables count all.
        table = summary.texts(row, 1).drop_duplicates(KEYS).set_index(KEYS)
        table = table.loc[table.index.isin(wanted), ["family", "channel", "score", "prompt", "output", "target"]]
        for key, *rest in table.itertuples(name=None):
            answers.setdefault(key, {})[row] = tuple(rest)
    return answers


def _item(key: Key, answers: dict[str, tuple], base: str, rows: list[str], forgot: tuple[str, ...]) -> Item:
    grouped: dict[tuple[bool, str], list[str]] = {}
    for row in rows:
        if row in answers:
            _, _, score, _, output, _ = answers[row]
            grouped.setdefault((bool(score == 1), visible(_text(output))), []).append(row)
    shown = [
        Answer(tuple(who), text, right) for (right, text), who in sorted(grouped.items(), key=lambda g: (g[0][0], -len(g[1])))
    ]
    family, channel, _, *texts = answers[base]
    prompt, output, target = (visible(_text(text)) for text in texts)
    return Item(key[0], str(family), key[2], str(channel), prompt, target, output, forgot, tuple(shown))


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def explorer(flips: Flips) -> dict[str, object]:
    """Return the sample for page.js: rows and texts once each, items by their numbers.

    `items`: [family, task, item, prompt, target, base's answer, [rows that forgot it], [[right, answer, [rows]], ...],
    channel].
    `kinds`: family -> [kind of forgetting of each row].
    """
    # Each text once: prompts and answers repeat over items and rows.
    texts: dict[str, int] = {}
    rows = {row: number for number, row in enumerate(flips.rows)}

    def text(value: str) -> int:
        return texts.setdefault(value, len(texts))

    items = [
        [
            *map(text, (visible(item.family), visible(item.task), visible(item.item), item.prompt, item.target, item.base)),
            [rows[row] for row in item.forgot],
            [[int(a.right), text(a.text), [rows[row] for row in a.rows]] for a in item.answers],
            text(item.channel),
        ]
        for item in flips.items
    ]
    kinds = {visible(family): [of_rows.get(row) for row in rows] for family, of_rows in flips.kinds.items()}
    return {"rows": [visible(row) for row in rows], "texts": list(texts), "items": items, "kinds": kinds}
