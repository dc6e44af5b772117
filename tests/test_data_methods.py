"""Data methods: what each step trains on, in what order, and what that costs."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from harness.contract import Example
from harness.errors import PlanError
from harness.model import weights_hash
from harness.near import first_alike
from harness.plan import embedded
from harness.recipes import parse_recipe
from harness.records import read_records
from harness.template import ChatTemplate
from harness.train import train
from tests.test_train import Killed, killed_at
from tests.training import make_run, trained


def drawn(run, n: int) -> list[list]:
    """The first n steps, each charged as one step of the budget before the next is drawn."""
    steps = []
    for step in itertools.islice(run.steps(), n):
        steps.append(step)
        run.ledger.steps += 1
    return steps


def shares(steps) -> list[int]:
    return [sum(e.source != "domain" for e in step) for step in steps]


# --- mixing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.15, 0.225, 0.25, 0.5])
def test_a_fixed_ratio_is_exact_over_a_thousand_batches(ratio, base):
    steps = drawn(make_run(base, f"mix(ratio={ratio})", allowed=1000), 1000)
    assert {len(step) for step in steps} == {8}
    assert sum(shares(steps)) == pytest.approx(ratio * 8000, abs=1)


def test_a_schedule_follows_the_spent_budget_and_its_sum_is_the_fixed_controls(base):
    counts = shares(drawn(make_run(base, 'mix(schedule="15->30")', allowed=1000), 1000))
    for first in range(0, 1000, 100):
        middle = 0.15 + 0.15 * (first + 49.5) / 1000
        assert sum(counts[first : first + 100]) == pytest.approx(800 * middle, abs=1)
    control = shares(drawn(make_run(base, "mix(ratio=0.225)", allowed=1000), 1000))
    assert sum(counts) == pytest.approx(sum(control), abs=2)


def test_a_constant_schedule_is_the_fixed_ratio_bit_for_bit(base, tmp_path):
    fixed, _ = trained(make_run(base, "mix(ratio=0.3)"), tmp_path / "fixed")
    moving, _ = trained(make_run(base, 'mix(schedule="30->30")'), tmp_path / "moving")
    assert weights_hash(fixed) == weights_hash(moving)


@pytest.mark.parametrize("schedule", ["15-30", "15->", "x->y", "15->100", "1.2.3->5"])
def test_a_wrong_schedule_is_refused(schedule):
    with pytest.raises(PlanError, match="mix"):
        parse_recipe(f'mix(schedule="{schedule}")')


RESUMED = ['mix(schedule="5->60")']


@pytest.mark.parametrize("recipe", RESUMED)
def test_killed_and_resumed_ends_bit_identical(recipe, base, tmp_path):
    def make():
        return make_run(base, recipe, meter="flops", allowed=4e8)

    whole, _ = trained(make(), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    for stop in (4, 8):
        with pytest.raises(Killed):
            train(make(), tmp_path / "cut", lambda *_: None, killed_at(stop), checkpoint_every=0.0)
    resumed, _ = trained(make(), tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(whole)


# --- replay ----------------------------------------------------------------------------------------------------------


def test_replay_goes_through_its_buffer_as_often_as_it_says(base):
    counts = Counter(
        e.id for s in drawn(make_run(base, "replay(size=10, ratio=0.25)"), 400) for e in s if e.source == "general"
    )
    assert sum(counts.values()) == 800 and len(counts) == 10
    assert all(50 < n < 115 for n in counts.values())  # 80 passes; a binomial's sd is 8.5


def test_shuffled_replay_keeps_prompts_and_tokens_and_loses_the_order(base):
    def rehearsed(recipe):
        run = make_run(base, recipe)
        return {e.id: e for step in drawn(run, 60) for e in step if e.source == "general"}

    plain, control = rehearsed("replay(ratio=0.5)"), rehearsed("replay(ratio=0.5, shuffled=True)")
    moved = 0
    for name in plain.keys() & control.keys():
        one, other = plain[name], control[name]
        first = one.supervised.index(True)
        assert one.tokens[:first] == other.tokens[:first] and one.supervised == other.supervised
        assert sorted(one.tokens) == sorted(other.tokens)
        moved += one.tokens != other.tokens
    assert moved > 0.9 * len(plain.keys() & control.keys())


# --- the learning rate's way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay, half", [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_decay(decay, half, base):
    run = make_run(base, "", decay=decay, warmup=0.2, learning_rate=1.0)
    assert run.rate(0.1) == pytest.approx(0.5) and run.rate(0.2) == pytest.approx(1.0)
    assert run.rate(0.6) == pytest.approx(half)
    assert run.rate(1.0) == pytest.approx(float(decay == "constant"))
    assert torch.tensor(run.rate(0.4)) == pytest.approx({"cosine": 0.8535534, "linear": 0.75, "constant": 1.0}[decay])


def test_weight_decay_moves_weights_to_zero(base, tmp_path):
    norms = {}
    for decay in (0.0, 0.5):
        weights, _ = trained(make_run(base, "", weight_decay=decay, allowed=30), tmp_path / str(decay))
        norms[decay] = sum(tensor.square().sum() for tensor in weights.values())
    assert norms[0.5] < 0.97 * norms[0.0]


# --- near-duplicates -------------------------------------------------------------------------------------------------


def texts_as_examples(base, *texts: str) -> list[Example]:
    made = []
    for text in texts:
        tokens = tuple(base.tokenizer(text)["input_ids"])
        made.append(Example(f"id of {text}", tokens, (False,) + (True,) * (len(tokens) - 1)))
    return made


LONG = "the quick brown fox jumps over the lazy dog while seven small birds watch from an old oak tree near our river today"


def deduplicated(base, *texts: str, recipe: str = "dedup") -> list[str]:
    run = make_run(base, recipe)
    return [e.id.removeprefix("id of ") for e in run.methods[0].records(texts_as_examples(base, *texts), run)]


def test_dedup_keeps_the_first_of_each_cluster(base):
    other = "nothing of this kind was ever said before in any of the records that we have read so far"
    near, loud = LONG.replace("today", "now"), LONG.upper()
    assert deduplicated(base, LONG, other, near, LONG, loud) == [LONG, other]
    assert deduplicated(base, near, other, LONG) == [near, other]
    assert deduplicated(base, LONG, LONG.replace("seven small", "nine large")) == [
        LONG,
        LONG.replace("seven small", "nine large"),
    ]
    assert deduplicated(base, LONG, near, LONG, recipe="dedup(threshold=2.0)") == [LONG, near, LONG]


def test_dedup_sees_copies_so_many_that_their_words_are_boilerplate(base):
    copies = ["Yes it is" + " " * n for n in range(40)]
    assert deduplicated(base, *copies, "No it is not") == ["Yes it is", "No it is not"]


def test_texts_without_words_are_not_alike(base):
    assert len(deduplicated(base, "!?", "...", "(:")) == 3


def test_examples_of_one_record_stay_together(base):
    """Where each answer of a conversation is an example of its own, the later ones repeat the earlier ones' prompts."""
    one, two = texts_as_examples(base, LONG, LONG + " and")
    parts = [dataclasses.replace(part, id="same record") for part in (one, two)]
    run = make_run(base, "dedup")
    assert run.methods[0].records([*parts, *parts], run) == parts


def test_dedup_finds_the_planted_near_duplicates():
    """Precision counts what truth calls a copy; of short records it sees edits at the ends and not those amid their words."""
    folder = Path(embedded().data)
    rows, truth = (json.loads((folder / name).read_text()) for name in ("finance.json", "finance.truth.json"))
    tokenizer = AutoTokenizer.from_pretrained(embedded().model)
    examples = ChatTemplate(tokenizer).encode_all(read_records(str(folder / "finance.json")), max_length=2048)
    first = first_alike(examples, tokenizer)
    seen, copies = set(), set()
    for place, row in enumerate(rows):
        original = truth[row["id"]]["near_duplicate_of"] or row["id"]
        copies |= {place} if original in seen else set()
        seen.add(original)
    removed = {place for place, kept in enumerate(first) if kept != place}
    assert len(removed & copies) / len(removed) > 0.9
    assert len(removed & copies) / len(copies) > 0.45
