"""What is kept at the same gain: the reading that a report leads with, over the best curves that there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_store import ROWS, add_tuning, build

from harness.report.figures.plots import draw
from harness.report.page.page import page
from harness.report.summary.fronts import front_of, method_of
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.tables.dev_and_test import promised
from harness.report.tables.main_table import full_table, reading_table
from harness.report.verdict.terminal import shown
from harness.report.verdict.verdict import verdict_of
from harness.stats.analysis import analyse
from harness.store.comparisons import read_comparison

IDLE = ("recipe", "free", 0.0, 0.0)
TRIALS = {
    "sft": {"sft(lr=2e-4)": (0.004, 0.001), "sft(lr=8e-4)": (0.3, 0.4), "sft(lr=3e-3)": (0.4, 0.8)},
    "mix": {"mix(lr=2e-4)": (0.004, 0.001), "mix(lr=8e-4)": (0.3, 0.04), "mix(lr=3e-3)": (0.36, 0.06)},
}
"""At a quarter of their rate, which tuning selected, both recipes learn nothing; at higher ones they differ."""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> dict[bool, Summary]:
    """A tuned comparison with and without points on test items."""
    found = {}
    for points in (True, False):
        rows = {"base": ROWS["base"], "sft": IDLE, "mix": (*IDLE[:1], "general", *IDLE[2:])}
        folder, store = build(tmp_path_factory.mktemp("tuned"), rows=rows, seeds=(0, 1, 2, 3), curves=False)
        add_tuning(folder, store, TRIALS, points)
        found[points] = summarise(read_comparison(folder, store), reps=300)
    return found


def test_recipes_that_were_run_where_they_learn_nothing_are_told_apart_by_their_points(tuned):
    """`sft` and `mix` looked equal where tuning had picked the rate that learns nothing for both."""
    summary = tuned[True]
    for row in ("sft", "mix"):
        assert abs(summary.estimate("gain", row).value) < 1 and abs(summary.estimate("change", row).value) < 1
    way = summary.matched
    assert way.name == "settings" and way.matched.target > 10
    apart = way.apart("mix", "sft")
    assert apart.change.low > 0 and apart.gain.low > 0 and apart.area.low > 0 and apart.change.p < 0.05
    table = full_table(summary).set_index("row")
    assert table.loc["mix", "change at matched gain"] == way.change("mix").value > table.loc["sft", "change at matched gain"]
    assert any(line.startswith("At the same gain, ") and ", mix keeps most:" in line for line in verdict_of(summary).details)


def test_without_points_the_trials_on_dev_items_are_read_and_said_to_flatter(tuned):
    way = tuned[False].matched
    assert way.name == "trials" and "looks better than it is" in way.description and way.of("mix").change.known
    assert np.isnan(way.apart("mix", "sft").change.p), "trials have one seed"


def test_points_are_no_rows_and_no_trials(tuned):
    summary = tuned[True]
    assert [row.name for row in summary.recipes] == ["sft", "mix"] and len(summary.trials) == 6
    assert full_table(summary)["row"].tolist() == ["base", "sft", "mix"]


def test_the_page_counts_trials_and_shows_dev_beside_test(tuned):
    summary = tuned[True]
    lines = promised(summary)
    assert [(line.row, line.selected) for line in lines[:3]] == [("sft", True), ("sft", False), ("sft", False)]
    assert all(line.gain.known and line.dev_gain.known and line.change_seen.known for line in lines) and len(lines) == 6
    assert lines[1].fell == pytest.approx(lines[1].dev_gain.value - lines[1].gain.value)
    html = page(summary, draw(summary))
    assert "3 trials of each tuned recipe, each with the whole budget: 6 in all" in html and "0.750 times" in html
    assert "Gain, dev" in html and "Fell by" in html and "partly luck" in html


def test_it_is_the_first_figure_and_the_first_column_after_gain_and_kept(report):
    plots = draw(report.summary)
    assert plots[0].name == "matched"
    html = (report.folder / "report.html").read_text()
    assert html.index("<figure>") < html.index('id="matched-title"') < html.index('id="tradeoff-title"')
    head = f"ΔR at gain {report.summary.matched.matched.target:.1f}"
    assert f'>Gain</th><th scope="col">ΔR, points</th><th scope="col">Kept %</th><th scope="col">{head}</th>' in html
    columns = list(reading_table(report.summary).columns)
    assert columns[columns.index("retention (%)") + 1] == head and columns.index("gain (points)") < columns.index(head)
    assert " ".join(["gain", "ΔR, points", "kept %", head]) in " ".join(shown(report.summary).split())


def test_without_tuning_curves_over_the_budget_are_read(report):
    way = report.summary.matched
    assert way.name == "budget" and {"sft", "mix", "low_lr"} <= set(way.matched.rows)
    cells = reading_table(report.summary).set_index("row").filter(like="ΔR at gain").iloc[:, 0]
    assert cells["low_lr"] == "gains less" and cells["base"] == "—" and "[" in cells["mix"]


def test_where_no_curve_was_scored_the_assumption_is_said(summary_of):
    """`final_only`: loss is taken to grow as gain does, from the base to the final scores."""
    summary = summary_of(rows={name: ROWS[name] for name in ("base", "sft", "mix", "low_lr")}, items=1.0)
    way = summary.matched
    assert way.name == "chord" and "no curve was scored" in way.description
    assert way.description in " ".join(shown(summary).split())
    for row in ("sft", "mix"):
        gain, change = (summary.estimate(name, row).value for name in ("gain", "change"))
        assert way.change(row).value == pytest.approx(change * way.matched.target / gain)
    assert not way.change("low_lr").known


def test_settings_of_a_method_are_one_curve(summary_of):
    rows = {"base": ROWS["base"]}
    for name, share in (("sft(lr=1e-4)", 0.2), ("sft(lr=1e-3)", 0.5), ("lora(r=4)", 0.2), ("lora(r=8)", 0.45)):
        rows[name] = ("recipe", "free", share, share if name.startswith("sft") else share / 4)
    summary = summary_of(rows=rows, items=1.0, seeds=(0, 1, 2))
    way = summary.matched
    assert way.name == "settings" and set(way.matched.rows) == {"sft", "lora"}
    assert way.change("sft(lr=1e-4)") == way.change("sft(lr=1e-3)") and way.of("lora(r=4)") is way.of("lora(r=8)")

    # Figure, table and sentence name a curve once, by the method; a curve of one row keeps the row's name.
    assert way.labels(list(rows)) == {name: name.split("(")[0] for name in rows if name != "base"}
    assert way.labels(["sft(lr=1e-4)", "lora(r=4)", "lora(r=8)"])["sft(lr=1e-4)"] == "sft(lr=1e-4)"
    plots = draw(summary)
    assert list(plots[0].rows) == ["sft", "lora"]
    table = page(summary, plots).split('id="matched-table"')[1].split("</table>")[0]
    assert table.count('<th scope="row">') == 2 and "sft(lr=" not in table
    sentence = next(line for line in verdict_of(summary).details if line.startswith("At the same gain"))
    assert ", lora keeps most:" in sentence and "that of sft by" in sentence and "(lr=" not in sentence


def test_the_method_is_the_recipe_without_settings():
    assert method_of("lora(r=4, lr=1e-3)+nlirg(x0=1)") == "lora+nlirg" and method_of("sft") == "sft"


def test_a_front_leaves_out_what_another_setting_beats_and_what_gains_nothing(tuned):
    scores = tuned[True].scores
    known = analyse(scores[scores["channel"] != "calibration"], "base", reps=2)
    values = {"base": (0, 0), "sft": (5, -1), "mix": (4, -3)}
    for name, place in (("gain", 0), ("change", 1)):
        known.point[name] = np.array([values[row][place] for row in known.rows], float)
    assert front_of(known, ["mix", "sft"]) == ["sft"]
    known.point["gain"][:] = -1
    assert front_of(known, ["mix", "sft"]) == []


def test_where_the_general_score_rises_the_front_goes_through_settings_that_a_later_one_beats(tuned):
    """SmolLM2: at a gain of 26 plain fine-tuning had kept 8 points more, and read 5 on the line to a setting that gained 44."""
    analysis = tuned[True].analysis
    assert analysis is not None
    known = replace(analysis, rows=["base", "a", "b", "c", "d", "e"], point={})
    known.point["gain"] = np.array([0, 26.7, 43.8, 50, 10, 20], float)
    known.point["change"] = np.array([0, 8.4, 8.9, -9, -1, 6.2], float)
    # `d` lost while it gained, and `e` lies below the line from the base to `a`.
    assert front_of(known, ["c", "b", "a", "d", "e"]) == ["a", "b", "c"]
    known.point["change"][5] = 6.4
    assert front_of(known, ["c", "b", "a", "d", "e"]) == ["e", "a", "b", "c"]
