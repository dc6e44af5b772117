"""How long does `lethe diff` take on 10,000 samples a run? `python -m tests.bench.diffing`

Two runs are written as lm-eval writes them: four tasks of 2,500 questions with four choices, scored by acc and acc_norm. The
command runs three times; CPU seconds, start included, and the fewest count.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DATE = "2026-01-01T00-00-00.000001"
TASKS, DOCUMENTS, RUNS = 4, 2500, 3
WORDS = "the of bank price share law court fund asset paid year model answer question which because"


def write_run(folder: Path, name: str) -> None:
    """Write a run: the same documents under every name, and answers of its own."""
    folder.mkdir()
    texts, answers = random.Random(0), random.Random(name)
    results: dict[str, Any] = {}
    for number in range(TASKS):
        task = f"task_{number}"
        samples = [sample(place, texts, answers) for place in range(DOCUMENTS)]
        lines = "\n".join(map(json.dumps, samples))
        (folder / f"samples_{task}_{DATE}.jsonl").write_text(lines + "\n", encoding="utf-8")
        results[task] = {f"{metric},none": sum(one[metric] for one in samples) / DOCUMENTS for metric in ("acc", "acc_norm")}
    (folder / f"results_{DATE}.json").write_text(json.dumps({"results": results}), encoding="utf-8")


def sample(place: int, texts: random.Random, answers: random.Random) -> dict[str, Any]:
    """Return one sample, as long as those of HellaSwag."""
    words = WORDS.split()
    question = " ".join(texts.choices(words, k=40))
    choices = [" ".join(texts.choices(words, k=6)) for _ in range(4)]
    doc = {"question": question, "choices": choices, "answer": place % 4}
    responses = [[str(-20 * answers.random()), "False"] for _ in choices]
    return {
        "doc_id": place,
        "doc": doc,
        "target": str(place % 4),
        "arguments": {f"gen_args_{i}": {"arg_0": question, "arg_1": f" {choice}"} for i, choice in enumerate(choices)},
        "resps": [[response] for response in responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(question.encode()).hexdigest(),
        "target_hash": hashlib.sha256(str(place % 4).encode()).hexdigest(),
        "acc": float(answers.random() < 0.5),
        "acc_norm": float(answers.random() < 0.5),
    }


def main() -> None:
    """Write the runs, and print what comparing them takes."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("a", "b"):
            write_run(Path(scratch) / name, name)
        taken = []
        for _ in range(RUNS):
            before = os.times()
            words = [sys.executable, "-m", "lethe", "diff", f"{scratch}/a", f"{scratch}/b", "--json"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
        print(f"{TASKS * DOCUMENTS:,} samples a run: {min(taken):.2f} CPU seconds ({', '.join(f'{one:.2f}' for one in taken)})")


if __name__ == "__main__":
    main()
