"""Labels in scripts that matplotlib's own font lacks."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

from harness.report.figures import fonts
from harness.report.figures.style import Plot, figure, style


@pytest.fixture
def nothing_installed(monkeypatch):
    """As on a machine with matplotlib's own fonts only."""
    monkeypatch.setattr(fonts, "fallbacks", lambda: ())
    monkeypatch.setattr("harness.report.figures.style.fallbacks", lambda: ())


def labelled(text: str) -> Plot:
    with style():
        drawn, (axes,) = figure(3, 2)
        axes.set_title(text)
    return Plot("test", "A title", "A description", drawn)


def test_what_no_font_has_is_known(nothing_installed):
    assert fonts.lacking(["sft − 微调 µ", "Δ kept %"]) == {"微", "调"}


def test_a_plot_without_glyphs_says_so_and_keeps_its_text(nothing_installed):
    plot = labelled("微调")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, png, plain = plot.file("svg"), plot.file("png"), labelled("sft").file("png")
    assert "微调" in svg.decode() and "<text" in svg.decode()
    height = int.from_bytes(png[20:24], "big")
    assert height > int.from_bytes(plain[20:24], "big"), "a note stands below"
    assert plot.file("png") == png and not [t for t in plot.figure.texts if "Boxes" in t.get_text()]


def test_a_plot_with_glyphs_is_drawn_as_outlines(nothing_installed):
    assert "<text" not in labelled("sft − µ").file("svg").decode()


def test_what_is_installed_draws_what_matplotlibs_own_lacks(monkeypatch):
    """STIX has a letter that DejaVu Sans has not; here it goes by a name of the list."""
    path = next(font.fname for font in fontManager.ttflist if font.name == "STIXGeneral")
    entry = FontEntry(
        fname=path, name="Noto Sans CJK SC", style="normal", variant="normal", weight=400, stretch="normal", size="scalable"
    )
    letter = next(
        c for c in map(chr, FT2Font(path).get_charmap()) if ord(c) > 0x2000 and c.isprintable() and fonts.lacking([c])
    )
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist, entry])
    boxed = labelled(letter).file("png")
    fonts.fallbacks.cache_clear()
    try:
        drawn = labelled(letter)
        assert fonts.fallbacks() == ("Noto Sans CJK SC",) and not fonts.lacking([letter])
        assert drawn.file("png") != boxed and "<text" not in drawn.file("svg").decode()
    finally:
        fonts.fallbacks.cache_clear()
