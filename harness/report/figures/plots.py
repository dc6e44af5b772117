"""The plots: gain against ability kept, both along the budget, losses by family, and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from harness.report.figures.spending import cost
from harness.report.figures.style import (
    BASE_LOOK,
    INK,
    PAPER,
    RULE,
    Plot,
    figure,
    mark_as,
    marks,
    name_points,
    sentence,
    style,
)
from harness.report.figures.token_plots import weights, zones
from harness.report.summary.format import interval, points, signed
from harness.report.summary.rows import TRACKS
from harness.report.summary.summary import Summary
from harness.report.tables.change_grid import change_grid
from harness.stats.analysis import MARGIN
from harness.stats.estimate import Estimate
from harness.visible import visible
from harness.vocabulary import Role

NAMED = 40
"""Rows that a plot has room to name and to number; of more only the fronts."""
LOST_WON = LinearSegmentedColormap.from_list("lost_won", ["#D55E00", "#fefefe", "#0072B2"])


def draw(summary: Summary) -> list[Plot]:
    """Return every plot that the stored runs have data for."""
    makers = (matched, tradeoff, tuning, curves, heat_map, zones, weights, cost)
    with style():
        made = [maker(summary) for maker in makers]
    return [plot for plot in made if plot is not None]


def _placed(summary: Summary) -> dict[str, tuple[float, float]]:
    points_of = {}
    for row in summary.rows:
        gain = summary.estimate("gain", row.name)
        change = summary.estimate("change", row.name)
        if row.done and (row.role.is_tuned or row.role == Role.BASE) and gain.known and change.known:
            points_of[row.name] = (gain.value, change.value)
    return points_of


def _draw_change(axes: Any, number: int, estimate: Estimate, look: Mapping[str, Any]) -> str:
    """Draw a row's change with its interval, or that it gains less; return what was drawn in words."""
    if not estimate.known:
        axes.text(0.02, number, "gains less", fontsize=8.5, va="center", transform=axes.get_yaxis_transform())
        return "gains less"
    arms = _arms(estimate)
    color = look["color"]
    bar = axes.errorbar(estimate.value, number, xerr=arms, fmt=look["marker"], color=color, ms=6.5, elinewidth=1.1, mec=PAPER)
    mark_as(bar, number)
    return f"{signed(estimate.value)} points {interval(estimate)}"


def looks_of(summary: Summary) -> dict[str, dict[str, Any]]:
    """Return the mark of each tuned row, and of each curve that several rows share."""
    entries = list(summary.matched.entries([row.name for row in summary.recipes]))
    return {**marks(entries), **marks([row.name for row in summary.tuned])}


def matched(summary: Summary) -> Plot | None:
    """Return each method as a curve of general change against gain, and below it the change where all have gained the same."""
    way = summary.matched
    entries = way.entries([row.name for row in summary.recipes])
    # More curves than can be told apart show nothing.
    if not entries or len(entries) > NAMED:
        return None
    looks = looks_of(summary)
    heights = [3.2, 0.5 + 0.26 * len(entries)]
    drawn, (top, bottom) = figure(4.3, sum(heights) + 0.6, rows=2, gridspec_kw={"height_ratios": heights})
    for number, (label, name) in enumerate(entries.items()):
        curve = way.curves.get(way.curve_of.get(name, name))
        if curve is not None:
            mark_as(top.plot(curve["gain"], curve["change"], ms=4.5, lw=1.3, mec=PAPER, mew=0.5, **looks[label]), number)
    top.axvline(way.matched.target, color=INK, lw=0.9, ls=":")
    bottom.axvline(0, color=RULE, lw=0.9)
    top.set_xlabel(f"gain in the domain, {summary.gain_unit}")
    top.set_ylabel("general change, points")
    texts = {}
    for number, (label, name) in enumerate(entries.items()):
        texts[label] = _draw_change(bottom, number, way.change(name), looks[label])
    bottom.set_yticks(range(len(entries)), [visible(label) for label in entries])
    bottom.set_ylim(len(entries) - 0.5, -0.5)
    bottom.set_xlabel(f"general change at a gain of {points(way.matched.target)}, points")
    where = f"at a gain of {points(way.matched.target)} {summary.gain_unit}, {way.description}"
    return Plot("matched", "What is kept at the same gain", f"General change {where}: {sentence(texts)}", drawn, texts)


def _arms(estimate: Estimate) -> list[list[float]]:
    """Return how far an interval reaches below and above its number, as error bars take it.

    The ends are of draws, so of few items the number can lie beside them: then there is no arm on that side.
    """
    below = max(0.0, estimate.value - estimate.low)
    above = max(0.0, estimate.high - estimate.value)
    return [[below], [above]]


def tradeoff(summary: Summary) -> Plot | None:
    """Plot general change against gain, in points, with intervals, each track's Pareto front, and the ways from the base."""
    positions = _placed(summary)
    if len(positions) < 2:
        return None
    drawn, (axes,) = figure(4.3, 3.9)
    looks = marks([row.name for row in summary.tuned])
    _ways(axes, summary, looks)
    texts = {}
    for number, (name, (x, y)) in enumerate(positions.items()):
        look = looks.get(name, BASE_LOOK)
        size = 6.5 if name in looks else 11
        gain = summary.estimate("gain", name)
        change = summary.estimate("change", name)
        bar = axes.errorbar(
            x, y, xerr=_arms(gain), yerr=_arms(change),
            fmt=look["marker"], color=look["color"], ms=size, elinewidth=1.1, zorder=4, mec=PAPER, mew=0.7,
        )  # fmt: skip
        mark_as(bar, number)
        texts[name] = (
            f"gain {signed(x)} {summary.gain_unit} {interval(gain)}, general change {signed(y)} points {interval(change)}, "
            f"kept {_kept(summary, name)}"
        )

    # Recipes with and without general data have fronts of their own: they are not to be compared.
    fronts: list[tuple[float, float]] = []
    for track, dash in zip(TRACKS, ("--", ":"), strict=True):
        front = _front({n: p for n, p in positions.items() if n == summary.base or summary.row(n).track == track})
        fronts += front
        axes.plot(*zip(*front, strict=True), ls=dash, color=INK, lw=0.9, zorder=2, label=f"Pareto front, {TRACKS[track]}")
    axes.set_xlabel(f"gain in the domain, {summary.gain_unit}")
    axes.set_ylabel("change of the general score, points")

    # More names than there is room for would hide the points.
    named = positions if len(positions) <= NAMED else {n: p for n, p in positions.items() if n == summary.base or p in fronts}
    note = "" if named is positions else f"named: {len(named)} of {len(positions)}, the base and the fronts"
    axes.margins(0.12, 0.08)
    legend = {"loc": "outside lower center", "fontsize": 8.5, "title": note, "title_fontsize": 8.5}
    name_points(axes, named, positions.values(), looks, legend)
    return Plot("tradeoff", "Change of the general score against domain gain", sentence(texts), drawn, texts)


def _kept(summary: Summary, row: str) -> str:
    kept = summary.estimate("retention", row)
    return f"{points(kept.value)} %" if summary.in_per_cent and kept.known else "not shown in per cent"


def _ways(axes: Axes, summary: Summary, looks: dict[str, dict[str, Any]]) -> None:
    way = summary.curves.path
    for name, part in way.groupby("row", sort=False):
        axes.plot(part["gain"], part["change"], color=looks.get(str(name), {}).get("color", INK), lw=0.8, alpha=0.45, zorder=1)


def _front(positions: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points no other is at least as good as on both axes, by gain."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(positions.values(), key=lambda p: (-p[0], -p[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def tuning(summary: Summary) -> Plot | None:
    """Return every trial's general change against its domain gain, on dev items."""
    table = summary.trials.dropna(subset=["gain", "change"])
    if table.empty:
        return None
    drawn, (axes,) = figure(4.3, 3.9)
    looks = marks([row.name for row in summary.tuned])
    texts: dict[str, str] = {}
    for name, part in table.groupby("row", sort=False):
        for number, trial in enumerate(part.to_dict("records")):
            label = "_nolegend_" if number else str(name)
            look = looks[str(name)]
            dot = axes.plot(trial["gain"], trial["change"], ls="", ms=5, alpha=0.7, mec=PAPER, mew=0.4, label=label, **look)
            mark_as(dot, len(texts))
            texts[f"{trial['recipe']} (trial {len(texts) + 1})"] = f"{signed(trial['gain'])}, {signed(trial['change'])}"
        chosen = part[part["selected"]]
        axes.plot(
            chosen["gain"], chosen["change"], ls="", marker="o", ms=11, mfc="none", mec=looks[str(name)]["color"], mew=1.2
        )
    axes.plot(0, 0, marker="*", ms=11, color=INK, ls="")
    axes.axhline(-MARGIN, color=RULE, lw=0.9)
    axes.set_xlabel(f"gain on dev items, {summary.gain_unit}")
    axes.set_ylabel("general change on dev items, points")
    drawn.legend(loc="outside lower center", ncols=3, fontsize=8.5, columnspacing=1.2, handlelength=1.0)
    return Plot("tuning", "Every setting tried: general change against domain gain on dev items", sentence(texts), drawn, texts)


def curves(summary: Summary) -> Plot | None:
    """Plot learning and forgetting over the spent budget, on the fixed sub-sample."""
    table = summary.curves.budget
    if table.empty:
        return None
    drawn, (top, bottom) = figure(4.3, 5.2, rows=2, sharex=True)
    looks = marks([row.name for row in summary.tuned])
    for axes, quantity, label in ((top, "gain", f"gain, {summary.gain_unit}"), (bottom, "change", "general change, points")):
        for number, (name, part) in enumerate(table.groupby("row", sort=False)):
            look = looks.get(str(name), BASE_LOOK)
            curve = axes.plot(part["at"], part[quantity], ms=4.5, lw=1.3, label=str(name), mec=PAPER, mew=0.5, **look)
            mark_as(curve, number)
            axes.fill_between(
                part["at"].astype(float), part[f"{quantity}_low"].astype(float), part[f"{quantity}_high"].astype(float),
                color=look["color"], alpha=0.06, lw=0,
            )  # fmt: skip
        axes.set_ylabel(label)
    bottom.set_xlabel("fraction of the budget spent")
    handles, labels = top.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5, columnspacing=1.2, handlelength=1.6)

    # A reader who cannot see the plot is told where each curve ends.
    texts = {}
    for name, part in table.groupby("row", sort=False):
        last = part.sort_values("at", kind="stable").to_dict("records")[-1]
        gain = signed(last["gain"])
        change = signed(last["change"])
        texts[str(name)] = f"ends at gain {gain} {summary.gain_unit}, general change {change} points"
    return Plot("curves", "Learning and forgetting over the spent budget", sentence(texts), drawn, texts)


def heat_map(summary: Summary) -> Plot | None:
    """Change by family and channel, row by row."""
    grid = change_grid(summary)
    if grid.empty or not len(grid.columns):
        return None
    drawn, (axes,) = figure(1.8 + 0.62 * len(grid.columns), 1.2 + 0.36 * len(grid))
    values = grid.to_numpy(float)

    # At least five points, so that noise does not fill the whole scale of colours.
    top = max(5.0, float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 5.0)
    axes.imshow(values, cmap=LOST_WON, vmin=-top, vmax=top, aspect="auto")
    few = len(grid.columns) <= NAMED
    if not few:
        axes.set_xlabel(f"{len(grid.columns)} recipes: the numbers are in report.html, Families and channels")
    for (i, j), value in np.ndenumerate(values) if few else ():
        axes.text(
            j, i, signed(value), ha="center", va="center", fontsize=7.5, color="#111111" if abs(value) < 0.75 * top else "white"
        )
    axes.set_xticks(range(len(grid.columns)), list(grid.columns), rotation=40, ha="right")
    labels = [f"{visible(name)} (channel)" if kind == "channel" else visible(name) for kind, name in grid.index]
    axes.set_yticks(range(len(grid)), labels)
    axes.grid(False)
    description = "; ".join(
        f"{name}: " + ", ".join(f"{row} {signed(v)}" for row, v in line.items())
        for (_, name), line in grid.T.items()  # type: ignore[misc]
    )
    return Plot("heat_map", "Change of the chance-corrected score by family and channel, in points", description, drawn)
