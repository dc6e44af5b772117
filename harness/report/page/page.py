"""report.html: one self-contained page that opens offline; whatever a model wrote is shown, never run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

from harness.report.figures.plots import looks_of
from harness.report.figures.style import Plot
from harness.report.page.sections import SECTIONS
from harness.report.summary import format as shown
from harness.report.summary.rows import TRACKS
from harness.report.summary.summary import Summary
from harness.report.verdict.meters import budget_line
from harness.stats.quantity_name import Measured, Scope, change_of_area, change_of_family, name_of
from harness.visible import visible

HERE = Path(__file__).parent
PIECE = re.compile(r"[^(,+_/]*[(,+_/]|[^(,+_/]+")
"""A part of a name that stays together where a column is too narrow for all of it."""
GLYPHS = dict(zip("os^DvPXh", "●■▲◆▼✚✖⬢", strict=True))


def page(summary: Summary, plots: list[Plot]) -> str:
    """Return the whole page as text: each section of `SECTIONS` that has something to show, in the frame."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = (
        "number",
        "points",
        "signed",
        "share",
        "bare",
        "si",
        "interval",
        "with_interval",
        "p_value",
        "holm_value",
        "capital",
    )
    environment.filters |= {name: getattr(shown, name) for name in names}
    environment.filters |= {"visible": visible, "pieces": _pieces, "pretty": _pretty, "data_block": data_block}

    # A section without values has nothing to show, and leaves no heading behind.
    common = _common(summary, plots)
    parts = []
    for section in SECTIONS:
        values = section.values(summary)
        if values is not None:
            body = environment.get_template(f"sections/{section.id}.html.j2").render(common | values)
            parts.append((section, Markup(body)))

    # The page's policy lets run only the script with this digest.
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        common,
        parts=parts,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _common(summary: Summary, plots: list[Plot]) -> dict[str, Any]:
    """Return what every section's template may use."""
    return {
        "summary": summary,
        "budget": budget_line(summary),
        "record": summary.record,
        **{name: summary.record.get(name) or {} for name in ("model", "plan", "data")},
        "rows": summary.rows,
        "recipes": summary.recipes,
        "tracks": TRACKS,
        "plots": {plot.name: plot for plot in plots},
        "looks": looks_of(summary),
        "glyphs": GLYPHS,
        "missing": shown.MISSING,
        "Measured": Measured,
        "Scope": Scope,
        "name_of": name_of,
        "change_of_area": change_of_area,
        "change_of_family": change_of_family,
    }


def _pieces(name: str) -> list[str]:
    """Return the parts of a name between which a narrow column breaks it, and never at the minus of an exponent."""
    return PIECE.findall(visible(name))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def data_block(name: str, value: Any) -> Markup:
    """Return data for page.js as an inert element: no text of a model can end it or run as code."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    # Nothing that a model wrote can close the element or open another.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')
