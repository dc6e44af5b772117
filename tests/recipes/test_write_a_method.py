"""docs/write_a_method.md: of each mistake in a class the page gives the sentence that Lethe says."""

from __future__ import annotations

import re

from harness.bundled import ROOT
from harness.contract import Method
from harness.recipes.method_faults import class_faults

PAGE = (ROOT / "docs" / "write_a_method.md").read_text(encoding="utf-8")
BODIES = (
    "def token_weight(self, nll, logits, batch): return nll",
    "def token_weights(self, nll, logits): return nll",
    "def __init__(self, gamma): pass\ndef rate(self, fraction): return 1.0",
    "def __init__(self, lr=1.0): pass\ndef rate(self, fraction): return 1.0",
    "needs = frozenset({'general_dat'})\ndef rate(self, fraction): return 1.0",
    "bounds = {'gama': '[0, 1]'}\ndef __init__(self, gamma=1.0): pass\ndef rate(self, fraction): return 1.0",
)
HOOK_VALUES = 1
"""Lines of the table that are found in a run: tests/recipes/test_own_methods.py makes those."""


def test_every_mistake_of_a_class_is_answered_as_the_page_says():
    lines = re.findall(r"^\| .* \| `(.*)` \|$", PAGE.split("## Mistakes")[1], re.MULTILINE)
    assert len(lines) == len(BODIES) + HOOK_VALUES
    for body in BODIES:
        facts: dict[str, object] = {}
        exec(body, facts)
        facts.pop("__builtins__")
        (fault,) = class_faults(type("Focal", (Method,), facts))
        assert any(line in fault for line in lines), fault
