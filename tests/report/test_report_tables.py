"""Tables, terminal and numbers."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fake_store import ROWS, build
from rich.console import Console

from harness.report.figures.plots import draw, tradeoff
from harness.report.summary import format
from harness.report.summary.contrasts import contrast, contrasts
from harness.report.summary.rows import references_of, rows_of
from harness.report.summary.summarise import summarise
from harness.report.tables.main_table import holm, latex, markdown, records
from harness.report.verdict.terminal import show
from harness.report.write import Report, write_report
from harness.stats.analysis import Estimate
from harness.store.comparisons import read_comparison

GOLDEN = Path(__file__).parent / "golden_table.md"


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def test_table_is_the_golden_one(report: Report):
    """Word for word; numbers to 1 %, as a p counts draws, and processors round fp32 sums at the edge of 0 differently."""
    made, golden = (report.folder / "table.md").read_text(), GOLDEN.read_text()
    assert NUMBER.sub("#", made) == NUMBER.sub("#", golden)
    assert list(map(float, NUMBER.findall(made))) == pytest.approx(list(map(float, NUMBER.findall(golden))), rel=0.01)


def test_base_and_control_gain_nothing_and_keep_all(report: Report):
    for row in ("base", "zero budget"):
        line = report.table.set_index("row").loc[row]
        assert (line["gain"], line["gain low"], line["gain high"]) == (0, 0, 0)
        assert (line["retention"], line["retention low"], line["retention high"]) == (100, 100, 100)


def test_table_holds_every_row_once(report: Report):
    assert report.table["row"].tolist() == list(ROWS)
    assert pd.read_csv(report.folder / "table.csv", keep_default_na=True)["row"].tolist() == list(ROWS)


def test_numbers_are_those_of_the_scores(report: Report):
    scores = report.summary.scores
    part = scores[scores["primary"] & (scores["group"] == "domain")].groupby(["row", "task"])["score"].mean().unstack()
    gain = 100 * (part.loc["sft"] - part.loc["base"]).mean()
    assert report.table.set_index("row").loc["sft", "gain"] == pytest.approx(gain)


def test_markdown_escapes_bars():
    assert markdown(pd.DataFrame({"a|b": ["x|y\nz"]})) == "| a\\|b |\n| --- |\n| x\\|y z |\n"


def test_latex_is_booktabs_and_escaped():
    text = latex(pd.DataFrame({"row": ["low_lr & 5 %"], "b": ["−1"]}))
    assert "\\toprule" in text and r"low\_lr \& 5 \%" in text and "$-$1" in text
    assert r"low\_lr \& 5 \% & $-$1 \\" in text.splitlines(), "no column of numbers in front"


def test_json_has_no_number_that_is_none():
    text = records(pd.DataFrame({"ΔR": [1.5, math.nan, math.inf, -math.inf]}))
    assert [line["ΔR"] for line in json.loads(text)] == [1.5, None, None, None] and "ΔR" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,230"),
        (0.0123456, "0.0123"),
        (-97.36, "−97.4"),
        (0, "0"),
        (None, "—"),
        (float("nan"), "—"),
        (1.5, "1.50"),
        (-4695, "−4,695"),
        (0.00999999, "0.0100"),
    ],
)
def test_number(value: float | None, text: str):
    assert format.number(value) == text


def test_other_formats():
    assert format.si(2.0e14) == "200 T" and format.si(999) == "999"
    assert format.rough(Estimate(97.2, 95.4, 98.9), "%") == "97 % [95, 99]"
    assert format.rough(Estimate(-0.04, -1.26, 1.0), "points") == "0 points [−1.3, 1.0]"
    assert format.with_interval(Estimate()) == "—"
    assert format.signed(0.04) == "0.0" and format.signed(3) == "+3.0" and format.signed(-3) == "−3.0"


def test_a_holm_p_at_the_floor_of_the_draws_is_printed_as_a_bound_times_pairs():
    """10,000 draws give no p below 2 / 10,001: what is printed is that bound and the pairs that it is corrected for."""
    least = 2 / 10_001
    floor, above = Estimate(-9, -12, -6, p=least, least_p=least), Estimate(-2, -4, 0.1, p=0.06, least_p=least)
    assert format.holm_value(12 * least, floor, 12) == "< 0.0002 × 12"
    assert format.holm_value(0.12, above, 12) == "0.120" and format.holm_value(math.nan, Estimate(), 0) == "—"
    line = pd.Series({"holm": 12 * least, "change": floor, "pairs": 12})
    assert holm(line) == "< 0.0002 × 12" and holm(None) == "—"


def test_every_contrast_with_a_reference_is_in_one_holm_correction():
    """Of a recipe that is better than one reference for sure, and of one that is not: both pairs count."""
    numbers = {("mix", "sft"): 0.01, ("lora", "sft"): 0.02, ("mix", "low_lr"): 0.3, ("lora", "low_lr"): math.nan}

    def difference(quantity: str, row: str, reference: str) -> Estimate:
        return Estimate(1.0, 0.5, 1.5, p=numbers.get((row, reference), math.nan))

    recipes = [SimpleNamespace(name=name, done=name != "ewc") for name in ("sft", "mix", "lora", "ewc")]
    summary: Any = SimpleNamespace(recipes=recipes, references=["sft", "low_lr"], difference=difference, analysis=None)
    lines = contrasts(summary).set_index(["row", "reference"])
    assert ("ewc", "sft") not in lines.index and set(lines["pairs"]) == {3}
    corrected = {pair: lines.loc[pair, "holm"] for pair in numbers}
    assert corrected[("mix", "sft")] == pytest.approx(0.03) and corrected[("lora", "sft")] == pytest.approx(0.04)
    assert corrected[("mix", "low_lr")] == pytest.approx(0.3) and pd.isna(corrected[("lora", "low_lr")])


def test_costs_are_means_over_all_seeds_that_ended_well():
    runs: list[Any] = []
    for seed, seconds, status in ((0, 10.0, "done"), (1, 20.0, "done"), (2, 60.0, "done"), (3, 1e9, "failed")):
        run = {"row": "lora", "role": "recipe", "track": "free", "seed": seed, "key": str(seed), "status": status}
        runs.append(run | {"ledger": {"seconds": seconds, "accounts": {"train": seconds / 2}}})
    (row,) = rows_of(runs)
    assert row.cost("ledger", "seconds") == 30.0 and row.shares("ledger", "accounts") == {"train": 15.0}
    assert row.seeds == (0, 1, 2) and row.status == "done 3 of 4: failed"


def test_a_row_that_did_not_end_is_no_reference():
    runs: list[Any] = []
    for number, (row, status) in enumerate({"low_lr": "done", "sft": "failed", "lora": "done"}.items()):
        runs.append({"row": row, "role": "recipe", "track": "free", "seed": 0, "key": str(number), "status": status})
    runs.append({"row": "sft(lr=1)", "role": "measured", "track": "free", "seed": 0, "key": "9", "status": "done"})
    assert references_of(rows_of(runs)) == ["low_lr"]


def test_terminal_says_the_same(report: Report):
    stream = io.StringIO()
    show(report.summary, Console(file=stream, width=100))
    text = stream.getvalue()
    assert "One seed: recipes are not compared" in text and "out of memory" in text
    assert all(row in text for row in ROWS) and max(map(len, text.splitlines())) <= 100


def shown(report: Report, **options) -> str:
    stream = io.StringIO()
    show(report.summary, Console(file=stream, **options))
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 60, 200])
def test_a_narrow_terminal_cuts_no_name_and_no_number(report: Report, width: int):
    text = shown(report, width=width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    lines = text.splitlines()
    for row in ("sft", "mix", "distill"):
        gain = format.rough(report.summary.estimate("gain", row), "").replace("  ", " ")
        assert any(line.startswith(row) and gain in line for line in lines)


def test_the_terminal_says_nothing_by_colour(report: Report, monkeypatch: pytest.MonkeyPatch):
    styled = shown(report, width=100, force_terminal=True)
    codes = {code for found in re.findall("\x1b\\[([0-9;]*)m", styled) for code in found.split(";")}
    assert codes <= {"0", "1", "2", ""}  # reset, bold, dim
    assert re.sub("\x1b\\[[0-9;]*m", "", styled) == shown(report, width=100)
    monkeypatch.setenv("NO_COLOR", "1")
    assert {code for found in re.findall("\x1b\\[([0-9;]*)m", shown(report, width=100, force_terminal=True))
            for code in found.split(";")} <= {"0", "1", "2", ""}  # fmt: skip


def test_the_terminal_states_the_rule_and_how_sure_the_choice_is(report: Report):
    text = " ".join(shown(report, width=100).split())
    assert report.verdict.rule in text and report.verdict.sureness in text


@pytest.mark.slow
def test_same_store_same_bytes(tmp_path: Path):
    rows = {name: ROWS[name] for name in ("base", "sft", "lora")}
    folder, store = build(tmp_path, rows=rows, items=0.2)
    found = []
    for _ in range(2):
        report = write_report(folder, store, reps=100)
        found.append({path.name: path.read_bytes() for path in report.files})
    assert found[0] == found[1]


def test_same_numbers_same_plot(report: Report):
    one, two = (tradeoff(report.summary) for _ in range(2))
    assert one and two and one.inline() == two.inline() and "T00:" not in one.inline()


def test_two_seeds_are_told(tmp_path: Path):
    rows = {name: ROWS[name] for name in ("base", "sft", "lora")}
    folder, store = build(tmp_path, rows=rows, seeds=(0, 1), items=0.3, curves=False)
    summary = summarise(read_comparison(folder, store), reps=200)
    assert summary.analysis and summary.analysis.covers().startswith("2 seeds")
    assert summary.analysis.seeds == {"base": 1, "sft": 2, "lora": 2}
    difference = contrast(summary, "lora", "sft")
    assert difference is not None and math.isnan(difference["lost"]) and 0 < difference["p"] <= 1  # counted of one seed only


def test_a_seed_that_failed_is_told_and_the_other_counts(tmp_path: Path):
    rows = {name: ROWS[name] for name in ("base", "sft", "lora")}
    folder, store = build(tmp_path, rows=rows, seeds=(0, 1), items=0.3, curves=False)
    comparison = read_comparison(folder, store)
    key = next(run["key"] for run in comparison.runs if run["row"] == "lora" and run["seed"] == 1)
    store.run(key).write("status", {"status": "diverged", "reason": "the loss became NaN at step 7", "traceback": None})
    summary = summarise(read_comparison(folder, store), reps=200)
    row = summary.row("lora")
    assert row.status == "done 1 of 2: diverged" and row.reasons == ("seed 1: the loss became NaN at step 7",)
    assert summary.analysis and summary.analysis.seeds["lora"] == 1


def test_a_plot_of_very_many_rows_names_the_fronts_and_says_so(report: Report, monkeypatch):
    monkeypatch.setattr("harness.report.figures.plots.NAMED", 3)
    plots = {plot.name: plot.inline() for plot in draw(report.summary)}
    placed = sum(row.done and row.role != "control" for row in report.summary.rows)
    told = re.search(r">named: (\d) of (\d+), the base and the fronts<", plots["tradeoff"])
    assert told and int(told[1]) < int(told[2]) == placed
    assert "recipes: the numbers are in report.html" in plots["heat_map"]


def test_a_comparison_of_which_no_recipe_ended_is_reported(tmp_path: Path):
    report = write_report(*build(tmp_path, rows={name: ROWS[name] for name in ("base", "ewc")}, items=0.3), reps=50)
    assert report.table["status"].tolist() == ["done", "out of memory"] and (report.folder / "report.html").exists()
