"""Numbers as people read them: three significant digits, intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.stats.estimate import Estimate

MISSING = "—"
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def interval_columns(names: Iterable[str], low: str = " low", high: str = " high") -> list[str]:
    """Return three columns for each name: the number, and the two ends of its interval."""
    columns: list[str] = []
    for name in names:
        columns += [name, f"{name}{low}", f"{name}{high}"]
    return columns


def capital(text: str) -> str:
    """Return a sentence with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 3) -> str:
    """Return `1,230`, `−0.0123`, `97.3`; whole numbers in full; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return MISSING
    if float(value).is_integer():
        return f"{int(value):,}".replace("-", "−")
    value = float(f"{value:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    if abs(value) < 1e-4:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def points(value: float | None) -> str:
    """Return a score, a percentage or points: one decimal, so that columns line up."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.1f}"
    return "0.0" if text in ("-0.0", "0.0") else text.replace("-", "−")


def signed(value: float | None) -> str:
    """Return points with their sign."""
    text = points(value)
    return f"+{text}" if value is not None and math.isfinite(value) and value >= 0.05 else text


def share(value: float | None) -> str:
    """Return a probability in per cent; `> 99.9 %` and `< 0.1 %` are as far as draws can tell."""
    if value is None or not math.isfinite(value):
        return MISSING
    return "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Return `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{number(round(seconds))} s"
    return f"{number(round(seconds / 60))} min" if seconds < 5400 else f"{number(seconds / 3600, 2)} h"


def bare(value: float | None) -> str:
    """Return a number as an input field holds it: no separators, nothing where there is none."""
    return "" if value is None else f"{value:.12g}"


def si(value: float | None) -> str:
    """Return large counts with a prefix: `1.23 T`."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{number(value / size)} {prefix}"
    return number(value)


def interval(estimate: Estimate) -> str:
    """Return `[95.1, 98.9]`, or nothing where there is none."""
    return f"[{points(estimate.low)}, {points(estimate.high)}]" if estimate.known else ""


def with_interval(estimate: Estimate, unit: str = "") -> str:
    return f"{points(estimate.value)}{unit} {interval(estimate)}" if estimate.known else MISSING


def rough(estimate: Estimate, unit: str) -> str:
    """Return a number for sentences: `97 % [95, 99]`, with a decimal below ten."""

    def plain(value: float) -> str:
        text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
        return "0" if float(text) == 0 else text.replace("-", "−")

    return f"{plain(estimate.value)} {unit} [{plain(estimate.low)}, {plain(estimate.high)}]" if estimate.known else MISSING


def p_value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def holm_value(holm: float, difference: Estimate, pairs: int) -> str:
    """Return Holm's p of one of so many pairs; a bound where the draws could not give a smaller p: `< 0.0002 × 12`."""
    if difference.p_is_bound and math.isfinite(holm):
        return f"< {difference.least_p:.1g} × {pairs}"
    return p_value(holm)
