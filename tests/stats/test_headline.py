"""Headline numbers that cannot mislead: what is kept, what one seed says, what a constant answer gains."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_stats import coin, table

from harness.plan.values import STANDARD, Limits
from harness.report.summary.recommend import advice_of
from harness.report.summary.rule import Costs
from harness.stats import analysis
from harness.stats.measures import ABOVE_CHANCE, FEWEST, HELD_OUT_TEXTS


def exactly(share: float, n: int) -> np.ndarray:
    """n scores, this share of them right."""
    return (np.arange(n) < round(share * n)).astype(float)


def families(base: list[float], tuned: list[float], n: int, chance: list[float]) -> pd.DataFrame:
    """A family each, with n items."""
    parts = zip(base, tuned, chance, strict=True)
    tables = [
        table({"base": exactly(b, n), "x": exactly(t, n)}, f"f{place}", chance=c) for place, (b, t, c) in enumerate(parts)
    ]
    return pd.concat(tables, ignore_index=True)


FALLEN = ([0.9] * 4 + [0.36], [0.6] * 5, [0.0] * 4 + [0.25])
"""Four families fall from 0.90 to 0.60, a weak fifth (base 0.36 where chance is 0.25) rises to 0.60."""


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_a_weak_family_that_rises_hides_no_loss(n):
    base, tuned, chance = FALLEN
    found = analysis.analyse(families(base, tuned, n, chance), "base", reps=300)
    kept, change = found.estimate("retention", "x"), found.estimate("change", "x")
    assert kept.high < 90 and change.high < -10, "117 % as a mean of ratios"
    enters = bool(found.measures.set_index("family").loc["f4", "kept"])
    assert enters == (n >= 1000), "the base is above chance there only with enough items"
    expected = (4 * -0.3 + (0.24 / 0.75 if enters else 0)) / (5 if enters else 4)
    assert change.value == pytest.approx(100 * expected)
    level = (4 * 0.9 + (0.11 / 0.75 if enters else 0)) / (5 if enters else 4)
    assert kept.value == pytest.approx(100 * (1 + expected / level))


@pytest.mark.parametrize("limits", [STANDARD, Limits(retention=95)], ids=["loss=5", "retention=95"])
@pytest.mark.parametrize("n", [200, 1000])
def test_no_limit_accepts_the_model_that_read_117_per_cent(n, limits):
    """`REQUIRE retention=95` accepted it. With a recipe beside it that keeps all, that one is taken; alone, none is."""
    base, tuned, chance = FALLEN
    general = pd.concat([families(base, tuned, n, chance), careful(n)], ignore_index=True)
    found = analysis.analyse(two_seeds(pd.concat([general, learned(n, x=0.9, careful=0.5)])), "base", reps=300)
    both, alone = (advice_of(found, names, costs(len(names)), limits) for names in (["x", "careful"], ["x"]))
    assert both.row == "careful" and set(both.out) == {"x"} and both.again == 1
    assert alone.row is None and alone.refusal.startswith("no recipe gains for sure")
    assert {"loss", "retention"} & set(both.out["x"]) and "no gain for sure" not in both.out["x"]


def two_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Every recipe trained twice, with the same answers: one seed compares nothing."""
    again = scores[scores["row"] != "base"].assign(seed=1)
    return pd.concat([scores, again], ignore_index=True)


def careful(n: int) -> pd.DataFrame:
    """A row that answers the five families of FALLEN as the base does."""
    base, _, chance = FALLEN
    found = families(base, base, n, chance)
    return found[found["row"] == "x"].assign(row="careful")


def learned(n: int, **rows: float) -> pd.DataFrame:
    """A domain of which the base knows a tenth, and each row this share."""
    scores = {"base": 0.1} | rows
    return table({row: exactly(share, n) for row, share in scores.items()}, "domain", group="domain", seen=None)


def costs(n: int) -> Costs:
    return Costs(np.full(n, 60.0), np.full(n, 1e9))


@pytest.mark.parametrize("items", [1, 2, FEWEST - 1, FEWEST])
def test_a_handful_of_items_decides_nothing(items):
    """One lost item of a family of one would be half of the headline, with an interval of no width."""
    tiny = table({"base": np.ones(items), "x": np.zeros(items)}, "tiny")
    big = table({"base": exactly(0.9, 200), "x": exactly(0.9, 200)}, "big")
    found = analysis.analyse(pd.concat([tiny, big]), "base", reps=100)
    enters = items >= FEWEST
    assert found.estimate("change", "x").value == (-50 if enters else 0)
    assert found.measures.set_index("task").loc["tiny", "kept"] == enters
    passages = table({"base": np.ones(40), "x": np.zeros(40)}, "tiny", cluster=[f"c{i * items // 40}" for i in range(40)])
    clustered = analysis.analyse(pd.concat([passages, big]), "base", reps=100)
    assert clustered.measures.set_index("task").loc["tiny", "kept"] == enters, "40 items of few passages are few"


@pytest.mark.parametrize("items", [1, FEWEST - 1, FEWEST])
def test_a_gain_on_a_handful_of_items_is_not_for_sure(items):
    domain = table({"base": np.zeros(items), "x": np.ones(items)}, "d", group="domain", seen=None)
    big = table({"base": exactly(0.9, 200), "x": exactly(0.9, 200)}, "big")
    advice = advice_of(analysis.analyse(pd.concat([domain, big]), "base", reps=100), ["x"], costs(1), STANDARD)
    assert advice.row == ("x" if items >= FEWEST else None)
    assert advice.out == ({} if items >= FEWEST else {"x": ("no gain for sure",)})


def test_a_row_without_a_family_has_no_general_score():
    """The mean over the families that it has would be another number, and might read higher."""
    hard = table({"base": exactly(0.5, 100), "y": exactly(0.5, 100)}, "hard")
    easy = table({"base": exactly(0.9, 100), "x": exactly(0.8, 100), "y": exactly(0.8, 100)}, "easy")
    found = analysis.analyse(pd.concat([hard, easy]), "base", reps=20)
    assert not found.estimate("general", "x").known and not found.estimate("change", "x").known
    assert found.estimate("general", "y").value == pytest.approx(0.65) and found.missing == {"base": 0, "y": 0, "x": 100}


def test_kept_and_change_never_disagree_on_the_same_scale():
    rng = np.random.default_rng(0)
    for _ in range(6):
        base, tuned, chance = rng.uniform(0.3, 1, 5), rng.uniform(0.1, 1, 5), rng.choice([0.0, 0.25], 5)
        found = analysis.analyse(families(list(base), list(tuned), 80, list(chance)), "base", reps=2)
        kept, change = found.estimate("retention", "x").value, found.estimate("change", "x").value
        assert np.sign(kept - 100) == np.sign(change)


def test_what_a_family_has_to_be_above_chance_by_depends_on_its_items_and_clusters():
    def low(n: int, accuracy: float, size: int = 1) -> float:
        scores = table({"base": exactly(accuracy, n)}, "f", chance=0.25, cluster=[f"c{i // size}" for i in range(n)])
        return analysis.analyse(scores, "base", reps=2).measures.loc[0, "above_chance"]

    assert low(100, 0.4) < ABOVE_CHANCE < low(1000, 0.4)
    assert low(1000, 0.4, size=100) < ABOVE_CHANCE, "10 passages are 10 answers, not 1,000"
    assert low(4, 1.0) == pytest.approx((4 / (4 + 1.959964**2) - 0.25) / 0.75), "Wilson's: all right of four is not 1"
    middle = (0.4 - 0.25) / 0.75
    assert middle - low(4000, 0.4) == pytest.approx(1.96 * np.sqrt(0.4 * 0.6 / 4000) / 0.75, rel=0.02)


def test_a_chance_family_of_many_small_tasks_is_not_chosen_by_luck():
    """57 tasks at chance: some look able by luck, and would be lost again by any model that guesses anew."""
    tasks = [
        table({"base": coin(50, 0.25, i), "x": coin(50, 0.25, 99 + i)}, f"t{i}", family="many", chance=0.25) for i in range(57)
    ]
    able = table({"base": exactly(0.9, 200), "x": exactly(0.9, 200)}, "able")
    found = analysis.analyse(pd.concat([*tasks, able]), "base", reps=2)
    assert found.measures.query("kept")["task"].to_list() == ["able"]
    assert found.estimate("change", "x").value == 0


def test_where_nothing_is_above_chance_there_are_points_only():
    scores = table({"base": exactly(0.3, 40), "x": exactly(0.2, 40)}, "weak", chance=0.25)
    found = analysis.analyse(scores, "base", reps=20)
    assert not found.estimate("retention", "x").known
    assert found.estimate("change", "x").value == pytest.approx(-10 / 0.75)


# --- one seed --------------------------------------------------------------------------------------------------------


def test_one_seed_gives_no_p_and_several_do():
    base, one, other = np.ones(300), coin(300, 0.6, 1), coin(300, 0.8, 2)
    scores = table({"base": base, "x": one, "y": [other, other], "z": [one, other]})
    found = analysis.analyse(scores, "base", reps=400)
    assert np.isnan(found.difference("change", "x", "y").p) and np.isnan(found.difference("change", "x", "base").p)
    assert found.difference("change", "y", "z").p <= 1 and found.difference("change", "y", "base").p < 0.05
    assert found.difference("change", "x", "y").known, "the difference itself is shown, over items only"
    assert not found.compares("x", "y") and found.compares("y", "z") and found.compares("y", "base")


def test_a_p_at_the_floor_of_the_draws_is_a_bound():
    scores = table(
        {"base": np.ones(300), "x": [coin(300, 0.2, 1)] * 2, "y": [coin(300, 0.8, 2)] * 2, "z": [coin(300, 0.8, 3)] * 2}
    )
    found = analysis.analyse(scores, "base", reps=999)
    far, near = found.difference("change", "x", "y"), found.difference("change", "y", "z")
    assert far.p == far.least_p == pytest.approx(2 / 1000) and far.p_is_bound
    assert not near.p_is_bound


# --- gain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "constant", "tuned", "form", "knowledge"),
    [
        (0.1, 0.4, 0.9, 30, 50),  # what a constant answer gets, and what is above
        (0.1, 0.4, 0.3, 20, 0),  # less than a constant answer: nothing but form
        (0.5, 0.4, 0.9, 0, 40),  # the base knows more than the constant answer says
        (0.5, 0.4, 0.2, -20, -10),  # a loss goes through both
        (0.1, 0.4, 0.1, 0, 0),
    ],
)
def test_gain_is_form_up_to_what_a_constant_answer_gets(base, constant, tuned, form, knowledge):
    rows = {"base": exactly(base, 100), "always": exactly(constant, 100), "x": exactly(tuned, 100)}
    scores = table(rows, "t", group="domain", seen=None)
    found = analysis.analyse(scores, "base", reps=50, constant="always")
    parts = [found.estimate(f"gain:{part}", "x").value for part in ("form", "knowledge")]
    assert parts == pytest.approx([form, knowledge])
    assert sum(parts) == pytest.approx(found.estimate("gain", "x").value)
    assert found.estimate("gain:knowledge", "always").value == pytest.approx(
        min(0, 100 * (constant - base)) if base > constant else 0
    )
    draws = [found.replicates[f"gain:{part}"] for part in ("form", "knowledge")]
    assert draws[0] + draws[1] == pytest.approx(found.replicates["gain"]), "of the same joint draws"


def test_gain_has_no_parts_without_a_constant_answer():
    scores = table({"base": exactly(0.1, 50), "x": exactly(0.5, 50)}, "t", group="domain")
    assert not analysis.analyse(scores, "base", reps=5).estimate("gain:form", "x").known


# --- drift -----------------------------------------------------------------------------------------------------------


def test_distance_from_the_base_on_the_pools_texts_and_on_held_out_ones_are_two_numbers():
    told = {"metric": "kl_to_base", "primary": False, "channel": "drift", "higher_better": False}
    pool = table({"base": [0.0] * 4, "x": [0.1] * 4}, "general_held_out", seen=True, **told)
    other = table({"base": [0.0] * 4, "x": [0.9] * 4}, HELD_OUT_TEXTS, seen=False, **told)
    able = table({"base": exactly(1, 30), "x": exactly(1, 30)}, "c")
    found = analysis.analyse(pd.concat([pool, other, able]), "base", reps=20)
    values = [found.estimate(f"level:kl_to_base:{group}", "x").value for group in ("general", "held_out")]
    assert values == pytest.approx([0.1, 0.9])


# --- repetition ------------------------------------------------------------------------------------------------------


def test_the_share_of_answers_that_can_repeat_anything_stands_beside_the_level():
    told = {"metric": "rep3_word", "primary": False, "channel": "degeneration"}
    scores = table({"base": [0.0] * 8, "x": [0.5, 0.5] + [np.nan] * 6}, "a", **told)
    found = analysis.analyse(pd.concat([scores, table({"base": exactly(1, 30), "x": exactly(1, 30)}, "c")]), "base", reps=20)
    assert found.share("level:rep3_word:general", "x") == 0.25 and found.share("level:rep3_word:general", "base") == 1
