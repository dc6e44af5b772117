"""One fake comparison, reported once, for all tests that only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_store import build

from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.write import Report, write_report
from harness.store.comparisons import read_comparison


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder, store = build(tmp_path_factory.mktemp("fake"), hostile=True)
    return write_report(folder, store, reps=2000)


@pytest.fixture(scope="session")
def html(report: Report) -> str:
    return (report.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def summary_of(tmp_path: Path):
    """Build a small comparison with the given options and summarise it."""

    def make(**options) -> Summary:
        folder, store = build(tmp_path, **({"items": 0.3, "curves": False} | options))
        return summarise(read_comparison(folder, store), reps=500)

    return make
