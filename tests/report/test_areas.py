"""Column groups CAN, WILL and HOW, on the page and in the tables; verbosity and formatting of free answers."""

from __future__ import annotations

import pandas as pd
import pytest
from fake_store import build
from test_report_answers import answers, table

from harness.report.summary.summarise import summarise
from harness.report.summary.summary import areas_of
from harness.report.write import write_report
from harness.stats.quantity_name import Scope
from harness.store.comparisons import read_comparison
from harness.store.files import read_json, write_json
from harness.text.text_quality import formatting

MARKED = "# Bread\n\n- flour\n- water\n\n```\nbake()\n```"


@pytest.mark.usefixtures("unrendered")
def test_change_of_a_column_group_is_the_mean_of_its_families(tmp_path):
    folder, store = build(tmp_path, items=0.3, curves=False)
    plain = summarise(read_comparison(folder, store), reps=50)
    assert plain.areas == {} and plain.areas_sentence == ""
    families = plain.parts(Scope.FAMILY)
    assert len(families) >= 2
    record = read_json(folder / "comparison.json")
    areas = dict.fromkeys(families, "can") | {families[-1]: "will"}
    record["suites"] = [{"name": "s", "tasks": [], "items": 1, "families": {}, "areas": areas}]
    write_json(folder / "comparison.json", record)
    summary = summarise(read_comparison(folder, store), reps=50)
    assert list(summary.areas) == ["can", "will"]
    assert f"{len(families) - 1} of CAN (knowledge, skills), 1 of WILL (refusal, compliance)" in summary.areas_sentence
    row = summary.recipes[0].name
    by_family = [summary.estimate(f"change:family:{family}", row).value for family in families]
    can, will = (summary.estimate(f"change:area:{area}", row).value for area in ("can", "will"))
    assert can == pytest.approx(sum(by_family[:-1]) / (len(families) - 1))
    assert will == pytest.approx(by_family[-1])
    for name in ("change", "retention"):  # the headline stays what it is
        assert summary.estimate(name, row).value == plain.estimate(name, row).value
    write_report(folder, store, reps=50)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert summary.areas_sentence in page
    assert '<th scope="col">CAN</th><th scope="col">WILL</th>' in page
    numbers = pd.read_csv(folder / "table.csv").set_index("row")
    assert numbers.loc[row, "change will"] == pytest.approx(will)
    assert "CAN (points)" in (folder / "table.md").read_text(encoding="utf-8")


def test_one_column_group_is_none():
    suites = [{"areas": {"a": "can"}}, {"areas": {"b": "can"}}, {}]
    assert areas_of({"suites": suites}) == {}
    assert areas_of({"suites": [*suites, {"areas": {"c": "how"}}]}) == {"a": "can", "b": "can", "c": "how"}
    assert areas_of({}) == {}


def test_formatting_by_hand():
    assert formatting(MARKED) == {"lists": 1, "headings": 1, "fences": 1}
    assert formatting("一、准备\n1、面粉\n2、水") == {"lists": 1, "headings": 0, "fences": 0}
    assert formatting("**Steps:**\nMix it.") == {"lists": 0, "headings": 1, "fences": 0}
    assert formatting("It costs 3.5 euros - not more.\n- Bo") == {"lists": 0, "headings": 0, "fences": 0}
    assert formatting("") == {"lists": 0, "headings": 0, "fences": 0}


def test_verbosity_and_formatting_are_read_against_the_bases_own_answers():
    short, long = ["one two three"] * 4, [f"one two three\n\n{MARKED}"] * 4
    found = table(answers("base", short), answers("tuned", long), answers("zero", short))
    assert found.loc[("base", "length_ratio"), "value"] == 1
    assert found.loc[("tuned", "length_ratio"), "value"] > 3
    assert found.loc[("tuned", "length_ratio"), "change low"] > 0
    for name in ("lists", "headings", "fences"):
        assert found.loc[("tuned", name), ["value", "change", "change low"]].tolist() == [1, 1, 1]
        assert found.loc[("zero", name), "change"] == 0
