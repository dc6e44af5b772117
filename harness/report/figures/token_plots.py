"""Plots of what was trained on: token losses, their share of the gradient, and the weights methods gave them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from harness.report.figures.style import PAPER, Plot, figure, mark_as, marks, stacked
from harness.report.summary.format import points
from harness.report.summary.summary import Summary
from harness.report.tables.tokens import token_tables, zone_name

ZONE_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7")


def zones(summary: Summary) -> Plot | None:
    """Plot which token losses the training saw, and which made the gradient."""
    table, _ = summary.computed(token_tables)
    if table.empty:
        return None
    names = list(dict.fromkeys(table["row"]))
    drawn, panels = figure(4.3, 1.4 + 0.26 * len(names), columns=2, sharey=True)
    for axes, kind in zip(panels, ("tokens", "gradient"), strict=True):
        left = np.zeros(len(names))
        for k, zone in enumerate(dict.fromkeys(table["zone"])):
            part = table[table["zone"] == zone].set_index("row")[kind].reindex(names).fillna(0).to_numpy(float) * 100
            stacked(axes, names, part, left, ZONE_COLOURS[k % 5], zone)
            left = left + part
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of supervised\ntokens" if kind == "tokens" else "% of\ngradient")
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
    texts: dict[str, list[str]] = {name: [] for name in names}
    for zone in table.to_dict("records"):
        shares = f"{points(100 * zone['tokens'])} % of tokens, {points(100 * zone['gradient'])} % of gradient"
        texts[zone["row"]].append(f"{zone['zone']} nats: {shares}")
    return _plot("zones", "Share of tokens and of gradient by token loss", drawn, texts)


def _plot(name: str, title: str, drawn: Figure, texts: dict[str, list[str]]) -> Plot:
    """Return a plot of which several things are said of each row."""
    rows = {row: "; ".join(parts) for row, parts in texts.items()}
    return Plot(name, title, ". ".join(f"{row}, {text}" for row, text in rows.items()), drawn, rows)


def weights(summary: Summary) -> Plot | None:
    """Return what weight methods gave to tokens, by their loss, on this data."""
    _, table = summary.computed(token_tables)
    if table.empty:
        return None
    drawn, (top, bottom) = figure(4.3, 4.2, rows=2, sharex=True, height_ratios=(2, 1))
    looks = marks([row.name for row in summary.recipes])
    last = 1.3 * float(table["low"].max())
    for number, (name, part) in enumerate(table.groupby("row", sort=False)):
        edges = [*part["low"], last]
        colour = looks[str(name)]["color"]
        top.stairs(part["weight"], edges, color=colour, lw=1.5, baseline=None)
        middle = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
        dots = top.plot(middle, part["weight"], ls="", ms=5, mec=PAPER, mew=0.4, label=str(name), **looks[str(name)])
        mark_as(dots, number)
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
    texts: dict[str, list[str]] = {str(name): [] for name in table["row"].unique()}
    for bin_ in table.dropna().to_dict("records"):
        share = points(100 * bin_["tokens"])
        texts[bin_["row"]].append(
            f"{zone_name(bin_['low'], bin_['high'])} nats: weight {bin_['weight']:.2f}, {share} % of tokens"
        )
    return _plot("weights", "Weight given to tokens by their loss", drawn, texts)
