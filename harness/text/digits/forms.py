r"""Ways to write a number, put into digits: 3/4, ½, 2\frac{1}{2}, 3 × 10⁵, 1'000, and the decimal comma of 3,5.

Pure functions of texts.
"""

from __future__ import annotations

import re
import unicodedata

from harness.text.digits.numerals import in_digits

_FRACTION_SIGN = re.compile(r"(?P<whole>\d)?(?P<sign>[¼-¾⅐-⅞↉])")
_SUPERSCRIPT = re.compile(r"(?<=10)[⁺⁻]?[⁰¹²³⁴-⁹]+")
_GAP = re.compile(r"(?<=\d)(?:[\u00a0\u202f\u2009'’]|\\,|\{,\})(?=\d{3}(?!\d))")
"""What stands between thousands besides a comma or point."""
_LATEX_SIGN = re.compile(r"\\(?=[%$€£])")
_LATEX_FRACTION = re.compile(r"\\[dtc]?frac\s*\{\s*(\d+(?:\.\d+)?)\s*\}\s*\{\s*(\d+(?:\.\d+)?)\s*\}")
_LATEX_POWER = re.compile(r"\\(?:times|cdot)(?![a-z])")
_POWER = re.compile(
    r"(?:(?<![\w.])(?P<factor>\d+(?:\.\d+)?)\s*[x×*·⋅]\s*|(?<![\w.]))10\s*(?:\^|\*\*)\s*[{(]?(?P<power>[-+]?\d+)[)}]?"
)
_FRACTION = re.compile(
    r"(?<![\w./:])(?<!\d-)(?:(?P<whole>\d{1,3}) +)?(?P<above>\d+(?:\.\d+)?)/(?P<below>\d+(?:\.\d+)?)(?![\w/]|[.:-]\d)"
)
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(?P<whole>\d{1,3}(?:\.\d{3})+|\d+),(?P<decimals>\d{1,2}|\d{4,})(?![\d,])")
YEARS = range(1900, 2100)
EXACT = 12
"""Decimals of a fraction: its last one is how exact it is taken to be."""


def in_plain_digits(text: str) -> str:
    """Return the text with full-width forms as plain ones and all numbers in digits, with a decimal point."""
    # Signs that Unicode's normal form would glue to their neighbours: 5½ is not 51/2, and 10⁵ is not 105.
    text = _FRACTION_SIGN.sub(_written_out, text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = _LATEX_SIGN.sub("", _GAP.sub("", text))
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("\u2212", "-")

    # Then one way to write each value.
    text = _LATEX_FRACTION.sub(r" \1/\2", _LATEX_POWER.sub("×", text))
    text = _POWER.sub(lambda match: f"{match['factor'] or 1}e{match['power']}", text)
    return in_digits(_FRACTION.sub(_divided, text))


def has_decimal_comma(text: str) -> bool:
    """Return whether a text holds a number whose comma can only be a decimal one, as 3,5 or 1.234,56."""
    return _DECIMAL_COMMA.search(text) is not None


def with_points(text: str) -> str:
    """Return the text with decimal commas as points, and thousands without theirs."""
    return _DECIMAL_COMMA.sub(lambda match: f"{match['whole'].replace('.', '')}.{match['decimals']}", text)


def _written_out(match: re.Match[str]) -> str:
    """Return 5½ as 5 1/2."""
    fraction = unicodedata.normalize("NFKC", match["sign"]).replace("\u2044", "/")
    return f"{match['whole']} {fraction}" if match["whole"] else fraction


def _divided(match: re.Match[str]) -> str:
    """Return the value of a fraction; a year before a slash, and division by zero, are none."""
    whole, above, below = (float(match[name] or 0) for name in ("whole", "above", "below"))
    mixed = match["whole"] is not None
    if not below or above in YEARS:
        return match[0]
    if mixed and above >= below:  # two numbers side by side: 12 5/4
        return f"{match['whole']} {above / below:.{EXACT}f}"
    return f"{whole + above / below:.{EXACT}f}"
