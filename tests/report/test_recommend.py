"""What the report says of the rule's choice: one answer everywhere, with how sure it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_store import ROWS

from harness.commands.export import winner
from harness.errors import PlanError
from harness.plan.load import make_plan
from harness.plan.values import Limits, parse_limits
from harness.report.summary.recommend import NOBODY, advise, choices, limits_of
from harness.report.summary.rule import rule_sentence
from harness.report.tables.main_table import full_table
from harness.report.verdict.advice_text import sureness, track_advice
from harness.report.verdict.terminal import shown
from harness.report.verdict.verdict import verdict_of, verdict_record

FEW = {name: ROWS[name] for name in ("base", "sft", "lora", "mix", "mix+lora")}


def test_one_answer_to_one_question(summary_of):
    """Verdict, table and files name one model, and export gives it."""
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "mix+lora")}, seeds=(0, 1, 2), items=1.0)
    verdict = verdict_of(summary)
    record = json.loads(verdict_record(verdict, []))
    taken = full_table(summary).set_index("row")["chosen probability"]
    assert verdict.row == record["row"] == taken.idxmax() == advise(summary).row == winner(summary) == "mix+lora"
    assert record["again"] == pytest.approx(taken["mix+lora"]) and record["rule"] == rule_sentence(Limits(loss=5))
    assert record["refusal"] is None and record["decision"] == "clear winner" and verdict.separated


def test_one_answer_to_one_question_is_none_with_one_seed(report):
    """Page, terminal, table, verdict.json, leaderboard and export: no recipe is chosen, none stands before another."""
    advice = advise(report.summary)
    record = json.loads((report.folder / "verdict.json").read_text())
    assert report.verdict.row is record["row"] is advice.row is None and advice.one_seed and not advice.shares
    assert record["decision"] == "one seed" and record["again"] is None and not record["separated"]
    assert record["refusal"] == advice.refusal == "each recipe has one seed, so recipes are not compared"
    assert report.table["chosen probability"].isna().all() and not report.verdict.sureness
    with pytest.raises(PlanError, match="each recipe has one seed"):
        winner(report.summary)
    table_order = [row.name for row in report.summary.recipes]
    kept = [choice.row.name for choice in choices(report.summary)]
    assert kept == [name for name in table_order if name in kept], "no ranking by gain"
    for text in (shown(report.summary), (report.folder / "report.html").read_text(), (report.folder / "table.md").read_text()):
        flat = " ".join(text.split())
        assert "One seed: recipes are not compared, and none is chosen." in flat
        assert "again in" not in flat and "It holds at" not in flat and "does not hold" not in flat
        assert "Take " not in flat and "keeps most" not in flat.replace("the one that keeps most", "")


def test_a_row_of_one_seed_beside_rows_of_several_is_left_out(summary_of):
    """Rows that lead may have more seeds than others: those are compared, the others are not."""
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "mix", "mix+lora")}, seeds=(0, 1, 2), items=1.0)
    summary.analysis.seeds["mix"] = 1
    advice = advise(summary)
    assert (
        advice.row == "mix+lora"
        and "one seed" in advice.out["mix"]
        and "mix" not in advice.apart
        and "mix" not in advice.shares
    )
    assert not advice.one_seed and winner(summary) == "mix+lora"


def test_what_the_verdict_chooses_among_several_seeds_is_exported(summary_of):
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "mix+lora")}, seeds=(0, 1, 2), items=1.0)
    assert winner(summary) == verdict_of(summary).row == advise(summary).row == "mix+lora" and verdict_of(summary).separated


def test_shares_are_of_all_draws(summary_of):
    advice = advise(summary_of(rows=FEW, seeds=(0, 1, 2), items=1.0))
    assert sum(advice.shares.values()) == pytest.approx(1) and advice.again == advice.shares[advice.row] > 0.5


def test_an_unsure_choice_says_so(summary_of):
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "mix")}, seeds=(0, 1))
    edge = -summary.estimate("change", "mix").sure_low
    advice = advise(summary, Limits(loss=round(edge + 0.1, 3)))
    assert advice.row == "mix" and 0.02 < advice.shares[NOBODY] < 0.98 and 0.02 < advice.again < 0.98
    assert f"again in {100 * advice.again:.1f} % of joint draws (" in sureness(advice)


def test_where_no_recipe_keeps_the_limits_none_is_chosen_and_export_refuses(summary_of):
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "lora")}, curves=True, seeds=(0, 1, 2), items=1.0)
    verdict = verdict_of(summary)
    assert verdict.row is None and verdict.sentence.startswith("No recipe gains for sure and loses at most 5 points")
    assert verdict.details[0].startswith("At the same gain, ") and ", lora keeps most:" in verdict.details[0]
    assert "Out: sft (loss), lora (loss)." in verdict.details and verdict.decision == "no recipe keeps the limits"
    with pytest.raises(PlanError, match=r"no recipe gains for sure and loses .* choose one yourself with --recipe: sft, lora"):
        winner(summary)


def test_where_nothing_is_separated_export_refuses(summary_of):
    twins = {"base": ROWS["base"], "a": ("recipe", "free", 0.4, 0.01), "b": ("recipe", "free", 0.4, 0.01)}
    summary = summary_of(rows=twins, seeds=(0, 1, 2, 3), items=1.0)
    assert verdict_of(summary).row in ("a", "b") and not verdict_of(summary).separated
    assert verdict_of(summary).decision in ("no difference shown", "too little data")
    with pytest.raises(PlanError, match="separated from no other recipe"):
        winner(summary)


def test_the_only_recipe_is_exported_where_it_keeps_the_limits(summary_of):
    assert winner(summary_of(rows={"base": ROWS["base"], "mix+lora": ROWS["mix+lora"]}, items=1.0)) == "mix+lora"


def test_where_nothing_gained_none_is_chosen(summary_of):
    idle = {name: (*ROWS[name][:2], 0.0, 0.0) for name in ("base", "zero budget", "sft")}
    with pytest.raises(PlanError, match="choose one yourself with --recipe: sft"):
        winner(summary_of(rows=idle))


def test_a_choice_of_general_data_names_the_choice_without(summary_of):
    rows = {name: ROWS[name] for name in ("base", "sft", "mix")} | {"careful": ("recipe", "free", 0.3, 0.01)}
    summary = summary_of(rows=rows, items=1.0, seeds=(0, 1, 2))
    summary.record["plan"]["require"] = "loss=10"
    assert verdict_of(summary).row == "mix" and "the same rule takes careful" in track_advice(summary, summary.computed(advise))


def test_where_no_family_stands_above_chance_nothing_is_chosen(summary_of):
    summary = summary_of(rows=FEW)
    for name in [name for name in summary.analysis.point if name.startswith("retention")]:
        del summary.analysis.point[name]
    assert verdict_of(summary).row is None and verdict_of(summary).sentence.startswith("Forgetting could not be measured")
    assert advise(summary).row is None


def test_choices_of_the_page_are_sorted_and_whole(summary_of):
    summary = summary_of(rows=FEW, seeds=(0, 1, 2), items=1.0)
    found = choices(summary)
    gains = [summary.estimate("gain", choice.row.name).value for choice in found]
    assert len(found) == 4 and gains == sorted(gains, reverse=True) and found[0].seconds == 41
    assert found[0].loss == pytest.approx(-summary.estimate("change", found[0].row.name).sure_low)
    assert sum(choice.taken for choice in found) <= 1 + 1e-9


def test_limits_of_the_plan_are_used(summary_of):
    summary = summary_of(rows=FEW, seeds=(0, 1, 2), items=1.0)
    assert limits_of(summary) == Limits(loss=5)
    summary.record["plan"]["require"] = "memory=1GB"
    assert limits_of(summary) == Limits(memory=1e9) and np.isfinite(full_table(summary)["chosen probability"]).any()
    assert "takes at most 1 GB of memory" in rule_sentence(limits_of(summary))


def test_limits_are_read():
    assert parse_limits("loss=5 retention=95 seconds=600 memory=16GB") == Limits(5, 95, 600, 16e9)
    assert parse_limits("memory=500mb") == Limits(memory=5e8) and parse_limits("") == Limits()


@pytest.mark.parametrize("text", ["keep=3", "retention", "seconds=1 seconds=2", "seconds=5GB", "retention=-1", "loss=x"])
def test_faulty_limits_are_refused_by_the_plan(text: str):
    with pytest.raises(PlanError, match="require takes loss=POINTS, retention=PERCENT"):
        make_plan({"require": text})
