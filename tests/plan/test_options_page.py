"""docs/options.md says what the plan says."""

from __future__ import annotations

import dataclasses
import re

from harness.plan.options_page import NOTES, PATH, options_page
from harness.plan.plan import SECTIONS, Plan


def test_the_page_is_up_to_date():
    assert PATH.read_text(encoding="utf-8") == options_page(), "run `make docs`"


def test_every_option_stands_on_the_page_in_the_plans_order():
    listed = re.findall(r"^\| `([A-Z_]+)` \|", options_page(), re.MULTILINE)
    assert listed == [field.name.upper() for field in dataclasses.fields(Plan)]


def test_the_sections_are_those_of_the_plan():
    inside = [field.name for section in SECTIONS.values() for field in dataclasses.fields(section)]
    assert inside == [field.name for field in dataclasses.fields(Plan)]
    assert set(NOTES) <= set(SECTIONS)
