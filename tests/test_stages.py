"""Two-stage plans: one file after the other under one budget, scored after each."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from harness.budget import Ledger
from harness.contract import Method
from harness.model import read_weights, weights_hash
from harness.recipes import parse_recipe
from harness.run import TrainingData, TrainingRun, stage_ends
from harness.store import RunFolder
from harness.train import Overdrawn, train
from tests.test_train import Killed, killed_at
from tests.training import examples, make_run, trained

FIRST = examples(24)
SECOND = tuple(replace(example, stage=2) for example in examples(16, seed=1))


def staged(base, recipe: str, *, meter: str = "steps", allowed: float = 12, data=(*FIRST, *SECOND), **changes) -> TrainingRun:
    plain = make_run(base, "", **changes)
    data = TrainingData(tuple(data), plain.data.general)
    return TrainingRun(base, data, parse_recipe(recipe).methods, plain.training, Ledger(meter, allowed), 0)


def test_each_file_has_the_part_of_the_budget_that_its_tokens_are():
    short = replace(FIRST[0], tokens=(1,) * 30), replace(SECOND[0], tokens=(1,) * 10), replace(SECOND[1], tokens=(1,) * 60)
    assert stage_ends(short) == (0.3, 1.0) and stage_ends(FIRST) == (1.0,)


def test_stages_train_in_turn_on_their_own_file(base, tmp_path):
    run, seen = staged(base, "sft", meter="flops", allowed=3e9), []
    ledger_end = run.ends[0]

    class Watch(Method):
        def stream(self, steps, run):
            for step in steps:
                seen.append((run.stage, {e.stage for e in step}, run.budget_spent))
                yield step

        def stage_begin(self, model, run):
            seen.append(("begin", run.stage, {e.stage for e in run.domain}, {e.stage for e in run.domain_of(1)}))

    run.methods = (Watch(),)
    trained(run, tmp_path)
    (boundary,) = [place for place, entry in enumerate(seen) if entry[0] == "begin"]
    assert seen[boundary] == ("begin", 2, {2}, {1})
    assert all(entry[:2] == (1, {1}) for entry in seen[:boundary]) and all(e[:2] == (2, {2}) for e in seen[boundary + 1 :])
    assert abs(seen[boundary + 1][2] - ledger_end) < 0.02 and run.ledger.fraction == pytest.approx(1, abs=0.01)
    assert {entry["stage"] for entry in RunFolder(tmp_path).log()} == {1, 2}


def test_the_rate_is_each_stages_own(base):
    run, one = staged(base, "sft"), make_run(base, "sft")
    run.ends = (0.25, 1.0)
    rates = [run.rate(0.25 * share) for share in (0.0, 0.05, 0.5, 1.0)]
    run.enter(2)
    again = [run.rate(0.25 + 0.75 * share) for share in (0.0, 0.05, 0.5, 1.0)]
    assert rates == pytest.approx([one.rate(share) for share in (0.0, 0.05, 0.5, 1.0)]) == again


def test_the_first_stage_is_a_run_on_the_first_file_bit_for_bit(base, tmp_path):
    second = tuple(replace(example, stage=2) for example in FIRST)
    run = staged(base, "mix", allowed=8, data=(*FIRST, *second))
    trained(run, tmp_path / "staged")
    alone, _ = trained(staged(base, "mix", allowed=4, data=FIRST), tmp_path / "alone")
    assert weights_hash(read_weights(tmp_path / "staged/weights/stage-1.safetensors")) == weights_hash(alone)
    assert not (tmp_path / "alone/weights").exists() and run.stage == 2


def test_epochs_count_over_both_files(base, tmp_path):
    _, progress = trained(staged(base, "sft", allowed=5), tmp_path)
    assert progress.epochs == pytest.approx(1)


@pytest.mark.parametrize("stop", [3, 5, 9])
def test_killed_on_either_side_of_the_boundary_and_resumed(stop, base, tmp_path):
    recipe = 'mix(schedule="10->40")+ewc_online(samples=4)+si_multi+sort+lora(dropout=0.2)+nlirg(token_batch=6)'

    def make():
        return staged(base, recipe, allowed=12)

    whole, _ = trained(make(), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    with pytest.raises(Killed):
        train(make(), tmp_path / "cut", lambda *_: None, killed_at(stop), checkpoint_every=0.0)
    resumed, _ = trained(make(), tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(whole)
    logs = [[e | {"seconds": 0} for e in RunFolder(tmp_path / name).log()] for name in ("whole", "cut")]
    assert logs[0] == logs[1] and {e["stage"] for e in logs[0]} == {1, 2}
    stages = [read_weights(tmp_path / name / "weights/stage-1.safetensors") for name in ("whole", "cut")]
    assert weights_hash(stages[0]) == weights_hash(stages[1])


@pytest.mark.parametrize("recipe", ["ewc_online(samples=8, strength=1000.0)", "si_multi(strength=1000.0)"])
def test_what_the_first_stage_learned_is_held_in_the_second(recipe, base, tmp_path):
    def moved_in_stage_two(recipe, folder):
        weights, _ = trained(staged(base, recipe, allowed=20), folder)
        before = read_weights(folder / "weights/stage-1.safetensors")
        return sum(float((weights[name] - before[name]).square().sum()) for name in weights) ** 0.5

    assert moved_in_stage_two(recipe, tmp_path / "held") < 0.8 * moved_in_stage_two("sft", tmp_path / "free")


def test_a_stage_that_costs_more_than_the_budget_is_overdrawn(base, tmp_path):
    recipe = "ewc_online(samples=16)"
    alone = staged(base, recipe, meter="flops", allowed=1e12)
    alone.methods[0].prepare(alone.load(), alone)
    with pytest.raises(Overdrawn, match="preparation cost"):
        trained(staged(base, recipe, meter="flops", allowed=1.3 * alone.ledger.spent), tmp_path)


def test_a_stop_ends_the_run(base, tmp_path):
    class Halt(Method):
        def stop(self, run):
            return run.ledger.steps >= 2

    run = staged(base, "sft")
    run.methods = (Halt(),)
    assert trained(run, tmp_path)[1].steps == 2 and run.stage == 1


def test_streams_differ_between_stages(base):
    run = staged(base, "sft")
    draws = [torch.randint(1000, (4,), generator=run.generator("mix")).tolist()]
    run.enter(2)
    draws.append(torch.randint(1000, (4,), generator=run.generator("mix")).tolist())
    assert draws[0] != draws[1]
    assert [e.stage for e in itertools.chain(*itertools.islice(run.steps(), 3))] == [2] * 24
