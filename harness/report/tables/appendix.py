"""The appendix: every setting of every row, and where its methods come from. Markdown, LaTeX and BibTeX."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import Any

import pandas as pd

from harness.report.summary.format import MISSING
from harness.report.summary.rows import Row, dig
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import latex_text, markdown
from harness.visible import markdown_block, markdown_text

COLUMNS = ["row", "method", "setting", "value"]
ALL = "all rows"


def settings(summary: Summary) -> pd.DataFrame:
    """Return `COLUMNS`, a line a setting: the training protocol first, then each recipe's learning rate and methods."""
    questions = {row.name: _question(row) for row in summary.recipes}

    # What all recipes have alike stands once.
    shared = _shared([record for record in questions.values() if record])
    lines = [(ALL, "training", name, value) for name, value in shared.items()]
    for name, record in questions.items():
        if not record:
            lines.append((name, MISSING, MISSING, "was never run"))
            continue
        lines += [(name, "training", key, value) for key, value in _training(record).items() if key not in shared]
        for method in record.get("methods") or []:
            options = method.get("settings") or {MISSING: MISSING}
            lines += [(name, method["name"], option, value) for option, value in options.items()]
    return pd.DataFrame([(*line[:3], _plain(line[3])) for line in lines], columns=COLUMNS)


def _question(row: Row) -> dict[str, Any]:
    """Return what a row's runs were asked; seeds aside it is the same of all of them."""
    # Any run of the row will do: seeds aside their questions are equal.
    return next((dig(run, "run", "asked") for run in row.runs if dig(run, "run", "asked")), {})


def _training(record: dict[str, Any]) -> dict[str, Any]:
    """Return the protocol a run was trained under, flat."""
    budget = record.get("budget") or {}
    options = {f"budget {key}": budget.get(key) for key in ("text", "meter", "amount")}
    options |= {key: record.get(key) for key in ("learning_rate", "precision", "threads")}
    return options | (record.get("training") or {})


def _shared(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all recipes were trained with alike."""
    flat = [_training(record) for record in records]
    return {key: value for key, value in (flat[0] if flat else {}).items() if all(other.get(key) == value for other in flat)}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _papers(summary: Summary) -> dict[str, dict[str, Any]]:
    return summary.record.get("papers") or {}


def bibtex(summary: Summary) -> str:
    """Return references.bib: each entry once."""
    # A method may stand in several recipes; its paper is cited once.
    entries = dict.fromkeys(chain.from_iterable(paper["bibtex"] for paper in _papers(summary).values()))
    return "\n\n".join(entries) + "\n" if entries else ""


def appendix_markdown(summary: Summary) -> str:
    """Return appendix.md."""
    title = f"# Settings and sources of {markdown_text(summary.record.get('name'))}"
    parts = [title, markdown(settings(summary)).rstrip(), "## Sources"]
    parts += [f"- **{markdown_text(name)}**: {markdown_text(paper['source'])}" for name, paper in _papers(summary).items()]
    parts += ["## BibTeX", markdown_block(bibtex(summary).rstrip(), "bibtex")] if bibtex(summary) else []
    text = "\n\n".join(parts) + "\n"
    return re.sub(r"\n\n(?=- \*\*)", "\n", text).replace("## Sources\n", "## Sources\n\n")


def appendix_latex(summary: Summary) -> str:
    r"""appendix.tex: needs `\usepackage{booktabs,longtable}`; cites references.bib."""
    table = settings(summary)
    # A row's name stands at its first line only.
    table = table.assign(row=table["row"].where(table["row"] != table["row"].shift(), ""))
    lines = [r"\begin{longtable}{lllp{0.4\linewidth}}", r"\toprule", " & ".join(COLUMNS) + r" \\", r"\midrule", r"\endhead"]
    lines += [" & ".join(map(latex_text, line)) + r" \\" for line in table.itertuples(index=False)]
    lines += [r"\bottomrule", r"\end{longtable}", "", r"\begin{description}"]
    for name, paper in _papers(summary).items():
        keys = [match[1] for entry in paper["bibtex"] if (match := re.match(r"@\w+\{\s*([^,\s]+)", entry))]
        cited = rf" \cite{{{','.join(keys)}}}" if keys else ""
        lines.append(rf"\item[{latex_text(name)}] {latex_text(paper['source'])}{cited}")
    return "\n".join([*lines, r"\end{description}", ""]) if _papers(summary) else "\n".join([*lines[:-2], ""])
