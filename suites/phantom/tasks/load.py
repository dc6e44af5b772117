"""Data and scoring of the phantom's tasks, for lm-eval. Needs nothing of Lethe, and works from any folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def items(file: str, **_: Any) -> Any:
    """The test split of one task: the JSONL file of that name beside this one.

    Read into memory, past the cache of `datasets`, which may serve the rows of an older file.
    """
    from datasets import Dataset, DatasetDict

    rows = [json.loads(line) for line in (HERE / "items" / file).read_text(encoding="utf-8").splitlines()]
    return DatasetDict({"test": Dataset.from_list(rows)})


def story(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """1 for a story that names all that was asked for, has as many sentences as asked and does not go in circles."""
    text = results[0].strip()
    words = text.lower().replace(".", " ").replace(",", " ").split()
    order, asked = doc["question"].split(": ", 1)
    length = int(order.split()[4])
    fours = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    good = (
        all(word in words for word in asked.split(", "))
        and text.count(".") == length
        and text.endswith(".")
        and 25 <= len(words) <= 110
        and len(fours) - len(set(fours)) <= 3
    )
    return {"acc": float(good)}
