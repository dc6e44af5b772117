"""What the data tools find of the faults planted in the embedded finance data: `python -m tests.bench.faults`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from scipy.stats import rankdata

from harness.bundled import embedded
from harness.commands.data import DataFile, contradictions


def auroc(scores: torch.Tensor, positive: torch.Tensor) -> float:
    """Chance that a positive scores above a negative, ties half."""
    ranks = torch.tensor(rankdata(scores.numpy()))
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def main() -> None:
    torch.set_num_threads(1)
    folder, model = Path(embedded().data), embedded().model
    rows, truth = (json.loads((folder / name).read_text()) for name in ("finance.json", "finance.truth.json"))
    corrupted = torch.tensor([truth[row["id"]]["corrupted"] for row in rows])
    file = DataFile(str(folder / "finance.json"), model)
    scores = {"suspicion": file.reading.suspicion, "loss": file.reading.loss, "-similarity": -file.reading.similarity}
    print(f"base {file.base.hash}, {len(rows):,} records, {int(corrupted.sum())} corrupted")
    kinds = [row["kind"] for row in rows]
    for name, values in scores.items():
        print(f"AUROC of {name}: all {auroc(values, corrupted):.3f}", end="")
        for kind in sorted(set(kinds)):
            inside = torch.tensor([k == kind for k in kinds])
            if corrupted[inside].any():
                print(f", {kind} {auroc(values[inside], corrupted[inside]):.3f}", end="")
        print()
    removed, copies, seen = set(file.repeats(0.85)), set(), set()
    for place, row in enumerate(rows):
        original = truth[row["id"]]["near_duplicate_of"] or row["id"]
        copies |= {place} if original in seen else set()
        seen.add(original)
    hits = len(removed & copies)
    precision, recall = hits / len(removed), hits / len(copies)
    print(f"near-duplicates: {len(copies)}, found {len(removed)}, precision {precision:.3f}, recall {recall:.3f}")
    wrong = torch.tensor(file.reading.wrong)
    hits = int((wrong & corrupted).sum())
    print(f"flagged wrong: {int(wrong.sum())}, of which corrupted {hits}; of the corrupted {hits / int(corrupted.sum()):.1%}")
    clashes = set()
    for group in contradictions(file.records):
        clashes |= {record.id for record in group}
    clashing = torch.tensor([record.id in clashes for record in file.records])
    found = int((clashing & corrupted).sum())
    share = found / int(corrupted.sum())
    print(f"in contradictions: {int(clashing.sum())}, of which corrupted {found}; of the corrupted {share:.1%}")


if __name__ == "__main__":
    main()
