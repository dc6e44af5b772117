"""What was trained on, token by token: losses, where the gradient came from, and what weight methods gave."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.report.format import points
from harness.report.ink import PAPER, Plot, figure, marks

if TYPE_CHECKING:
    from harness.report.summary import Summary

Line = dict[str, Any]
ZONE_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7")


def token_tables(summary: Summary) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`_zone_shares` and `_weights` of every recipe."""
    found: tuple[list[Line], list[Line]] = [], []
    for row in summary.recipes:
        steps = [(step.get("zones"), step.get("weights")) for step in summary.logs(row.name)]
        found[0].extend({"row": row.name} | line for line in _zone_shares([zones for zones, _ in steps if zones]))
        found[1].extend({"row": row.name} | line for line in _weights([weights for _, weights in steps if weights]))
    zones, weights = ["row", "zone", "tokens", "gradient"], ["row", "low", "high", "tokens", "weight"]
    return pd.DataFrame(found[0], columns=zones), pd.DataFrame(found[1], columns=weights)


def _zone_shares(steps: list[list[dict[str, Any]]]) -> Iterator[Line]:
    """zone, tokens, gradient: mean shares over a row's logged steps."""
    for k in range(max(map(len, steps), default=0)):
        zone = [zones[k] for zones in steps if k < len(zones)]
        yield {"zone": _zone_name(zone[0])} | {name: _mean([z.get(name) for z in zone]) for name in ("tokens", "gradient")}


def _weights(steps: list[dict[str, Any]]) -> Iterator[Line]:
    """low, high, tokens, weight: share of supervised tokens between two losses and the mean weight they were given."""
    if not steps:
        return
    edges = [0.0, *steps[0]["edges"], math.inf]
    tokens = np.array([step["tokens"] for step in steps], float)
    given = np.array([step["mean"] for step in steps], float)  # null, where no token was: NaN
    total = tokens.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(tokens * np.nan_to_num(given), axis=0) / total
    for k, count in enumerate(total):
        yield {"low": edges[k], "high": edges[k + 1], "tokens": count / total.sum(), "weight": mean[k]}


def _mean(values: list) -> float:
    found = np.array(values, float)  # null: NaN
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else math.nan


def _zone_name(zone: dict) -> str:
    low, high = zone.get("low"), zone.get("high")
    if high is None or not math.isfinite(high):
        return f"over {low or 0:g}"
    return f"{low or 0:g} to {high:g}"


def zones(summary: Summary) -> Plot | None:
    """Which token losses the training saw, and which made the gradient."""
    table, _ = summary.tokens
    if table.empty:
        return None
    names = list(dict.fromkeys(table["row"]))
    drawn, panels = figure(4.3, 1.4 + 0.26 * len(names), columns=2, sharey=True)
    for axes, kind in zip(panels, ("tokens", "gradient"), strict=True):
        left = np.zeros(len(names))
        for k, zone in enumerate(dict.fromkeys(table["zone"])):
            part = table[table["zone"] == zone].set_index("row")[kind].reindex(names).fillna(0).to_numpy(float) * 100
            axes.barh(names, part, left=left, color=ZONE_COLOURS[k % 5], edgecolor=PAPER, lw=0.6, label=zone, height=0.72)
            left = left + part
        axes.set_xlabel(f"% of {'supervised tokens' if kind == 'tokens' else 'gradient'}")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=4,
        fontsize=8.5,
        title="token loss, nats",
        title_fontsize=8.5,
        columnspacing=1.2,
    )
    told = "; ".join(
        f"{z['row']}, {z['zone']} nats: {points(100 * z['tokens'])} % of tokens, {points(100 * z['gradient'])} % of gradient"
        for z in table.to_dict("records")
    )
    return Plot("zones", "Share of tokens and of gradient by token loss", told, drawn)


def weights(summary: Summary) -> Plot | None:
    """What weight methods gave to tokens, by their loss, on this data."""
    _, table = summary.tokens
    if table.empty:
        return None
    drawn, (top, bottom) = figure(4.3, 4.2, rows=2, sharex=True, height_ratios=(2, 1))
    looks = marks([row.name for row in summary.recipes])
    last = 1.3 * float(table["low"].max())
    for name, part in table.groupby("row", sort=False):
        edges, colour = [*part["low"], last], looks[str(name)]["color"]
        top.stairs(part["weight"], edges, color=colour, lw=1.5, baseline=None)
        middle = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
        top.plot(middle, part["weight"], ls="", ms=5, mec=PAPER, mew=0.4, label=str(name), **looks[str(name)])
        bottom.stairs(100 * part["tokens"], edges, color=colour, lw=1.2, baseline=None)
    top.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    top.set_xlim(0, last)
    top.set_xticks([0, 0.5, 1, 2, 3, 5, 8, 10, 15], ["0", "0.5", "1", "2", "3", "5", "8", "10", "15"])
    top.set_ylabel("mean weight")
    top.set_ylim(bottom=0)
    bottom.set_ylabel("% of tokens")
    bottom.set_xlabel("token loss, nats")
    handles, labels = top.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5, columnspacing=1.2, handlelength=1.0)
    told = "; ".join(
        f"{w['row']}, {_zone_name(w)} nats: weight {w['weight']:.2f}, {points(100 * w['tokens'])} % of tokens"
        for w in table.dropna().to_dict("records")
    )
    return Plot("weights", "Weight given to tokens by their loss", told, drawn)
