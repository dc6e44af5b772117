"""Tuning: the search space, the rule, and a whole tuned comparison."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.commands.compare import compare
from harness.errors import PlanError
from harness.plan.load import make_plan
from harness.plan.tuning_rule import Reference, TuningRule, parse_tuning_rule, reference_of, spread_over
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.runs import tune as tuning
from harness.runs.tune import Axis, Trial, at_edge, axes_of, choose, is_plain, points, select
from harness.store.comparisons import read_comparison
from harness.store.runs import RunFolder, RunStore
from harness.store.schema import ITEM_COLUMNS
from harness.vocabulary import EvalKind
from tests.support.comparisons import carried_out, mtimes, options

NAN = math.nan


PLAIN = Reference(gain=10, price=1.5)
"""Plain fine-tuning's best trial gains 20 points at most, and loses 1.5 points of general score a point gained at best."""


@pytest.mark.parametrize("gain, change, chosen", [
    ([25, 16, 12], [-40, -8, -4], 1),  # the highest gain loses more a point than plain fine-tuning
    ([25, 16, 9], [-37.5, -8, 0], 0),  # as much is allowed
    ([9, 16], [-0.5, -8], 1),  # what loses nothing because it learns nothing is never taken for that
    ([0.5, -0.1, 11], [0, 0, -16], 2),
    ([25, 16, 12], [-60, -30, -30], 1),  # none is that cheap: the least loss a point gained
    ([4, 9, 8], [0, -9, 0], 1),  # none learned: the highest gain
    ([NAN, 20, 11], [0, 0, 0], 1),  # a trial that ended badly is never chosen
    ([12, 12, 12], [-0.5, 0, 0], 1),  # of equals the one that keeps more, then the first
    ([5, 9, 7], [NAN, NAN, NAN], 1),  # no general dev items at all: the domain decides
    ([NAN, NAN], [NAN, NAN], None),
])  # fmt: skip
def test_the_rule(gain, change, chosen):
    assert choose(gain, change, PLAIN) == chosen


def test_the_rate_that_learns_nothing_is_not_chosen():
    """Of these trials the old rule (at most a point below the base) took the first, a quarter of the usual rate."""
    gain, change = {"sft": [0.4, 21, 24], "mix": [0.6, 8, 16]}, {"sft": [-0.2, -36, -50], "mix": [0.1, -2, -8]}
    flat = [[value for row in ("sft", "mix") for value in table[row]] for table in (gain, change)]
    reference = reference_of(*flat, [True] * 3 + [False] * 3)
    assert (reference.gain, reference.price) == (12, pytest.approx(36 / 21))
    assert [choose(gain[row], change[row], reference) for row in ("sft", "mix")] == [1, 2]


def test_without_plain_fine_tuning_a_recipe_is_held_to_its_own_price():
    reference = reference_of([0.3, 10, 20], [0, -2, -10], [False] * 3)
    assert reference.gain == 10 and math.isnan(reference.price)
    assert choose([0.3, 10, 20], [0, -2, -10], reference) == 1


GAIN, CHANGE = [2.0, 12.0, 20.0, 30.0], [0.0, -3.0, -12.0, -40.0]
"""A recipe's trials by rising rate."""


@pytest.mark.parametrize("text, chosen", [
    ("price", 2),  # plain fine-tuning's best trial loses 1 point a point gained
    ("price=0.3", 1),
    ("price=0", 1),  # none loses nothing: the least loss of those that learned
    ("loss=5", 1),
    ("loss=0", 0),
    ("loss=12", 2),
    ("gain", 3),
])  # fmt: skip
def test_the_rule_is_the_users(text, chosen):
    rule = parse_tuning_rule(text)
    reference = reference_of([*GAIN, 15.0], [*CHANGE, -15.0], [False] * 4 + [True], rule)
    assert choose(GAIN, CHANGE, reference) == chosen and rule.words.startswith("the one that gains most")


@pytest.mark.parametrize("text", ["loss", "gain=3", "price=-1", "best", "loss=1e400", "loss=5%"])
def test_a_rule_that_is_none_is_refused_by_the_plan(text):
    with pytest.raises(PlanError, match=r"tune_rule is price .* not '"):
        make_plan({"tune_rule": text})


def test_the_standard_rule_is_the_plans_default():
    assert parse_tuning_rule(make_plan({}).tune_rule) == TuningRule()


def test_points_fill_the_largest_gaps_along_the_front():
    gain, change = [10.0, 11.0, 30.0, 21.0, 20.0, -1.0], [-1.0, -2.0, -20.0, -8.0, -9.0, 0.0]
    assert spread_over(gain, change, 0, 3) == [0, 2, 3], "not 4, which 3 beats, nor 1, which is next to the selected one"
    assert spread_over(gain, change, 0, 10) == [0, 2, 3, 1] and spread_over(gain, change, 2, 1) == [2]


def test_plain_is_what_no_method_changes():
    def trial(text: str) -> Trial:
        return Trial("row", {}, SimpleNamespace(recipe=text))  # type: ignore[arg-type]

    assert [is_plain(trial(text)) for text in ("sft", "sft(lr=0.01)", "low_lr", "lora", "mix")] == [True, True] + [False] * 3


def test_ranges_of_a_decade_are_logarithmic_and_whole_settings_whole():
    wide, narrow = Axis("m", "s", 0.01, 10.0, False), Axis("m", "s", 0.25, 1.0, False)
    assert [wide.at(u) for u in (0, 1 / 3, 1)] == [0.01, 0.1, 10.0]
    assert [narrow.at(u) for u in (0, 0.5, 1)] == [0.25, 0.625, 1.0]
    whole = [Axis("m", "r", 4, 16, True).at(u) for u in (0, 0.52, 1)]
    assert whole == [4, 10, 16] and all(type(value) is int for value in whole)


def test_every_trial_tries_the_same_multiple_of_the_default_rate():
    few, many = points(1, 4), points(3, 8)
    assert np.array_equal(few[:, 0], many[:4, 0])
    for recipe, rate in (("sft", 1e-4), ("low_lr", 1e-4), ("lora+nlirg", 1e-3)):
        axis = axes_of(parse_recipe(recipe), rate)[0]
        assert axis.setting == "lr" and (axis.low, axis.high) == pytest.approx((rate / 10, rate * 10))
        assert axis.at(few[0, 0]) / rate == pytest.approx(10 ** (2 * few[0, 0] - 1), rel=5e-3)


def test_a_recipe_searches_all_its_methods_and_keeps_what_its_text_fixes():
    assert [(a.method, a.setting) for a in axes_of(parse_recipe("lora+nlirg"), 1e-3)] == [
        ("lora", "lr"), ("lora", "r"), ("nlirg", "strength"),
    ]  # fmt: skip
    assert [a.setting for a in axes_of(parse_recipe("lora(r=4, lr=1e-3)+nlirg"), 1e-3)] == ["strength"]


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_search_range_names_a_setting_and_its_ends_are_allowed(name):
    from harness.recipes.recipe_text import with_settings

    axes = axes_of(parse_recipe(name), 1e-3)[1:]
    for ends in itertools.product((0.0, 1.0), repeat=len(axes)):
        parse_recipe(with_settings(name, {(name, axis.setting): axis.at(end) for axis, end in zip(axes, ends, strict=True)}))


def test_the_best_at_an_edge_is_flagged():
    axis = Axis("sft", "lr", 1e-4, 1e-2, False)
    trials = [Trial("sft", {axis: value}, None) for value in (1e-3, 2e-4, 5e-3)]
    assert [len(at_edge("sft", trials, best)) for best in range(3)] == [0, 1, 1]
    assert "lr=0.005 is the highest of 3 tried (range 0.0001 to 0.01)" in at_edge("sft", trials, 2)[0]


def test_dev_items_alone_select(tmp_path, monkeypatch):
    """The trial that is best on dev items is worst on test items, which lie beside them; a trial that failed is no choice."""
    store = RunStore(tmp_path)
    base = SimpleNamespace(row="base", key="0" * 16)
    monkeypatch.setattr(tuning, "base_on_dev", lambda _: base)
    trials = []
    for number, (dev, test, status) in enumerate([(0.6, 0.8, "done"), (0.9, 0.5, "done"), (1.0, 1.0, "failed")]):
        spec = SimpleNamespace(row=f"sft trial {number}", recipe=f"sft(lr=1e-{number})", key=str(number + 1) * 16, track="free")
        trials.append(Trial("sft", {}, spec))  # type: ignore[arg-type]
        write_scores(store.run(spec.key), dev, test, status)
    write_scores(store.run(base.key), 0.3, 0.3, "done")
    plan = SimpleNamespace(tune_rule="gain", tune_points=1)
    result = select(SimpleNamespace(plan=plan), trials, store, "dev")  # type: ignore[arg-type]
    assert result.chosen == {"sft": "sft(lr=1e-1)"} and [line["selected"] for line in result.record] == [False, True, False]


def write_scores(run: RunFolder, dev: float, test: float, status: str) -> None:
    """A run with so many right of 20 domain items, dev and test."""
    for kind, level in ((EvalKind.DEV, dev), (EvalKind.FINAL, test)):
        items = np.arange(20)
        row = {"task": "t", "family": "t", "group": "domain", "channel": "choice", "metric": "acc", "primary": True}
        row |= {
            "fraction": 1.0,
            "alpha": 1.0,
            "higher_better": True,
            "chance": 0.0,
            "score": (items < 20 * level).astype(float),
        }
        frame = pd.DataFrame(row | {"item": items.astype(str), "cluster": items.astype(str)})
        run.write_scores(kind, "dev", frame.reindex(columns=list(ITEM_COLUMNS)).astype(dict(ITEM_COLUMNS)))
    run.write("status", {"status": status, "reason": "because", "traceback": None})


# --- whole comparisons -----------------------------------------------------------------------------------------------


RECIPES = "sft lora(lr=1e-2) mix(lr=1e-3, ratio=0.2)"


@pytest.fixture(scope="module")
def tuned(files, tiny_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    return out, compare(quiet=True, **options(files, tiny_path, out, recipes=RECIPES, tune=2))


@pytest.mark.slow
def test_trials_never_see_a_test_item(tuned):
    """Selection reads dev scores only, and the selected setting alone is scored on test."""
    out, outcome = tuned
    store, comparison = RunStore(out / "runs"), read_comparison(outcome.folder, RunStore(out / "runs"))
    tried = [trial for trial in comparison.trials if "dev" in trial["evals"]]
    assert not outcome.failed and len(tried) == 4
    tested = set(comparison.scores["item"]) | set(comparison.curve["item"])
    for trial in tried:
        kinds = {path.name.split("-")[0] for path in (store.run(trial["key"]).path / "evals").iterdir()}
        assert kinds == {"dev"} and trial["ledger"]["overshoot"] == pytest.approx(0, abs=0.01)
    assert len(comparison.dev) and not tested & set(comparison.dev["item"])
    final = {run["key"] for run in comparison.runs}
    assert not final & {trial["key"] for trial in tried}, "reported runs have seeds of their own"


@pytest.mark.slow
def test_points_are_scored_on_test_items_under_the_reported_seeds(tuned):
    out, outcome = tuned
    comparison = read_comparison(outcome.folder, RunStore(out / "runs"))
    points = [trial for trial in comparison.trials if "final" in trial["evals"]]
    assert {point["seed"] for point in points} <= {0} and all(point["status"] == "done" for point in points)
    tried = {
        (trial["row"], trial["recipe"]) for trial in comparison.trials if "dev" in trial["evals"] and not trial["selected"]
    }
    assert {(point["row"], point["recipe"]) for point in points} <= tried
    assert set(comparison.points["row"]) == {point["trial"] for point in points}
    assert set(comparison.points["item"]) <= set(comparison.scores["item"])


@pytest.mark.slow
def test_the_selected_setting_is_what_ran(tuned):
    out, outcome = tuned
    comparison = read_comparison(outcome.folder, RunStore(out / "runs"))
    chosen = {trial["row"]: trial["recipe"] for trial in comparison.trials if trial["selected"]}
    ran = {run["row"]: run["recipe"] for run in comparison.runs if run["role"] == "recipe"}
    assert set(chosen) == {"sft", "lora(lr=1e-2)"} and chosen.items() <= ran.items()
    assert ran["mix(lr=1e-3, ratio=0.2)"] == "mix(lr=1e-3, ratio=0.2)"


@pytest.mark.slow
def test_the_report_shows_the_cloud_its_price_and_what_was_not_tuned(tuned):
    _, outcome = tuned
    table = outcome.report.table.set_index("row")
    assert table.loc["sft", "tuning"].startswith("2 trials (+2 B): sft(lr=") and table.loc["sft", "trials"] == 2
    assert table.loc["mix(lr=1e-3, ratio=0.2)", "tuning"] == "untuned"
    trials = outcome.report.summary.trials
    assert len(trials) == 4 and trials["gain"].notna().all() and (trials["flops"] > 0).all()
    assert table.loc["sft", "tuning flops"] == pytest.approx(2 * table.loc["sft", "flops"], rel=0.02)
    html = (outcome.folder / "report.html").read_text()
    assert all(recipe in html for recipe in trials["recipe"]) and "a point gained as plain fine-tuning" in html
    assert (outcome.folder / "trials.csv").exists()


@pytest.mark.slow
def test_more_trials_keep_the_earlier_ones(tuned, files, tiny_path):
    out, _ = tuned
    before = mtimes(out, "runs/*/status.json")
    more = options(files, tiny_path, out, recipes=RECIPES, tune=3, name="more")
    carried_out(more)
    now = mtimes(out, "runs/*/status.json")
    assert before.items() <= now.items() and 2 <= len(now) - len(before) <= 4
    again = mtimes(out, "runs/*/*.*") | mtimes(out, "runs/*/evals/*")
    carried_out(more)
    assert mtimes(out, "runs/*/*.*") | mtimes(out, "runs/*/evals/*") == again
