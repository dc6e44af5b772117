"""docs/options.md says what the plan says."""

from __future__ import annotations

import dataclasses
import re

from harness.bundled import ROOT
from harness.plan.options_page import NOTES, PATH, SECTIONS, options_page
from harness.plan.plan import Plan


def test_the_page_is_up_to_date():
    assert PATH.read_text(encoding="utf-8") == options_page(), "run `make docs`"


def test_every_option_stands_on_the_page_in_the_plans_order():
    listed = re.findall(r"^\| `([A-Z_]+)` \|", options_page(), re.MULTILINE)
    assert listed == [field.name.upper() for field in dataclasses.fields(Plan)]


def test_the_sections_are_those_of_the_plan():
    source = (ROOT / "harness" / "plan" / "plan.py").read_text(encoding="utf-8")
    opened = re.findall(r"^    # ([A-Z]\w*): .*\n(?:    # .*\n)*    (\w+): ", source, re.MULTILINE)
    assert dict(opened) == SECTIONS
    assert set(NOTES) <= set(SECTIONS)
