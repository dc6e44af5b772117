"""The in-sample artefact is a difference of differences, not what a row keeps less of held-out families."""

from __future__ import annotations

import pytest
from fake_store import ROWS

from harness.report.tables.artefact import artefacts, reference_of

FEW = {name: ROWS[name] for name in ("base", "sft", "mix", "replay")}


def planted(summary, **changes: tuple[float, float]):
    """Levels of the change on seen and held-out families, in the estimates and in every draw."""
    analysis = summary.analysis
    for row, (seen, held_out) in changes.items():
        place = analysis.rows.index(row)
        for name, value in (("change:seen", seen), ("change:held_out", held_out)):
            for source in (analysis.point, analysis.replicates, analysis.by_seed):
                source[name][..., place] = value
    return summary


def test_families_that_differ_in_difficulty_are_no_artefact(summary_of):
    """`sft` uses no general data and loses 28 points of seen families and 14 of held-out ones: that is their difficulty."""
    summary = planted(summary_of(rows=FEW), sft=(-28.0, -14.0), mix=(-20.0, -6.0), replay=(-10.0, -6.0))
    found = {one.row.name: one for one in artefacts(summary)}
    assert reference_of(summary) == "sft" and set(found) == {"mix", "replay"}
    assert (found["mix"].seen.value, found["mix"].held_out.value, found["mix"].difference.value) == pytest.approx((8, 8, 0))
    assert found["replay"].difference.value == pytest.approx(10)  # saves 18 of seen families, 8 of the others


def test_it_has_an_interval_of_joint_draws(summary_of):
    one = artefacts(summary_of(rows=FEW))[0]
    assert one.difference.low < one.difference.value < one.difference.high
    assert one.difference.value == pytest.approx(one.seen.value - one.held_out.value) and one.difference.n > 100


def test_without_a_recipe_that_needs_no_general_data_nothing_is_shown(summary_of):
    assert artefacts(summary_of(rows={name: ROWS[name] for name in ("base", "mix", "replay")})) == []
