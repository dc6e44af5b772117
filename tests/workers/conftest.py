"""What one process makes, which runs in several processes are compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.ranks import SETTINGS, train_into
from tests.support.training import make_run


@pytest.fixture(scope="session")
def reference(base, tmp_path_factory) -> Callable[[str], Path]:
    """Return the folder of a recipe's run; each recipe is trained once."""
    folder = tmp_path_factory.mktemp("alone")

    @cache
    def alone(recipe: str) -> Path:
        train_into(make_run(base, recipe, **SETTINGS), folder / recipe)
        return folder / recipe

    return alone
