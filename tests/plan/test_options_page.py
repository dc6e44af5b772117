"""docs/options.md says what the plan says."""

from __future__ import annotations

import dataclasses
from collections import Counter

from harness.plan.options_page import NOTES, PATH, SECTIONS, options_page
from harness.plan.plan import Plan


def test_the_page_is_up_to_date():
    assert PATH.read_text(encoding="utf-8") == options_page(), "run `make docs`"


def test_each_option_stands_in_one_section():
    placed = Counter(name for names in SECTIONS.values() for name in names)
    assert placed == Counter(field.name for field in dataclasses.fields(Plan))
    assert set(NOTES) <= set(SECTIONS)
