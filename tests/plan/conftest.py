"""Shared by the tests of commands and plans that users find in docs and examples."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("mydata.json", "orders.json", "general.json", "chat.json", "corpus.txt", "finance.json", "law.json", "medicine.json")
FILES += ("facts.json", "figures.json", "data/train.json", "data/test.json", "data/general.jsonl")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that docs and examples name."""
    (tmp_path / "data").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("[]")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path
