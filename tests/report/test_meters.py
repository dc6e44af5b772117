"""What was spent is told where it is read, and the choice is held against the other meter."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from fake_store import ROWS
from rich.console import Console

from harness.report.summary.recommend import advise
from harness.report.verdict.meters import budget_line, other_meter, read_at
from harness.report.verdict.terminal import show

FEW = {name: ROWS[name] for name in ("base", "sft", "lora", "mix")}


def slower(summary, **seconds: float):
    """The same comparison, where rows took other times."""
    for row in summary.rows:
        for run in row.finished:
            if run["row"] in seconds:
                run["ledger"]["seconds"] = seconds[run["row"]]
                run["run"]["happened"]["epochs"] = seconds[run["row"]] / 10
    return summary


@pytest.fixture
def summary(summary_of):
    made = summary_of(rows=FEW, curves=True, items=1.0, seeds=(0, 1))
    made.record["plan"]["require"] = "loss=20"
    return made


def test_the_line_names_meter_epochs_and_seconds(summary):
    slower(summary, sft=27.0, lora=49.0)
    assert budget_line(summary) == "equal FLOPs (3epochs, 200 T each); 2.7 to 4.9 epochs; 27 to 49 device-seconds"
    summary.record["plan"]["meter"] = "seconds"
    assert budget_line(summary).startswith("equal device-seconds (3epochs, 27 to 49 each); 2.7 to 4.9 epochs; 200 T FLOPs")


def test_terminal_and_page_tell_it(report):
    stream = io.StringIO()
    show(report.summary, Console(file=stream, width=110))
    assert "Equal FLOPs (3epochs, 200 T each); 3.0 epochs; 41 device-seconds." in stream.getvalue()
    header = (report.folder / "report.html").read_text().partition("</header>")[0]
    assert "equal FLOPs (3epochs, 200 T each); 3.0 epochs; 41 device-seconds" in header


def test_at_equal_seconds_it_holds_where_all_took_the_same(summary):
    found = other_meter(summary)
    assert found.meter == "seconds" and found.advice.row == summary.computed(advise).row
    assert found.sentence.startswith("It holds at equal cost (41 device-seconds each") and "draws" in found.sentence


def test_a_slow_winner_does_not_hold(summary):
    """`mix` wins at equal FLOPs; where it takes 20 times the seconds, what it has gained by then is next to nothing."""
    assert summary.computed(advise).row == "mix"
    slower(summary, mix=800.0)
    found = other_meter(summary)
    reading = next(reading for reading in found.readings if reading.row.name == "mix")
    assert reading.fraction == pytest.approx(41 / 800) and reading.gain.value < summary.estimate("gain", "mix").value / 2
    assert (
        found.advice.row == "lora" and found.sentence.startswith("It does not hold") and "takes lora instead" in found.sentence
    )


def test_without_curves_it_cannot_be_told(summary_of):
    summary = summary_of(rows=FEW, seeds=(0, 1))
    summary.record["plan"]["require"] = "loss=20"
    assert other_meter(summary).sentence.startswith(
        "Whether this holds at equal device-seconds cannot be told: recipes have no curve"
    )


def test_a_point_between_two_is_read_linearly_and_jointly(summary):
    found = summary.curves.spent
    half = read_at(found, {"sft": (0.33 + 0.5) / 2, "lora": 1.0})
    before, after = (found.rows.index(f"sft @ {at:.6f}") for at in (0.33, 0.5))
    for source in ("point", "replicates"):
        whole, read = getattr(found, source)["gain"], getattr(half, source)["gain"]
        assert np.allclose(read[..., 1], (whole[..., before] + whole[..., after]) / 2)
    assert half.estimate("gain", "lora").value == found.estimate("gain", "lora @ 1.000000").value
    assert replace(half, rows=half.rows).difference("gain", "sft", "lora").known
