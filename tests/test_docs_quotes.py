"""docs/troubleshooting.md: what it quotes in bold is what some module says."""

from __future__ import annotations

import re

from harness.bundled import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.compile(r'"([^"]+)"')


def test_what_is_quoted_is_what_is_said():
    """Letter for letter, but for what a sentence fills in (`...`) and a capital at its beginning."""
    sources = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "lethe").glob("*.py")]
    said = " ".join(path.read_text(encoding="utf-8") for path in sources)
    said = re.sub(r'"\s*\n\s*f?"|\s+', lambda found: "" if '"' in found[0] else " ", said).lower()
    headings = re.findall(r"\*\*(.+?)\*\*", PAGE, re.DOTALL)
    quotes = [quote for heading in headings for quote in QUOTED.findall(" ".join(heading.split()))]
    assert len(quotes) > 12
    parts = [part.strip(" .").lower() for quote in quotes for part in quote.split("...")]
    assert not [part for part in parts if part and part not in said]
