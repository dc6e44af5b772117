"""Two-stage plans: one file after the other under one budget, scored after each."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import pandas as pd
import pytest
import torch

from harness.commands.compare import compare
from harness.contract import Method
from harness.data.stages import joined, load_stages
from harness.errors import PlanError
from harness.models.base_model import read_weights, weights_hash
from harness.plan.load import make_plan, resolve_places
from harness.recipes.recipe import parse_recipe
from harness.report.summary.stages import read_stages, stage_numbers, stage_table
from harness.setup.material import gather
from harness.setup.specs import REPORTED, run_specs
from harness.store.runs import RunFolder
from harness.training.ledger import Ledger
from harness.training.loop import Overdrawn, train
from harness.training.protocol import TrainingData, stage_ends
from harness.training.run import PlannedRun
from tests.support.comparisons import carried_out
from tests.support.training import examples, make_run, trained
from tests.training.test_train import Killed, killed_at

FIRST = examples(24)
SECOND = tuple(replace(example, stage=2) for example in examples(16, seed=1))


def staged(base, recipe: str, *, meter: str = "steps", allowed: float = 12, data=(*FIRST, *SECOND), **changes) -> PlannedRun:
    plain = make_run(base, "", **changes)
    data = TrainingData(tuple(data), plain.data.general)
    return PlannedRun(base, data, parse_recipe(recipe).methods, plain.training, Ledger(meter, allowed), 0)


def test_each_file_has_the_part_of_the_budget_that_its_tokens_are():
    short = replace(FIRST[0], tokens=(1,) * 30), replace(SECOND[0], tokens=(1,) * 10), replace(SECOND[1], tokens=(1,) * 60)
    assert stage_ends(short) == (0.3, 1.0) and stage_ends(FIRST) == (1.0,)


def test_stages_train_in_turn_on_their_own_file(base, tmp_path):
    run, seen = staged(base, "sft", meter="flops", allowed=4e8), []
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


def test_a_later_stage_is_sorted_by_what_was_read_for_it(base):
    run = staged(base, "sort(order=easy)")
    run.enter(2)
    (sort,) = run.methods
    sort.stage_begin(run.load(), run)
    hard = dict(zip((e.id for e in run.domain), sort.difficulty_.tolist(), strict=True))
    epoch = [hard[e.id] for step in itertools.islice(run.steps(), 2) for e in step]
    assert run.ledger.accounts["reading"].tokens == sum(map(len, SECOND)) and epoch == sorted(hard.values())


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


# --- files -----------------------------------------------------------------------------------------------------------


def write(path, prefix: str, n: int, extra=()) -> str:
    rng = random.Random(prefix)
    words = ["".join(rng.choices("abcdefgh", k=7)) for _ in range(n)]
    records = [{"instruction": f"{prefix} {w} {w[::-1]}", "input": "", "output": rng.choice(["yes", "no"])} for w in words]
    path.write_text(json.dumps([*records, *extra]))
    return str(path)


def test_no_file_trains_on_anothers_test(tmp_path):
    first, test = write(tmp_path / "first.json", "Grade", 100), write(tmp_path / "test.json", "Test", 50)
    second = write(tmp_path / "second.json", "Colour", 100, json.loads((tmp_path / "test.json").read_text()))
    one, two = load_stages([first, second], [test, None])
    assert len(one.test) == 50 and len(two.train) < 110
    assert not {prompt for prompt, _ in asked([*two.train, *two.dev])} & {prompt for prompt, _ in asked(one.test)}
    assert any("left out of training" in note for note in two.notes)
    both = joined([one, two])
    assert both.train == one.train + two.train and set(both.test) == {*one.test, *two.test} and both.name == "first+second"
    assert joined([one]) is one


def asked(records):
    return [(record.messages[-2].content, record.messages[-1].content) for record in records]


def test_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    paths = [write(tmp_path / "a.json", "Grade", 100), write(tmp_path / "other/a.json", "Colour", 100)]
    with pytest.raises(PlanError, match="two data files are named a"):
        load_stages(paths, [None, None])


def test_a_plan_takes_files_joined_by_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json", "at.json", "bt.json", "t.json"):
        (tmp_path / name).write_text("[]")
    plan = make_plan({"data": "a.json,b.json", "test": "at.json,bt.json", "model": "m", "suites": "s"})
    assert plan.sources == ["a.json", "b.json"] and plan.tests == ["at.json", "bt.json"]
    assert resolve_places(plan).name == "a+b-m"
    assert make_plan({"data": "a.json,b.json"}).tests == [None, None]
    with pytest.raises(PlanError, match="data names 2 files and test 1"):
        make_plan({"data": "a.json,b.json", "test": "t.json"})


# --- report ----------------------------------------------------------------------------------------------------------


def items(row: str, domain: str, rights: int, stage: int | None = None) -> list[dict]:
    fixed = {"row": row, "seed": 0, "task": f"{domain}_exact", "family": domain, "group": "domain", "seen": None}
    fixed |= {"channel": "generation", "metric": "exact", "primary": True, "higher_better": True, "chance": 0.0}
    fixed |= {"stage": stage} if stage else {}
    return [fixed | {"item": f"{domain}{i}", "cluster": f"{domain}{i}", "score": float(i < rights)} for i in range(100)]


RECORD = {"data": {"stages": ["a", "b"]}, "suites": [{"name": "a", "tasks": ["a_exact"]}, {"name": "b", "tasks": ["b_exact"]}]}


def test_the_forgetting_matrix():
    """R = [[20, 30], [80, 35], [50, 90]]: transfer back 50 - 80, forgetting 80 - 50."""
    final = items("base", "a", 20) + items("base", "b", 30) + items("sft", "a", 50) + items("sft", "b", 90)
    between = items("sft", "a", 80, 1) + items("sft", "b", 35, 1)
    found = read_stages(RECORD, pd.DataFrame(final), pd.DataFrame(between), "base", 500)
    (row,) = found.rows
    assert [e.value for e in found.base] == pytest.approx([20, 30])
    assert [[e.value for e in line] for line in row.scores] == [pytest.approx([80, 35]), pytest.approx([50, 90])]
    assert row.backward.value == pytest.approx(-30) and row.forgetting.value == pytest.approx(30)
    assert row.backward.low < -30 < row.backward.high < 0 and row.backward.n == 100
    assert "−30.0 [" in stage_table(found).iloc[-1]["backward transfer (points)"]
    assert stage_numbers(found).query("stage == 0")["score"].tolist() == pytest.approx([20, 30])


def test_what_the_base_knew_can_be_forgotten_too():
    final = items("base", "a", 90) + items("base", "b", 0) + items("sft", "a", 50) + items("sft", "b", 90)
    found = read_stages(RECORD, pd.DataFrame(final), pd.DataFrame(items("sft", "a", 80, 1)), "base", 100)
    assert found.rows[0].forgetting.value == pytest.approx(40) and found.rows[0].backward.value == pytest.approx(-30)


def test_brackets_stand_at_the_number_they_belong_to():
    """A loss of 40 points reads as a loss: the interval of the change stands at the change, none at the score."""
    final = items("base", "a", 90) + items("base", "b", 0) + items("sft", "a", 50) + items("sft", "b", 90)
    found = read_stages(RECORD, pd.DataFrame(final), pd.DataFrame(items("sft", "a", 80, 1)), "base", 100)
    last = stage_table(found).iloc[-1]
    assert (last["a"], last["b"]) == ("50.0", "90.0")
    assert last["a: gain (points)"].startswith("−40.0 [−") and last["b: gain (points)"].startswith("+90.0 [+")
    gain = found.rows[0].gains[-1][0]
    assert gain.low < -39 < gain.high < 0 and gain.value == pytest.approx(-40)
    assert {domain: gain.value for domain, gain in found.gains("sft").items()} == pytest.approx({"a": -40, "b": 90})
    assert "low" not in stage_numbers(found).columns


def test_a_row_without_scores_between_has_no_transfer():
    final = items("base", "a", 20) + items("base", "b", 30) + items("sft", "a", 50) + items("sft", "b", 90)
    found = read_stages(RECORD, pd.DataFrame(final), pd.DataFrame(columns=["row", "stage"]), "base", 100)
    assert not found.rows[0].backward.known and found.rows[0].scores[1][1].known


def test_a_plan_of_one_file_has_no_stages():
    assert read_stages({"data": {}}, pd.DataFrame(items("base", "a", 20)), pd.DataFrame(), "base", 100) is None


@pytest.mark.slow
def test_a_comparison_of_two_files(tiny_path, tmp_path):
    """Trained in turn, scored after each; a second time nothing runs; deleted stage scores alone are made again."""
    data = f"{write(tmp_path / 'a.json', 'Grade', 160)},{write(tmp_path / 'b.json', 'Colour', 120)}"
    (tmp_path / "echo.jsonl").write_text("\n".join(json.dumps({"question": f"Say {i}", "answer": str(i)}) for i in range(30)))
    options = {"data": data, "model": tiny_path, "suites": str(tmp_path / "echo.jsonl"), "out": str(tmp_path / "results")}
    options |= {"budget": "1epochs", "learning_rate": 3e-3, "recipes": "sft si_multi", "max_length": 64}
    outcome = compare(quiet=True, **options)
    assert not outcome.failed and {row.name for row in outcome.report.summary.stages.rows} == {"zero budget", "sft", "si_multi"}
    zero = next(row for row in outcome.report.summary.stages.rows if row.name == "zero budget")
    assert zero.backward.value == zero.forgetting.value == 0
    for name in ("table.md", "report.html"):
        assert "ackward transfer" in (outcome.folder / name).read_text()
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "results/runs").glob("*/evals/*")}
    between = [path for path in stored if path.name.startswith("stages")]
    assert len(between) == 3 and set(pd.read_parquet(between[0])["stage"]) == {1}
    between[0].unlink()
    carried_out(options)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "results/runs").glob("*/status.json")}
    assert between[0].exists() and all(path.stat().st_mtime_ns == at for path, at in stored.items() if path.name[0] == "d")
    assert max(again.values()) < between[0].stat().st_mtime_ns


def test_one_file_asks_what_it_always_asked(tmp_path, tiny_path):
    (tmp_path / "echo.jsonl").write_text(json.dumps({"question": "Say 1", "answer": "1"}))
    fixed = {"model": tiny_path, "suites": str(tmp_path / "echo.jsonl"), "max_length": 64, "device": "cpu"}
    first, second = write(tmp_path / "a.json", "Grade", 100), write(tmp_path / "b.json", "Colour", 100)
    one, two = (gather(make_plan(fixed | {"data": data, "recipes": "sft"})) for data in (first, f"{first},{second}"))
    specs = [{spec.row: spec for spec in run_specs(material, 1e9)}["sft"] for material in (one, two)]
    assert "stages" not in specs[0].question.fields and specs[0].kinds == REPORTED
    assert specs[1].question.fields["stages"] == [len(stage.train) for stage in two.stages]
    assert specs[1].kinds == (*REPORTED, "stages")
    assert [recipe.text for recipe in gather(make_plan(fixed | {"data": f"{first},{second}", "recipes": "si_multi"})).recipes]
    with pytest.raises(PlanError, match="si_multi is left out: it needs two stages"):
        gather(make_plan(fixed | {"data": first, "recipes": "si_multi"}))
