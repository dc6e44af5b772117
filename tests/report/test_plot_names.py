"""Names beside the points of a plot: none covers another, and what has no room stands in the legend."""

from __future__ import annotations

from itertools import combinations

from matplotlib.text import Annotation

from harness.report.figures.style import figure, marks, name_points, style


def named(points: dict[str, tuple[float, float]]) -> tuple[list[Annotation], list[str]]:
    """Return the names written beside points of a plot of the tradeoff's size, and those in its legend."""
    with style():
        drawn, (axes,) = figure(4.3, 3.9)
        axes.set_xlim(-30, 70)
        axes.set_ylim(-70, 20)
        axes.plot([], [], label="a front")
        name_points(axes, points, points.values(), marks(list(points)), {"loc": "outside lower center"})
        drawn.canvas.draw()
        beside = [text for text in axes.texts if isinstance(text, Annotation)]
        return beside, [text.get_text() for text in drawn.legends[0].texts]


def test_crowded_names_cover_nothing_and_none_is_lost():
    crowd = {f"recipe{number}(lr=4.5e-4)": (40.0 + number % 4, 5.0 + number / 3) for number in range(14)}
    beside, legend = named(crowd | {"base": (0.0, 0.0)})
    boxes = [text.get_window_extent() for text in beside]
    assert not [one for one, other in combinations(boxes, 2) if one.overlaps(other)]
    assert {text.get_text() for text in beside} | set(legend) == {*crowd, "base", "a front"}
    assert len(legend) > 1 and "base" not in legend


def test_names_with_room_need_no_legend():
    beside, legend = named({"sft": (40.0, -40.0), "lora": (0.0, 10.0)})
    assert len(beside) == 2 and legend == ["a front"]
