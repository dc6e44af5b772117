"""Fonts for labels in scripts of which matplotlib's own font, DejaVu Sans, has no glyphs: Chinese, Japanese, Korean and more.

What is installed is used, glyph by glyph, so that Latin labels look alike everywhere. Where nothing fits, the plot says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"
"""What matplotlib brings."""
FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK JP", "Noto Sans CJK KR",
    "Noto Sans SC", "Noto Sans TC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "Source Han Sans CN", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "IPAexGothic", "IPAGothic", "TakaoGothic",
    "AR PL UMing CN", "Arial Unicode MS", "Unifont",
)  # fmt: skip
"""Fonts with East Asian glyphs that systems and distributions have, the best first."""
LACKING = (
    "Boxes stand for letters of which no font here has a glyph; the .svg of this plot keeps them as text. "
    "With a font that has them, such as Noto Sans CJK, `lethe report` draws them."
)


@cache
def fallbacks() -> tuple[str, ...]:
    """Return those of `FAMILIES` that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(family for family in FAMILIES if family in installed)


def lacking(texts: Iterable[str]) -> set[str]:
    """Return the letters of which no font in use has a glyph."""
    letters = set[str]().union(*texts)
    wanted = {letter for letter in letters if letter.isprintable() and not letter.isspace() and ord(letter) > 127}
    for family in (OWN, *fallbacks()):
        if not wanted:
            break
        wanted -= {letter for letter in wanted if _glyphs(family).get_char_index(ord(letter))}
    return wanted


@cache
def _glyphs(family: str) -> FT2Font:
    return FT2Font(font_manager.findfont(font_manager.FontProperties(family=[family])))
