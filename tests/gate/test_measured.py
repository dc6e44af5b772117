"""The gate on models tuned elsewhere: the limits of REQUIRE against the base, by whole intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.gate.announce import junit, sentence
from harness.gate.measured import judge_measured, limit_finding
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.verdict.verdict import verdict_of
from harness.report.write import write_report
from harness.stats.estimate import Estimate
from harness.store.comparisons import read_comparison
from harness.store.files import read_json, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))

from fake_store import build

ROWS = {
    "base": ("base", "free", 0.0, 0.0),
    "zero budget": ("control", "measured", 0.0, 0.0),
    "same": ("measured", "measured", 0.0, 0.0),
    "worse": ("measured", "measured", 0.4, 0.4),
    "better": ("measured", "measured", 0.4, 0.0),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    return build(tmp_path_factory.mktemp("measured"), rows=ROWS, curves=False, items=0.5)


def judged(stored, require: str | None) -> tuple[Summary, dict[tuple[str, str], str], int]:
    folder, store = stored
    record = read_json(folder / "comparison.json")
    assert record is not None
    record["plan"] = {**(record.get("plan") or {}), "require": require}
    write_json(folder / "comparison.json", record)
    summary = summarise(read_comparison(folder, store), reps=500)
    verdict = judge_measured(summary)
    return summary, {(one.row, one.metric): one.outcome for one in verdict.findings}, verdict.exit_code


def test_a_loss_beyond_the_limit_is_a_regression_and_the_base_itself_passes(stored):
    _, found, code = judged(stored, None)
    assert found.pop(("worse", "general")) == "regression"
    assert found == {("same", "general"): "pass", ("better", "general"): "pass", ("zero budget", "exact"): "pass"}
    assert code == 2


def test_limits_that_are_kept_pass_and_an_open_one_is_inconclusive(stored):
    summary, found, code = judged(stored, "loss=90 retention=1 family=99")
    assert set(found.values()) == {"pass"}
    assert code == 0
    assert ("worse", "general/facts") in found
    kept = summary.estimate("retention", "worse")
    between = (kept.value + kept.high) / 2
    _, found, code = judged(stored, f"retention={between:.3f}")
    assert (found["worse", "retention"], code) == ("inconclusive", 4)
    # the estimate keeps this limit, and a part of the interval does not
    between = (kept.value + kept.low) / 2
    _, found, code = judged(stored, f"retention={between:.3f}")
    assert (found["worse", "retention"], code) == ("inconclusive", 4)


def test_a_better_model_passes_whatever_its_gain():
    better = Estimate(value=30.0, low=25.0, high=35.0, n=200)
    assert limit_finding("better", "general", better, 5.0).outcome == "pass"


def test_a_test_too_small_to_show_the_limit_is_inconclusive_though_nothing_changed(tmp_path):
    """60 general items of which none changed exclude a loss of 6 points, and no smaller one."""
    rows = {row: ROWS[row] for row in ("base", "zero budget", "same")}
    summary, found, code = judged(build(tmp_path, rows=rows, curves=False, items=0.06), None)
    assert summary.estimate("change", "same").value == 0
    assert (found["same", "general"], code) == ("inconclusive", 4)
    (finding,) = [finding for finding in judge_measured(summary).findings if finding.row == "same"]
    assert "items do not exclude a loss beyond the tolerance" in finding.sentence
    cases = ElementTree.fromstring(junit(judge_measured(summary)))
    assert len(cases.findall(".//testcase/skipped")) == 1


def test_one_family_that_fell_fails_though_the_mean_holds(stored):
    summary, _, _ = judged(stored, None)
    worst = summary.worst_family("worse")
    fell = summary.estimate(f"change:family:{worst}", "worse")
    _, found, code = judged(stored, f"loss=90 family={-fell.high - 0.5:.3f}")
    assert found["worse", f"general/{worst}"] == "regression"
    assert found["worse", "general"] == "pass"
    assert code == 2


def test_junit_and_the_sentence_name_the_base(stored):
    summary, _, _ = judged(stored, None)
    verdict = judge_measured(summary)
    assert "worse than the base" in sentence(verdict)
    suite = ElementTree.fromstring(junit(verdict)).find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("failures")) == ("lethe measure --gate", "1")


@pytest.mark.usefixtures("unrendered")
def test_the_report_ranks_and_chooses_nothing_and_invents_no_cost(stored):
    summary, _, _ = judged(stored, None)
    assert summary.recipes == []
    assert [row.name for row in summary.measured] == ["same", "worse", "better"]
    verdict = verdict_of(summary)
    assert verdict.row is None
    assert verdict.sentence.startswith("same keeps 100 %")
    folder, store = stored
    report = write_report(folder, store, reps=200)
    table = report.table.set_index("row")
    assert table.loc["worse", "tuning"] == "budget unknown"
    assert table.loc["worse", "track"] == "measured"
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "## What tuning changed: worse" in card
    assert "general ability kept" in card
