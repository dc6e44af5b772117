"""docs/methods.md says what the code says."""

from __future__ import annotations

import pytest

from harness.recipes.catalogue import balanced
from harness.recipes.methods_page import PATH, methods_page, plain
from harness.recipes.recipe_text import bundled_methods
from harness.recipes.registry import defaults_of, methods
from tests.bench.readme import README, written

OURS = {name: method for name, method in methods().items() if name in bundled_methods()}


def test_the_page_is_up_to_date():
    assert PATH.read_text(encoding="utf-8") == methods_page(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_method_has_formula_settings_and_source(name):
    section = methods_page().split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert "```bibtex\n@" in section and "\nAxes: " in section and "\nChecked: " in section and "\nSource: " in section
    for setting, default in defaults_of(OURS[name]).items():
        assert f"| `{setting}` | `{default!r}` |" in section


def test_text_is_not_read_as_markup():
    assert plain("F_i * (a_i)\nis `F_i`") == r"F\_i \* (a\_i) is `F_i`"


def test_a_bibtex_entry_ends_with_its_own_brace():
    assert balanced("@a{k, title={{LoRA}: low}, year={2021}}. More {x}.") == "@a{k, title={{LoRA}: low}, year={2021}}"


def test_the_readmes_table_is_the_published_one():
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run `python -m tests.bench.readme`"
