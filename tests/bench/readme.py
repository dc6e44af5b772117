"""The README's table of the comparison on a real model, from its table.csv: `python -m tests.bench.readme` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.report.summary.format import MISSING, number

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "results" / "published" / "finance-smollm2" / "table.csv"
README = ROOT / "README.md"
HEAD = "| recipe | track | gain, points |"
COLUMNS = {
    "gain, points": ("gain", 1),
    "general change, points": ("change", 1),
    "kept, %": ("retention", 0),
    "general change at the same gain": ("change at matched gain", 1),
    "change, held out": ("change held out", 1),
    "rep-3, general": ("rep3_word general", 3),
    "of answers": ("rep3_word general share", 2),
    "KL to base, general": ("kl_to_base general", 3),
    "device-seconds": ("device seconds", 0),
    "epochs": ("epochs", 2),
}
"""Heading -> column of table.csv and decimals; a column that a table lacks is left out."""


def table() -> str:
    """The lines of the Markdown table."""
    rows = pd.read_csv(TABLE)
    shown = {head: told for head, told in COLUMNS.items() if told[0] in rows}
    lines = ["| recipe | track | " + " | ".join(shown) + " |", "|---" * (2 + len(shown)) + "|"]
    for _, row in rows.iterrows():
        track = row["track"] if row["role"] == "recipe" else ""
        cells = [_cell(row, column, places) for column, places in shown.values()]
        lines.append(f"| {row['row']} | {track} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: pd.Series, column: str, places: int) -> str:
    values = [row[name] for name in (column, f"{column} low", f"{column} high") if name in row]
    texts = [MISSING if pd.isna(value) else f"{value:.{places}f}".replace("-", "−") for value in values]
    return texts[0] if len(texts) < 3 or texts[0] == MISSING else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def written(text: str) -> str:
    """The README with its table made anew."""
    begin = text.index(HEAD)
    return text[:begin] + table() + text[text.index("\n\n", begin) :]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{README}: {number(len(table().splitlines()) - 2)} rows")
