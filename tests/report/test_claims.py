"""The claims page: what a number comes to, and when a claim holds."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from harness.plan.tuning_rule import expected_best, preferred, reference_of
from harness.report.summary.trials import by_trials
from harness.stats.analysis import Estimate
from tests.bench import claims
from tests.bench.claimed import CLAIMS
from tests.bench.claims import line_of, page, verdict, with_world
from tests.bench.worlds import RECIPES, World, apart


def world(summary) -> World:
    return World("fake", (3, 8), summary, summary, None)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (Estimate(5, 3, 7), "**holds**"),
        (Estimate(1, 0.5, 1.5), "**does not hold**"),
        (Estimate(3, 1, 5), "**open**"),
        (Estimate(), "not measured"),
        (None, "not measured"),
        (math.nan, "not measured"),
        (3.0, "**holds**"),
        (2.9, "**does not hold**"),
    ],
)
def test_the_interval_decides_whether_a_claim_holds(found, word):
    assert verdict(dataclasses.replace(CLAIMS[0], bound=3.0), found, seeds=3) == word


def test_one_seed_judges_no_claim_but_what_a_method_costs(summary_of):
    method, cost = (next(c for c in CLAIMS if c.seeded is seeded) for seeded in (True, False))
    assert verdict(method, Estimate(90, 89, 91), 1) == verdict(method, 90.0, 1) == "**one seed: not judged**"
    assert verdict(cost, 1e9, 1) == "**holds**" and verdict(method, Estimate(), 1) == "not measured"
    assert world(summary_of()).seeds == 1


def test_loss_avoided_is_the_share_of_plain_fine_tunings_loss(summary_of):
    own = world(summary_of())
    avoided, lora, sft = own.avoided("lora"), own.change("lora"), own.change("sft")
    assert avoided.value == pytest.approx(100 * (1 - lora.value / sft.value))
    assert avoided.low < avoided.value < avoided.high
    assert own.avoided("sft").value == own.avoided("sft").high == 0


def test_variances_of_separate_comparisons_add():
    found = apart(Estimate(5, se=3, n=10), Estimate(1, se=4, n=20))
    assert (found.value, found.se, found.n) == (4, 5, 10)
    assert found.low == pytest.approx(4 - 1.96 * 5)


GAIN, CHANGE = [5.0, 9.0, 7.0, math.nan, 3.0], [0.0, -8.0, -0.5, 0.0, -3.0]


def test_the_expected_best_is_the_mean_over_all_subsets():
    reference = reference_of(GAIN, CHANGE, [True] * 5)
    order = preferred(GAIN, CHANGE, reference)
    assert (reference.gain, order) == (4.5, [0, 2, 1, 4])
    for drawn in range(1, len(order) + 1):
        subsets = itertools.combinations(order, drawn)
        chosen = [preferred([GAIN[i] for i in s], [CHANGE[i] for i in s], reference)[0] for s in subsets]
        by_hand = np.mean([GAIN[s[c]] for s, c in zip(itertools.combinations(order, drawn), chosen, strict=True)])
        assert expected_best([GAIN[i] for i in order], drawn) == pytest.approx(by_hand)


def test_fewer_trials_stand_in_the_report():
    table = pd.DataFrame({"row": "sft", "gain": GAIN, "change": CHANGE, "plain": True})
    (line,) = by_trials(table)
    assert [n for n, *_ in line["expected"]] == [1, 2, 4]
    assert line["expected"][-1] == (4, 5.0, 0.0)
    assert line["expected"][0][1] == pytest.approx(6.0)


def test_a_stored_comparison_is_added_to_the_page_once(summary_of):
    first = world(summary_of())
    before = page([first], {"fake": "what it is"})
    real = dataclasses.replace(first, name="real", long=None)
    after = with_world(before, real, "a real model")
    assert with_world(after, real, "a real model") == after
    assert after.count("- **real**: a real model") == 1
    assert [line for line in after.splitlines() if line.startswith("- real: ")] == [line_of(claim, real) for claim in CLAIMS]
    assert [line for line in after.splitlines() if line.startswith("- fake: ")] == [line_of(claim, first) for claim in CLAIMS]
    assert after.count("\n## All rows: real\n") == 1


def test_a_claim_that_the_page_lacks_gets_a_section_where_nothing_is_measured_but_the_new_world(summary_of, monkeypatch):
    first = world(summary_of())
    real = dataclasses.replace(first, name="real")
    whole = with_world(page([first], {"fake": "what it is"}), real, "a real model")
    with monkeypatch.context() as earlier:
        earlier.setattr(claims, "CLAIMS", CLAIMS[:-1])
        before = page([first], {"fake": "what it is"})
    after = with_world(before, real, "a real model")
    old = f"{line_of(CLAIMS[-1], first)}\n{line_of(CLAIMS[-1], real)}"
    assert CLAIMS[-1].text not in before and old in whole
    assert after == whole.replace(old, f"- fake: —: not measured.\n{line_of(CLAIMS[-1], real)}")


def test_what_stands_beside_a_claim_is_run():
    assert {recipe for claim in CLAIMS for recipe in claim.beside} <= set(RECIPES.split())


def test_a_claim_reads_the_row_of_the_same_methods_and_is_judged_by_its_seeds(summary_of):
    own = dataclasses.replace(world(summary_of(seeds=(0, 1))), stands_for={"nlirg": "lora"})
    assert own.keeps("nlirg") == own.keeps("lora")
    assert own.read == {"lora"}
    assert own.seeds == 2
