"""Numbers in texts: found, read with their units, and compared.

Signs, thousands separators, currencies, percent and million are understood, and what is written in other ways is put into
digits first: Chinese numerals (harness/text/digits/numerals.py), fractions and powers of ten (harness/text/digits/forms.py).
What a number counts in (kg, hours, euros) matters only where an item declares its unit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from harness.text.bounds import as_float
from harness.text.digits.forms import has_decimal_comma, in_plain_digits, with_points
from harness.text.final_answer import final_answer

_FACTORS = {
    "%": 0.01, "percent": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "m": 1e6,
    "billion": 1e9, "bn": 1e9, "trillion": 1e12, "per cent": 0.01, "lakh": 1e5, "crore": 1e7,
    "百": 1e2, "千": 1e3, "万": 1e4, "萬": 1e4, "十万": 1e5, "百万": 1e6, "千万": 1e7,
    "亿": 1e8, "億": 1e8, "十亿": 1e9, "百亿": 1e10, "千亿": 1e11, "万亿": 1e12, "‰": 1e-3, "‱": 1e-4,
}  # fmt: skip
_NUMBER = re.compile(
    r"(?P<open>\(\s*)?(?P<sign>(?<![\w)%])[-+\u2212])?\s*[$€£¥]?\s*(?<![A-Za-z\d.])"
    r"(?P<digits>(?>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?)(?!\d|(?:st|nd|rd|th)\b)"
    rf"(?:\s*(?P<unit>{'|'.join(sorted(_FACTORS, key=len, reverse=True))})(?![a-z]))?(?P<close>\s*\))?",
    re.IGNORECASE,
)
"""What is glued to the digits is no part of the number (30kg is 30), but an ordinal (21st) is none."""

LONGEST_POWER = 8
"""Characters of a power of ten that are read: one of more digits is beyond all floats anyway."""


@dataclass(frozen=True)
class Number:
    """A number as written."""

    value: float
    """Before its unit: 12 for 12 %."""
    factor: float | None
    """What its unit multiplies by: 0.01 for %; None where no unit stands."""
    tolerance: float
    """Half of the last decimal written, 0 for whole numbers: 3.1 stands for 3.05 to 3.15."""


def numbers(text: str) -> list[Number]:
    """Return all numbers of a text: signs, thousands separators, currency, percent and million understood, (5) is -5."""
    values = []
    for match in _NUMBER.finditer(in_plain_digits(text)):
        factor = _FACTORS[match["unit"].lower()] if match["unit"] else None
        value, width = _read(match)
        values.append(Number(value, factor, width))
    return values


def _read(match: re.Match[str]) -> tuple[float, float]:
    """Return (value, half of its last decimal) of a match of `_NUMBER`, without its unit; 0 for whole numbers."""
    digits = match["digits"].replace(",", "").lower()
    plain, _, power = digits.partition("e")
    decimals = len(plain.partition(".")[2])
    negative = match["sign"] in ("-", "\u2212") or (match["open"] and match["close"])
    width = float(f"0.5e{int(power[:LONGEST_POWER] or 0) - decimals}") if decimals else 0.0
    return -float(digits) if negative else float(digits), width


def is_number(text: str) -> bool:
    """Return whether the whole text is one number, with currency and unit at most."""
    plain = in_plain_digits(text).strip().rstrip(".。")
    return _NUMBER.fullmatch(with_points(plain) if has_decimal_comma(plain) else plain) is not None


def read_tolerance(given: Any) -> tuple[float, float]:
    """Return (absolute, relative) of a tolerance: 0.5 is absolute, "1%" relative. Raises ValueError."""
    if isinstance(given, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", given)):
        return 0.0, float(match[1]) / 100
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= as_float(given) < math.inf:
        return float(given), 0.0
    raise ValueError(f"'tolerance' is {given!r}; give a number from 0, or a share of the answer as \"1%\"")


def _near(a: float, b: float, tolerance: float, relative: float = 0.0) -> bool:
    """Return whether a is b within an absolute or relative tolerance, or within rounding of its own digits."""
    if math.isinf(b):
        return a == b  # of so many digits that it is beyond all floats: everything else is within its width
    return abs(a - b) <= max(tolerance, relative * abs(b)) * (1 + 1e-9) + 1e-6 * abs(b)


def agree(output: Number, target: Number, tolerance: Any = 0) -> bool:
    """Return whether two numbers are equal within the target's rounding or the tolerance.

    A unit that only one of them names may be read or left out: 12 agrees with 12 %, and so does 0.12.
    """
    absolute, relative = read_tolerance(tolerance)
    scale = target.factor or 1.0
    width = max(target.tolerance, absolute)
    scaled = _near(output.value * (output.factor or 1.0), target.value * scale, width * scale, relative)
    one_unit = (output.factor is None) != (target.factor is None)
    return scaled or (one_unit and _near(output.value, target.value, width, relative))


def numeric(output: str, target: str, tolerance: Any = 0, unit: str = "") -> float:
    """Return 1 if the output's last number agrees with the target's last one, else 0.

    After reasoning, the answer is last. Where a text marks its final answer and that has a number, only that part is read.
    """
    output = _final(output)
    target = _final(target)

    # An answer of 3,5 says that its data set writes decimals so; then 1.234,5 is one number too.
    if has_decimal_comma(target):
        output = with_points(output)
        target = with_points(target)
    if unit:
        return _same_quantity(output, target, tolerance, unit)
    given = last_number(output)
    right = last_number(target)
    if given is None or right is None:
        return 0.0
    return float(agree(given, right, tolerance))


def last_number(text: str) -> Number | None:
    """Return the last number of a text, or of the final answer that it marks; None if there is none."""
    values = numbers(_final(text))
    return values[-1] if values else None


def _final(text: str) -> str:
    """Return the final answer that a text marks, if there is a number in it, else the text."""
    answer = final_answer(text)
    return answer if answer and numbers(answer) else text


# --- units -------------------------------------------------------------------------------------------------------

_UNITS = {
    "length": {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "inch": 0.0254, "inches": 0.0254, "ft": 0.3048,
               "feet": 0.3048, "foot": 0.3048, "mile": 1609.344, "metre": 1.0, "meter": 1.0, "kilometre": 1e3, "kilometer": 1e3,
               "centimetre": 1e-2, "centimeter": 1e-2, "毫米": 1e-3, "厘米": 1e-2, "米": 1.0, "公里": 1e3, "千米": 1e3},
    "mass": {"mg": 1e-6, "g": 1e-3, "kg": 1.0, "t": 1e3, "lb": 0.45359237, "lbs": 0.45359237, "pound": 0.45359237,
             "oz": 0.028349523125, "ounce": 0.028349523125, "gram": 1e-3, "kilogram": 1.0, "tonne": 1e3, "毫克": 1e-6,
             "克": 1e-3, "千克": 1.0, "公斤": 1.0, "吨": 1e3},
    "volume": {"ml": 1e-3, "l": 1.0, "litre": 1.0, "liter": 1.0, "millilitre": 1e-3, "milliliter": 1e-3, "gallon": 3.785411784,
               "毫升": 1e-3, "升": 1.0},
    "time": {"ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0,
             "hour": 3600.0, "day": 86400.0, "week": 604800.0, "秒": 1.0, "分钟": 60.0, "小时": 3600.0, "天": 86400.0},
    "months": {"month": 1.0, "year": 12.0, "月": 1.0, "个月": 1.0, "年": 12.0},
    "share": {"%": 0.01, "percent": 0.01, "bp": 1e-4, "bps": 1e-4, "basis point": 1e-4},
    "dollars": {"$": 1.0, "usd": 1.0, "us$": 1.0, "dollar": 1.0, "cent": 0.01, "美元": 1.0},
    "euros": {"€": 1.0, "eur": 1.0, "euro": 1.0, "欧元": 1.0},
    "sterling": {"£": 1.0, "gbp": 1.0},
    "yuan": {"cny": 1.0, "rmb": 1.0, "yuan": 1.0, "元": 1.0, "人民币": 1.0},
    "yen": {"¥": 1.0, "jpy": 1.0, "yen": 1.0, "日元": 1.0},
}  # fmt: skip
"""What is counted -> unit -> its size; English names may end in s. Months and days are kept apart."""
_KNOWN: dict[str, tuple[str, float]] = {}
"""Unit -> (what is counted, its size)."""
for _kind, _units in _UNITS.items():
    _KNOWN |= {_name: (_kind, _size) for _name, _size in _units.items()}


def read_unit(unit: str) -> tuple[str, float]:
    """Return (what a unit counts, its size); an unknown unit counts only itself. Raises ValueError."""
    if not isinstance(unit, str):
        raise ValueError(f"'unit' is {unit!r}; give its name, as kg or USD")
    name = unit.strip().casefold()
    return _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s")) or (name, 1.0)


def is_known_unit(unit: str) -> bool:
    """Return whether a unit's size is known, its plural too."""
    name = unit.strip().casefold()
    return name in _KNOWN or name.removesuffix("s") in _KNOWN


def _suffix(unit: str) -> re.Pattern[str]:
    """Return a pattern of what may follow a number: a unit, a scale, or a scale and a unit."""
    wanted = unit.strip().casefold()
    kind, _ = read_unit(unit)

    # A single letter (m, g, s ...) may be anything: it is a unit only if the declared one counts the same.
    names = {wanted}
    for name in _KNOWN:
        letter = len(name) == 1 and name.isascii() and name.isalpha()
        if not letter or _KNOWN[name][0] == kind:
            names.add(name)
    units = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    scale_names = [name for name in _FACTORS if name not in ("%", "percent")]
    scales = "|".join(sorted(scale_names, key=len, reverse=True))
    return re.compile(rf"\s*(?:(?P<unit>{units})s?|(?P<scale>{scales})(?:\s*(?P<scaled>{units})s?)?)(?![a-z])", re.IGNORECASE)


def _quantities(text: str, unit: str) -> list[tuple[float, float, tuple[str, float] | None]]:
    """Return (value with its scale, half of its last decimal, the unit that is named) of each number."""
    text = in_plain_digits(text)
    suffix = _suffix(unit)
    quantities = []
    for match in _NUMBER.finditer(text):
        value, width = _read(match)
        after = suffix.match(text, match.end("digits"))
        scale = _FACTORS[after["scale"].lower()] if after and after["scale"] else 1.0

        # A currency's sign before the number is its unit, else the word behind it.
        before = re.search(r"[$€£¥]\s*$", text[: match.start("digits")])
        name = ""
        if before:
            name = before[0].strip()
        elif after:
            name = after["unit"] or after["scaled"] or ""
        quantities.append((value * scale, width * scale, read_unit(name) if name else None))
    return quantities


def _same_quantity(output: str, target: str, tolerance: Any, unit: str) -> float:
    """Return 1 if the last quantities of both texts agree, else 0.

    A number without a unit is in the declared one; a unit of another kind is wrong.
    """
    declared = read_unit(unit)
    absolute, relative = read_tolerance(tolerance)
    given = _quantities(output, unit)
    right = _quantities(target, unit)
    if not given or not right:
        return 0.0
    value, _, value_unit = given[-1]
    wanted, width, wanted_unit = right[-1]
    value_kind, value_size = value_unit or declared
    wanted_kind, wanted_size = wanted_unit or declared
    if value_kind != wanted_kind:
        return 0.0
    allowed = max(width * wanted_size, absolute * declared[1])
    return float(_near(value * value_size, wanted * wanted_size, allowed, relative))
