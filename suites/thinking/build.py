"""Writes the items of this suite: `python -m suites.thinking.build`. Small problems in words, numbers drawn with a seed."""

from __future__ import annotations

import json
import random
from pathlib import Path

FILE = Path(__file__).parent / "thinking.jsonl"
SEED = 0
EACH = 4
"""Problems of each form."""
FORMS = (
    (
        "A shelf holds {a} books. {b} are taken away and {c} are put back. How many books are on the shelf?",
        lambda a, b, c: a - b + c,
    ),
    (
        "{b} boxes hold {c} apples each, and {a} more apples lie beside them. How many apples are there?",
        lambda a, b, c: b * c + a,
    ),
    ("Anna is {b} years old. Her brother is {c} years older than twice her age. How old is he?", lambda a, b, c: 2 * b + c),
    ("A train has {c} coaches with {a} seats each. {b} seats are taken. How many are free?", lambda a, b, c: c * a - b),
    (
        "Tom reads {b} pages a day for {c} days of a book of {a}00 pages. How many pages are left?",
        lambda a, b, c: a * 100 - b * c,
    ),
    (
        "A fence needs {c} posts on each of its 4 sides and {b} spare ones. How many posts are needed?",
        lambda a, b, c: 4 * c + b,
    ),
    ("书架上有{a}本书，拿走{b}本，又放回{c}本，现在有多少本？", lambda a, b, c: a - b + c),
    ("{b}个箱子里各有{c}个苹果，旁边还有{a}个，一共有多少个苹果？", lambda a, b, c: b * c + a),
    ("小明今年{b}岁，哥哥的年龄比他的两倍还大{c}岁，哥哥几岁？", lambda a, b, c: 2 * b + c),
    ("一列火车有{c}节车厢，每节{a}个座位，已经坐了{b}人，还有多少个空座位？", lambda a, b, c: c * a - b),
)


def rows() -> list[dict[str, object]]:
    """Return the items."""
    rng = random.Random(SEED)
    items: list[dict[str, object]] = []
    for form, (question, formula) in enumerate(FORMS):
        for number in range(EACH):
            values = {"a": rng.randint(40, 90), "b": rng.randint(11, 30), "c": rng.randint(3, 9)}
            row = {"id": f"thinking-{form}-{number}", "question": question.format(**values), "answer": formula(**values)}
            items.append(row)
    return items


def main() -> None:
    """Write the file of items."""
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
