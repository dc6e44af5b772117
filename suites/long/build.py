"""Writes the text and the items of this suite: `python -m suites.long.build`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from suites.long.diary import diary

FOLDER = Path(__file__).parent
SEED = 0
LENGTHS = (1024, 2048, 4096, 8192, 16384)
"""Tokens of an item, with its question and the room for its answer."""
EACH = 8
"""Items of each length and kind."""
COLOURS = ("green", "red", "yellow", "white", "black", "purple", "silver", "orange")
BOXES = ("locker", "suitcase", "cabinet", "drawer", "safe", "toolbox", "parcel", "strongbox")
OWNERS = ("Marta", "Jonas", "Wilma", "Pedro", "Agnes", "Tariq", "Yuki", "Olga")
ASKED = "Answer with the number alone."


def needle(box: str, owner: str, code: int, depth: float) -> tuple[list[list[object]], str]:
    """Return the facts and the question of an item in which one sentence has the answer."""
    return [[depth, f"The secret code of the {box} is {code}."]], f"What is the secret code of the {box}? {ASKED}"


def two_hops(box: str, owner: str, code: int, depth: float) -> tuple[list[list[object]], str]:
    """Return the facts and the question of an item whose answer needs two sentences that stand apart."""
    facts: list[list[object]] = [
        [depth, f"The {box} belongs to {owner}."],
        [1 - depth, f"The secret code of {owner} is {code}."],
    ]
    return facts, f"What is the secret code of the person to whom the {box} belongs? {ASKED}"


def rows(kind: str) -> list[dict[str, object]]:
    """Return the items of one kind: each to be answered, and to be chosen among four numbers."""
    rng = random.Random(f"{kind} {SEED}")
    made: list[dict[str, object]] = []
    for length in LENGTHS:
        for number in range(EACH):
            box = f"{rng.choice(COLOURS)} {rng.choice(BOXES)}"
            codes = rng.sample(range(1000, 10000), 4)
            depth = round((number + 0.5) / EACH, 3)
            make = needle if kind == "needle" else two_hops
            facts, question = make(box, rng.choice(OWNERS), codes[0], depth)
            fill = {"tokens": length, "facts": facts}
            answer = number % 4
            choices = [str(code) for code in codes[1:]]
            choices.insert(answer, str(codes[0]))
            name = f"{kind}-{length}-{number}"
            made.append({"id": name, "question": question, "required": rf"(?<!\d){codes[0]}(?!\d)", "fill": fill})
            made.append({"id": f"{name}-choice", "question": question, "choices": choices, "answer": answer, "fill": fill})
    return made


def main() -> None:
    """Write the text and the two files of items."""
    (FOLDER / "diary.txt").write_text(diary(), encoding="utf-8")
    for kind in ("needle", "two_hops"):
        lines = [json.dumps(row) for row in rows(kind)]
        (FOLDER / f"{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
