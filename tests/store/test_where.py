"""The memory of a training is its own: what looks at the model need, and what they leave behind, is not counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.commands.compare import prepare
from harness.models.device_memory import PeakMemory, peak_memory
from harness.plan.load import make_plan
from harness.runs.execute import execute
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import RunSpec, run_specs
from harness.store.runs import RunStore
from tests.support.fresh import fresh
from tests.support.training import small_files

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
LARGE = 400_000_000
"""Bytes of a planted allocation: far above what a small training needs."""


def large() -> torch.Tensor:
    """So much memory, touched; the system gets it back when it is dropped."""
    return torch.ones(LARGE, dtype=torch.uint8)


def looked_and_allocated() -> tuple[int, int]:
    """By how much the peak rose with a look that allocates, and with the same after it."""
    memory = PeakMemory(CPU)
    before = memory.bytes
    with memory.paused():
        large()
    looked = memory.bytes - before
    large()
    return looked, memory.bytes - before


def looked_and_kept() -> tuple[int, int]:
    """The same where both keep what they allocate."""
    memory = PeakMemory(CPU)
    before = memory.bytes
    with memory.paused():
        kept = large()
    looked = memory.bytes - before
    own = large()
    assert len(kept) == len(own)
    return looked, memory.bytes - before


def test_what_a_look_allocates_is_not_the_trainings():
    looked, trained = fresh(looked_and_allocated)
    assert looked < LARGE / 4
    assert trained > LARGE * 3 / 4, "the same outside a look is seen"


def test_what_a_look_leaves_behind_is_not_the_trainings():
    looked, trained = fresh(looked_and_kept)
    assert looked < LARGE / 4
    assert LARGE * 3 / 4 < trained < LARGE * 5 / 4, "only what came after it"


def test_on_a_gpu_its_own_counters_are_read(monkeypatch):
    held, most = 0, 0

    def allocate(size: int) -> None:
        nonlocal held, most
        held += size
        most = max(most, held)

    def reset(device: torch.device) -> None:
        nonlocal most
        most = held if device == GPU else most

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {GPU: most}[device])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: {GPU: held}[device])
    allocate(5)
    memory = PeakMemory(GPU)
    allocate(20)  # a step
    allocate(-18)
    with memory.paused():
        allocate(900)
        allocate(-860)  # the evaluator's copy of the base stays
    allocate(18)
    assert memory.bytes == 25
    allocate(3)
    assert memory.bytes == 28 and peak_memory(GPU) == 68


def test_a_run_on_the_cpu_has_the_memory_of_its_process_where_there_is_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert PeakMemory(CPU).bytes > 1_000_000


def peak_of(spec: RunSpec, material: Material, plan: EvaluationPlan, folder: Path, greedy: bool) -> int:
    """The peak that a run reports; whether its looks allocate much."""
    evaluation, store = plan.open(material), RunStore(folder)
    score = evaluation.score
    evaluation.score = lambda *given, **named: (large() if greedy else None, score(*given, **named))[1]
    execute(spec, material, store, evaluation, lambda _: None)
    record = store.run(spec.key).read("run")
    assert store.run(spec.key).status == "done" and record
    return record["happened"]["peak_memory_bytes"]


def test_a_run_reports_the_memory_of_its_training(tiny_path, tmp_path):
    options = {"model": tiny_path, "recipes": "sft", "budget": "6steps", "max_length": 64, "limit": 8, "workers": 1}
    places = {**small_files(tmp_path), "out": str(tmp_path / "results")}
    material, plan, allowed = prepare(make_plan(options | places))
    (spec,) = [spec for spec in run_specs(material, allowed) if spec.role == "recipe"]
    peaks = [fresh(peak_of, spec, material, plan, tmp_path / str(greedy), greedy) for greedy in (False, True)]
    assert peaks[1] == pytest.approx(peaks[0], abs=LARGE / 4)
