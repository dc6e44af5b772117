"""Real inputs, which may stand beside the project's root: a test of them is skipped, with its reason, where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.bundled import ROOT

SHARED = ROOT.parent / "shared" / "data"


def real(*names: str) -> list[Any]:
    """Return a parameter of a test for each of these files or folders of the shared data."""
    parameters = []
    for name in names:
        path = SHARED / name
        absent = pytest.mark.skipif(not path.exists(), reason="the shared data is not here")
        parameters.append(pytest.param(path, id=Path(name).stem, marks=absent))
    return parameters
