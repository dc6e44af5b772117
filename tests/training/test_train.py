"""The loop: resume, divergence, what is logged, fairness."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.contract import Method
from harness.models.base_model import weights_hash
from harness.recipes.registry import methods
from harness.store.runs import RunFolder
from harness.training import loop
from harness.training.ledger import Ledger
from harness.training.loop import SIXTHS, Watch, next_stage, train
from harness.training.step import Diverged
from tests.support.training import in_training, make_run, trained, trained_model


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def killed_at(step: int):
    def report(entry):
        if entry["step"] == step:
            raise Killed

    return report


@pytest.mark.parametrize("recipe", ["sft", "lora(dropout=0.2)+nlirg", "mix+ewc", "distill", "replay+wise"])
def test_killed_and_resumed_ends_bit_identical(recipe, base, tmp_path):
    def make():
        return make_run(base, recipe, meter="flops", allowed=3e8)

    whole, _ = trained(make(), tmp_path / "whole", checkpoint_every=0.0)
    (tmp_path / "cut").mkdir()
    for stop in (3, 6):
        with pytest.raises(Killed):
            train(make(), tmp_path / "cut", lambda *_: None, killed_at(stop), checkpoint_every=0.0)
    run = make()
    resumed, _ = trained(run, tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(whole)
    logs = [[e | {"seconds": 0} for e in RunFolder(tmp_path / name).log()] for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(base, tmp_path, monkeypatch):
    """It knows nothing of evaluations that are charged ahead."""
    record = loop._record

    def earlier(run, progress):
        return {key: value for key, value in record(run, progress).items() if key != "paid"}

    monkeypatch.setattr(loop, "_record", earlier)
    run = make_run(base, "sft", meter="flops", allowed=3e8)
    with pytest.raises(Killed):
        train(run, tmp_path, lambda *_: None, killed_at(3), checkpoint_every=0.0)
    resumed = make_run(base, "sft", meter="flops", allowed=3e8)
    trained(resumed, tmp_path)
    assert [entry["step"] for entry in RunFolder(tmp_path).log()][:3] == [1, 2, 3] and resumed.position.paid == 0


def test_observers_see_sixths_once_and_disturb_nothing(base, tmp_path):
    seen = []

    def nosy(fraction, weights, run):
        seen.append(round(fraction * 6))
        weights()
        torch.rand(3)

    watched, _ = train(make_run(base, "lora(dropout=0.2)", allowed=12), watched_folder(tmp_path), nosy, lambda _: None)
    alone, _ = trained(make_run(base, "lora(dropout=0.2)", allowed=12), tmp_path / "alone")
    assert seen == [1, 2, 3, 4, 5]
    assert weights_hash(watched) == weights_hash(alone)


def watched_folder(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def test_a_loss_that_is_no_number_is_divergence(base, tmp_path):
    with pytest.raises(Diverged, match="gradient norm"):
        trained(make_run(base, "sft", learning_rate=1e30, clip=1e30, allowed=20), tmp_path)


def test_recipes_see_the_same_batches_in_the_same_order(base):
    plain, lora = (next(make_run(base, recipe).steps()) for recipe in ("sft", "lora+nlirg"))
    assert [e.id for e in plain] == [e.id for e in lora]


def test_micro_batches_do_not_change_the_step(base, tmp_path):
    """Step-level normalisation: one micro-batch or many, the same gradient to rounding, token weights included."""
    losses = {}
    for limit in (32, 100_000):
        trained(make_run(base, "nlirg", micro_tokens=limit, allowed=4), tmp_path / str(limit))
        losses[limit] = [entry["task_loss"] for entry in RunFolder(tmp_path / str(limit)).log()]
    assert losses[32] == pytest.approx(losses[100_000], rel=1e-4)


def test_zone_shares_sum_to_one(base, tmp_path):
    trained(make_run(base, "nlirg", allowed=2), tmp_path)
    for entry in RunFolder(tmp_path).log():
        assert sum(zone["tokens"] for zone in entry["zones"]) == pytest.approx(1)
        assert sum(zone["gradient"] for zone in entry["zones"]) == pytest.approx(1)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["zones"][-1]["high"] is None


def test_weights_that_methods_give_are_logged_by_token_loss(base, tmp_path):
    class Halve(Method):
        def token_weights(self, nll, logits, batch):
            return torch.full_like(nll, 0.5)

    run = make_run(base, "sft", allowed=2)
    run.methods = (Halve(),)
    trained(run, tmp_path / "halved")
    trained(make_run(base, "sft", allowed=2), tmp_path / "plain")
    entry = RunFolder(tmp_path / "halved").log()[0]
    assert sum(entry["weights"]["tokens"]) == entry["supervised"]
    assert {mean for mean in entry["weights"]["mean"] if mean is not None} == {0.5}
    assert len(entry["weights"]["mean"]) == len(entry["weights"]["edges"]) + 1
    assert "weights" not in RunFolder(tmp_path / "plain").log()[0]


def test_a_stopping_method_is_named(base, tmp_path):
    class Halt(Method):
        def stop(self, run):
            return run.ledger.steps >= 2

    run = make_run(base, "sft")
    run.methods = (Halt(),)
    assert trained(run, tmp_path)[1].stopped_by == "halt"


def test_a_run_in_training_is_whole_from_its_first_line_on(base):
    """A planned run has no model and says so; what is made of it lacks nothing, and both stand at one stage."""
    planned = make_run(base, "lora")
    for ask in (planned.dev_scores, lambda: planned.generate(None, [()], limit=1, temperature=1.0, name="x")):
        with pytest.raises(RuntimeError, match="no model is in training"):
            ask()
    run = in_training(planned)
    assert all(value is not None for value in vars(run).values())
    assert run.start.keys() == planned.start.keys() and run.vocabulary > 0
    run.position.room = 7
    assert planned.position.room == 7 and run.base_copy is planned.base_copy


def test_the_loop_names_no_method():
    root = Path(__file__).resolve().parents[2] / "harness"
    files = [*(root / "training").glob("*.py"), root / "runs/execute.py", root / "setup/material.py", root / "models/flops.py"]
    for file in files:
        words = set(re.findall(r"[a-z_]+", file.read_text()))
        assert not words & (set(methods()) - {"sft"}), file


def test_models_saved_on_the_way_load_as_what_was_trained(base, tmp_path):
    """LoRA, folded; looks beside the sixths; after a kill none is lost and the numbers stay the same."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.models.base_model import save_model
    from harness.models.forward import logits_at

    run = make_run(base, "lora", allowed=10)

    def observe(fraction, weights, _):
        save_model(base, weights(), tmp_path / f"{fraction:g}")
        seen.append((fraction, run.ledger.fraction, logits_at(trained_model(run), batch).detach()))

    seen: list = []
    (batch,) = list(make_run(base, "").batches(make_run(base, "").domain[:2]))
    folder = tmp_path / "run"
    folder.mkdir()
    train(run, folder, observe, lambda _: None, looks=(0.25, 0.5, 0.55))
    assert [(a, round(b, 9)) for a, b, _ in seen] == [(0.25, 0.3), (0.5, 0.5), (0.55, 0.6)]
    for fraction, _, logits in seen:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / f"{fraction:g}")
        assert torch.allclose(logits_at(model, batch), logits, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "0.5")
    assert tokenizer("Hello")["input_ids"] == base.tokenizer("Hello")["input_ids"] and tokenizer.chat_template


def test_rate_and_loss_are_those_of_the_step(base, tmp_path):
    """The schedule's clock is the middle of a step, and methods hear the mean loss that the log has."""
    heard = []

    class Listen(Method):
        def observe_loss(self, loss):
            heard.append(loss)

    run = make_run(base, "sft", allowed=5)
    run.methods = (Listen(),)
    trained(run, tmp_path)
    lines = RunFolder(tmp_path).log()
    ends = [0.0, *(line["spent"] for line in lines)]
    middles = [(before + after) / 2 for before, after in itertools.pairwise(ends)]
    assert [line["rate"] for line in lines] == pytest.approx([run.rate(middle) for middle in middles])
    assert heard == pytest.approx([line["loss"] for line in lines]) and len(heard) == 5
    assert not any("stage" in line for line in lines), "a run of one domain has no stages"


def test_a_run_that_goes_on_is_not_evaluated_twice_at_one_fraction():
    looks: list[float] = []
    nothing: Any = None
    ledger = SimpleNamespace(fraction=3 / 6)
    masters, engine = SimpleNamespace(gather=lambda: None), SimpleNamespace(broadcast=lambda _: None)
    run: Any = SimpleNamespace(ledger=ledger, trained=masters, engine=engine)
    watch = Watch(run, nothing, lambda fraction, *_: looks.append(fraction), nothing, SIXTHS, nothing)
    for ledger.fraction in (3 / 6, 1.0):
        watch.look()
    assert looks == [4 / 6, 5 / 6]


def test_what_methods_prepare_for_a_stage_reaches_every_rank(tmp_path):
    told = []
    engine = SimpleNamespace(
        rank=1, on_rank_zero=lambda *_: None, broadcast_method_state=lambda methods, *_: told.append(methods)
    )
    masters = SimpleNamespace(gather=lambda: dict, begin=lambda: None)
    run: Any = SimpleNamespace(
        engine=engine, trained=masters, stage=1, enter=lambda stage: None, filled=lambda hook: ["a method"],
        load=lambda: None, ledger=Ledger("steps", 3), methods=("a method",), device="cpu",
    )  # fmt: skip
    next_stage(run, tmp_path)
    assert told == [("a method",)]
