"""The recommendation keeps every limit, and says why the others are out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_store import ROWS

from harness.errors import PlanError
from harness.limits import Limits, parse_limits
from harness.plan import make_plan
from harness.report.recommend import Choice, broken, choices, limits_of, recommend

PLAIN = Choice("a", "free", 20.0, True, 96.0, 60.0, 1e9, "gains 20 points and keeps 97 %", "60 s, 1.00 GB", ())
SAFE = replace(PLAIN, name="b", gain=15.0, kept=99.0, alike=())


def said(found: list[Choice], **limits: float) -> str:
    ((_, sentence),) = recommend(found, Limits(**limits))
    return sentence


def test_without_limits_the_highest_gain():
    assert said([SAFE, PLAIN]) == "a gains 20 points and keeps 97 % (60 s, 1.00 GB)."


def test_the_lower_end_of_retention_counts():
    assert said([SAFE, PLAIN], retention=98).startswith("b ") and "Out: a (retention)." in said([SAFE, PLAIN], retention=98)


@pytest.mark.parametrize(
    ("limits", "why"), [({"seconds": 59}, "time"), ({"memory": 9e8}, "memory"), ({"retention": 97}, "retention")]
)
def test_each_limit_excludes(limits: dict, why: str):
    assert broken(PLAIN, Limits(**limits)) == [why]
    assert said([PLAIN], **limits) == f"No recipe keeps these limits. Out: a ({why})."


def test_what_was_not_measured_keeps_no_limit_on_it():
    unknown = replace(PLAIN, memory=float("nan"))
    assert broken(unknown, Limits(memory=1e12)) == ["memory"] and broken(unknown, Limits()) == []


def test_no_sure_gain_is_no_recommendation():
    assert said([replace(PLAIN, gains=False)]) == "No recipe keeps these limits. Out: a (no gain for sure)."


def test_gains_that_are_not_separated_are_named():
    assert "Not separated from it in gain: b." in said([replace(PLAIN, alike=("b",)), SAFE])


def test_choices_of_a_comparison(summary_of):
    found = {choice.name: choice for choice in choices(summary_of(rows={k: ROWS[k] for k in ("base", "sft", "lora", "mix")}))}
    assert set(found) == {"sft", "lora", "mix"} and found["lora"].seconds == 41 and found["sft"].memory == 812_000_000
    assert found["sft"].costs == "41 s, 812 MB" and "mix" not in found["sft"].alike  # of another track


def test_limits_of_the_plan_are_used(summary_of):
    summary = summary_of(rows={k: ROWS[k] for k in ("base", "sft")})
    assert limits_of(summary) == (Limits(retention=95), False)
    summary.record["plan"]["require"] = "memory=1GB"
    assert limits_of(summary) == (Limits(memory=1e9), True)


def test_limits_are_read():
    assert parse_limits("retention=95 seconds=600 memory=16GB") == Limits(95, 600, 16e9)
    assert parse_limits("memory=500mb") == Limits(memory=5e8) and parse_limits("") == Limits()


@pytest.mark.parametrize("text", ["keep=3", "retention", "seconds=1 seconds=2", "seconds=5GB", "retention=-1"])
def test_faulty_limits_are_refused_by_the_plan(text: str):
    with pytest.raises(PlanError, match="require takes retention=PERCENT"):
        make_plan({"require": text})
