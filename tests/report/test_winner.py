"""Which recipe is exported when none is named."""

from __future__ import annotations

import pytest
from fake_store import ROWS

from harness.errors import PlanError
from harness.export import winner
from harness.report.verdict import verdicts


def test_it_is_the_one_that_keeps_most_among_the_verdicts_recipes(summary_of):
    summary = summary_of(seeds=(0, 1, 2, 3))
    leaders = {verdict.track: verdict.row for verdict in verdicts(summary)}
    assert winner(summary) == leaders["general"] and leaders["free"] != leaders["general"]


def test_where_nothing_gained_none_is_chosen(summary_of):
    idle = {
        name: (role, track, 0.0, 0.0) for name, (role, track, _, _) in ROWS.items() if name in ("base", "zero budget", "sft")
    }
    with pytest.raises(PlanError, match="choose one with --recipe: sft"):
        winner(summary_of(rows=idle, seeds=(0, 1)))


def test_one_seed_names_no_winner(summary_of):
    with pytest.raises(PlanError, match="names no winner"):
        winner(summary_of())
