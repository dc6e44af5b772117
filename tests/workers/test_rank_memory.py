"""A run that runs out of memory: micro-batches are halved, steps stay, and nothing of a failed pass is left."""

from __future__ import annotations

import pytest
import torch

from harness.models.adapters import Silenced
from harness.models.forward import features_at
from harness.store.runs import RunFolder
from harness.training.loop import train
from harness.training.run import TrainingRun
from tests.support.rank_runs import compare_training, short_in
from tests.support.ranks import (
    SETTINGS,
    train_into,
)
from tests.support.short import Short
from tests.support.training import make_run, trained, trained_model
from tests.training.test_train import Killed, killed_at


def short_of_memory(monkeypatch, limit: int, once: bool = True):
    """Let forward passes over more than `limit` tokens fail: the first of them, or each."""
    forward, failed = TrainingRun.features, []

    def features(self, model, batch):
        if batch.tokens.numel() > limit and not (once and failed):
            failed.append(batch.tokens.numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, model, batch)

    monkeypatch.setattr(TrainingRun, "features", features)
    return failed


def test_where_memory_runs_out_micro_batches_are_halved_and_steps_stay(base, tmp_path, monkeypatch):
    plain = make_run(base, "sft")
    wanted, _ = trained(plain, tmp_path / "plain")
    run = make_run(base, "sft")
    failed = short_of_memory(monkeypatch, limit=60)
    found, progress = trained(run, tmp_path / "short")
    logs = [RunFolder(tmp_path / name).log() for name in ("plain", "short")]
    assert failed and run.position.room == 48
    assert [e["tokens"] for e in logs[0]] == [e["tokens"] for e in logs[1]]
    assert logs[1][0]["out_of_memory"] == "micro-batches of at most 48 tokens from here on"
    assert "out_of_memory" not in logs[1][1] and "from step 1 on" in progress.notes[0]
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


def test_what_a_failed_backward_pass_left_goes_into_no_step(base, reference, tmp_path):
    run = make_run(base, "sft", **SETTINGS)
    run.methods = (Short(limit=32, begin=2),)
    train_into(run, tmp_path)
    compare_training(reference("sft"), tmp_path)
    assert short_in(tmp_path) == [2]


def test_where_the_teacher_runs_out_of_memory_the_model_stays_in_training(base, tmp_path, monkeypatch):
    failed = []

    def short(model, batch, **options):
        if isinstance(model, Silenced) and not failed:
            failed.append(batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return features_at(model, batch, **options)

    monkeypatch.setattr("harness.losses.head.features_at", short)
    run = make_run(base, "lora+distill", allowed=2)
    trained(run, tmp_path)
    assert failed and trained_model(run).training


def test_a_run_begins_again_with_the_room_that_its_folder_tells(base, tmp_path):
    """Whatever its checkpoint says; the log tells where room changed, once, however often the run is killed."""
    for stop in (3, 4, 5):  # in the step behind the last checkpoint
        with pytest.raises(Killed):
            train(make_run(base, "sft"), tmp_path, lambda *_: None, killed_at(stop), checkpoint_every=0.0)
        RunFolder(tmp_path).write("room", {"room": 48, "notes": ["begun again"]})
    run = make_run(base, "sft")
    _, progress = trained(run, tmp_path)
    assert run.position.room == 48 and progress.notes == ["begun again"] and short_in(tmp_path) == [3]


def test_one_example_that_does_not_fit_ends_the_run(base, tmp_path, monkeypatch):
    run = make_run(base, "sft")
    short_of_memory(monkeypatch, limit=0, once=False)
    with pytest.raises(torch.OutOfMemoryError, match="one example at a time is too much"):
        trained(run, tmp_path)
