"""The plot of what the budget went to."""

from __future__ import annotations

import math

import numpy as np

from harness.report.figures.style import COLOURS, RULE, Plot, figure, sentence, stacked
from harness.report.summary.format import points
from harness.report.summary.rows import Row, share_names
from harness.report.summary.summary import Summary


def cost(summary: Summary) -> Plot | None:
    """Plot the spent budget by account, as a share of what was allowed."""
    rows = [row for row in summary.recipes if row.shares("ledger", "accounts") or row.done]
    accounts = share_names(rows, "ledger", "accounts")
    if not accounts:
        return None
    names = [row.name for row in rows]
    left = np.zeros(len(rows))
    parts: dict[str, list[str]] = {name: [] for name in names}
    drawn, (axes,) = figure(4.3, 1.2 + 0.26 * len(names))
    for k, account in enumerate(accounts):
        spent = np.array([_share(row, account) for row in rows])
        stacked(axes, names, spent, left, COLOURS[(k + 5) % 6], account)
        for name, share in zip(names, spent, strict=True):
            if share:
                parts[name].append(f"{account} {points(share)} %")
        left = left + spent
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.spines["left"].set_color(RULE)
    axes.set_xlim(0, max(100.0, *left))
    axes.set_xlabel("% of the budget")
    drawn.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    texts = {
        name: f"{points(total)} % of the budget ({', '.join(parts[name])})" for name, total in zip(names, left, strict=True)
    }
    return Plot("cost", "What the budget went to", sentence(texts), drawn, texts)


def _share(row: Row, account: str) -> float:
    """Return the percentage of the allowed budget this account took, in the binding meter's unit (else of the FLOPs spent)."""
    # In the unit that binds; steps have no accounts, so there FLOPs are shown.
    meter = next((ledger.get("meter") for run in row.finished if (ledger := run.get("ledger"))), None)
    unit = str(meter) if meter in ("flops", "seconds", "tokens") else "flops"
    whole = row.cost("ledger", "allowed") if unit == meter else row.cost("ledger", unit)
    share = 100 * row.cost("ledger", "accounts", account, unit) / whole if whole else math.nan
    return share if math.isfinite(share) else 0.0
