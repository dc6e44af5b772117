"""The rule that every answer to "which recipe?" follows, on numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from harness.plan.values import Limits
from harness.report.summary.rule import Costs, Margins, Scores, broken, chosen

LOSS = Limits(loss=5)


def scores(gain, change, kept=None) -> Scores:
    rows = [np.atleast_2d(np.array(part, float)) for part in (gain, change, kept or [97.0] * len(gain))]
    return Scores(*rows)


def margins(n: int, down: float = 2.0, apart: float = 3.0) -> Margins:
    return Margins(*(np.full(n, down) for _ in range(3)), *(np.full((n, n), apart) for _ in range(2)))


def costs(*seconds: float, memory: float = 1e9) -> Costs:
    return Costs(np.array(seconds, float), np.full(len(seconds), memory))


def place(gain, change, seconds=None, limits=LOSS, **more) -> int:
    n = len(gain)
    return int(chosen(scores(gain, change, **more), margins(n), costs(*(seconds or [60] * n)), limits)[0])


def test_it_takes_the_highest_gain_among_those_that_keep_the_limits():
    assert place([40, 30, 20], [-20, -2, 0]) == 1


def test_a_limit_counts_by_the_worse_end_of_the_interval():
    assert place([40, 20], [-3.0, 0]) == 0  # at worst 5.0
    assert place([40, 20], [-3.1, 0]) == 1


def test_a_gain_whose_interval_holds_nothing_is_none():
    assert place([1.9, 1.0], [0, 0]) == -1


def test_of_gains_that_are_not_separated_it_takes_what_keeps_most():
    assert place([40, 38, 30], [-3, 2, 2]) == 1  # 2 points less gain, not separated; 30 is
    assert place([42, 38, 30], [-3, 2, 2]) == 0


def test_of_what_is_not_separated_at_all_it_takes_the_cheapest():
    assert place([40, 39, 38], [-3, -2, -1], [60, 50, 70]) == 1
    assert place([40, 39, 38], [-3, -2, 2], [60, 50, 70]) == 2  # keeps more than both for sure


def test_of_equals_it_takes_the_higher_gain_and_unknown_seconds_are_dear():
    assert place([38, 40], [0, 0]) == 1
    assert place([40, 38], [0, 0], [np.nan, 60]) == 1
    assert place([38, 40], [0, 0], [np.nan, np.nan]) == 1


def test_what_was_not_measured_keeps_no_limit():
    assert place([40, 30], [np.nan, 0]) == 1
    assert place([40], [np.nan], limits=Limits()) == 0
    assert place([40, 30], [0, 0], [np.nan, 50], Limits(seconds=60)) == 1


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(loss=4), "loss"),
        (Limits(retention=96), "retention"),
        (Limits(seconds=59), "time"),
        (Limits(memory=9e8), "memory"),
    ],
)
def test_each_limit_excludes_and_names_itself(limits: Limits, why: str):
    found = broken(scores([40], [-3]), margins(1), costs(60), limits)
    assert [name for name, breaks in found.items() if breaks[0, 0]] == [why]


def test_no_share_of_the_best_gain_decides():
    """The published rows: a point less gain of `ewc` once made `sft`, which keeps 80 %, the winner past `mix`."""
    names, limits = ["sft", "low_lr", "distill", "mix", "replay", "ewc"], Limits(loss=7)
    change, kept = [-18.6, -1.6, -2.9, -4.3, -5.2, -2.0], [80, 98, 97, 95, 94, 98]
    taken = set()
    for ewc in np.arange(60.0, 68.0, 0.5):
        gain = [84.2, 1.3, 18.5, 81.7, 81.7, ewc]
        taken.add(names[place(gain, change, limits=limits, kept=kept)])
    assert taken == {"mix"}


def test_every_draw_is_judged_by_the_same_rule_one_by_one():
    rng = np.random.default_rng(0)
    many = Scores(rng.normal(30, 5, (200, 4)), rng.normal(-3, 3, (200, 4)), rng.normal(95, 3, (200, 4)))
    wide, price = margins(4), costs(60, 50, 70, 65)
    together = chosen(many, wide, price, LOSS)
    alone = [
        int(chosen(Scores(*(part[b : b + 1] for part in (many.gain, many.change, many.kept))), wide, price, LOSS)[0])
        for b in range(200)
    ]
    assert together.tolist() == alone and set(alone) == {-1, 0, 1, 2, 3}
