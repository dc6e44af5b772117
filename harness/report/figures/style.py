"""How plots look and how they become files and inline SVG: one palette, one way to save, the same bytes every time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.report.figures.fonts import LACKING, OWN, fallbacks, lacking
from harness.visible import visible

COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
"""Okabe and Ito's colour-blind safe palette, without the two that vanish on white or on black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK, RULE, PAPER = "#010101", "#d5d5d2", "#fefefe"
"""Inline on the page these (and the blue) become the page's own colours, light or dark."""
BASE_LOOK = {"color": INK, "marker": "*"}
LEGEND_LINE = 0.175
"""Inches that a line of a legend takes."""
_PAGE = {INK: "currentColor", RULE: "var(--rule)", PAPER: "var(--paper)", "#0072b2": "var(--blue)"}
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "lethe", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": RULE, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.5, "axes.axisbelow": True, "xtick.major.size": 0,
    "ytick.major.size": 0, "axes.unicode_minus": True, "legend.frameon": False, "figure.facecolor": "white",
    "path.simplify": False, "text.parse_math": False,
}  # fmt: skip

_ROW_ID = re.compile(r'id="row-(\d+)"')
"""How matplotlib writes what `mark_as` said. Several marks may belong to one row, and ids must be unique."""
_ROW_DATA = r'data-row="\1"'


@dataclass(frozen=True)
class Plot:
    """A finished figure with its text for readers who cannot see it."""

    name: str
    title: str
    description: str
    figure: Figure
    rows: dict[str, str] = field(default_factory=dict)
    """Row -> what is said of its marks when they are pointed at, in the order that `mark_as` numbers them by."""

    def file(self, kind: str) -> bytes:
        """Return the figure as an `svg` or `png` file."""
        buffer = io.BytesIO()
        boxes = bool(lacking(text.get_text() for text in self.figure.findobj(Text)))
        with style({"svg.fonttype": "none" if boxes else "path"}):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            note = self.figure.text(0, -0.02, LACKING, fontsize=7, va="top", wrap=True) if boxes and kind == "png" else None
            self.figure.savefig(buffer, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)
            if note is not None:
                note.remove()
        return _ROW_ID.sub(_ROW_DATA, buffer.getvalue().decode()).encode() if kind == "svg" else buffer.getvalue()

    def inline(self) -> str:
        """Return the figure as an accessible `<svg>` element in the page's colours."""
        buffer = io.StringIO()
        with style({"svg.fonttype": "none"}):
            self.figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
        text = buffer.getvalue()
        text = _ROW_ID.sub(_ROW_DATA, text[text.index("<svg") :])

        # Ids and styles of several figures share one page: each gets its own prefix, and no style
        # of its own.
        text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{self.name}-", text)
        for colour, variable in _PAGE.items():
            text = text.replace(colour, variable)
        text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
        head, rest = text.split(">", 1)
        head = re.sub(r' (width|height)="[^"]*"', "", head)
        names = f'role="img" aria-labelledby="{self.name}-title {self.name}-desc"'
        title = f'<title id="{self.name}-title">{escape(visible(self.title, None))}</title>'
        description = f'<desc id="{self.name}-desc">{escape(visible(self.description, None))}</desc>'
        return f"{head} {names}>{title}{description}{rest}"


@contextmanager
def style(more: dict[str, Any] | None = None) -> Iterator[None]:
    """Set the report's look inside the context, whatever the user's matplotlib settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a plot that lacks one says so itself
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"font.family": [OWN, *fallbacks()]} | (more or {}))  # type: ignore[arg-type]
        yield


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure that no window knows of, with its axes in reading order."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, squeeze=False, **options)
    return made, list(axes.ravel())


def stacked(axes: Axes, names: list[str], part: np.ndarray, left: np.ndarray, color: str, label: str) -> None:
    """Draw one part of a stacked bar for each row."""
    bars = axes.barh(names, part, left=left, color=color, edgecolor=PAPER, lw=0.6, label=label, height=0.72)
    for number, bar in enumerate(bars):
        mark_as([bar], number)


def sentence(texts: dict[str, str]) -> str:
    """Return what is said of every row, in one sentence, for readers who cannot see the plot."""
    return "; ".join(f"{name}: {text}" for name, text in texts.items())


def mark_as(artists: Iterable[Artist | Iterable[Artist] | None], number: int) -> None:
    """Say which row the artists belong to, by its place in `Plot.rows`; the page says whose marks are pointed at."""
    for artist in artists:
        if isinstance(artist, Artist):
            artist.set_gid(f"row-{number}")
        elif artist is not None:
            mark_as(artist, number)


def marks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return name -> {color, marker}: 48 different pairs, neighbours far apart."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // 24) % len(MARKERS)]}
        for i, name in enumerate(names)
    }


def name_points(
    axes: Axes,
    points: dict[str, tuple[float, float]],
    dotted: Collection[tuple[float, float]],
    looks: dict[str, dict[str, Any]],
    legend: dict[str, Any],
) -> None:
    """Write each name beside its point, or where there is no room in the legend below, with its mark; the plot grows for it."""
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    handles, labels = axes.get_legend_handles_labels()
    height = drawn.get_figheight()

    # A longer legend moves the points a little, so all names are placed anew until nothing changes.
    homeless: list[str] = []
    while True:
        drawn.set_figheight(height + LEGEND_LINE * len(homeless))
        keys = [Line2D([], [], ls="", ms=6.5, mec=PAPER, **looks.get(name, BASE_LOOK)) for name in homeless]
        below = drawn.legend([*handles, *keys], [*labels, *map(visible, homeless)], **legend)
        written, more = place_labels(axes, {name: at for name, at in points.items() if name not in homeless}, dotted)
        if not more:
            return
        homeless += more
        below.remove()
        for text in written:
            text.remove()


def place_labels(
    axes: Axes, points: dict[str, tuple[float, float]], dotted: Collection[tuple[float, float]]
) -> tuple[list[Artist], list[str]]:
    """Write names beside their points without covering what is `dotted`, with a thin line to points further away.

    Return the labels, and the names for which there was no free place.
    """
    # Places are known once everything is drawn.
    canvas = axes.figure.canvas
    canvas.draw()
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]
    dots = axes.transData.transform(list(dotted)) if dotted else []
    halo = withStroke(linewidth=2.2, foreground=PAPER)
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in dots]
    frame = axes.get_window_extent(renderer)
    around = ((1, 1.1), (1, -1.2), (-1, 1.1), (-1, -1.2), (1, 0), (-1, 0), (0.3, 1.6), (0.3, -1.8))
    offsets = [(r * x, r * y) for r, (x, y) in product((6, 13, 20, 32), around)]
    written: list[Artist] = []
    homeless = []
    for name, point in points.items():
        # Near places first.
        for dx, dy in offsets:
            side = "left" if dx > 0 else "right" if dx < 0 else "center"
            line = {"arrowstyle": "-", "color": INK, "lw": 0.4, "shrinkA": 0, "shrinkB": 3}
            text = axes.annotate(
                name, point, (dx, dy), textcoords="offset points", ha=side, va="center", fontsize=9,
                arrowprops=line if max(abs(dx), abs(dy)) > 12 else None, zorder=6, path_effects=[halo],
            )  # fmt: skip
            box = text.get_window_extent(renderer).expanded(1.02, 1.02)
            if not any(box.overlaps(other) for other in taken) and frame.x0 <= box.x0 and box.x1 <= frame.x1 + 20:
                taken.append(box)
                written.append(text)
                break
            text.remove()
        else:
            homeless.append(name)
    return written, homeless
