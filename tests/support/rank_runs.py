"""Shared by tests of runs in several processes: how two trainings are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.models.base_model import read_weights
from harness.store.runs import RunFolder


def short_in(folder: Path) -> list[int]:
    """The steps that memory was short in, as the log tells."""
    return [entry["step"] for entry in RunFolder(folder).log() if "out_of_memory" in entry]


def compare_training(one: Path, two: Path) -> None:
    """The same steps, losses and weights to rounding."""
    for a, b in zip(RunFolder(one).log(), RunFolder(two).log(), strict=True):
        assert {k: a[k] for k in ("tokens", "supervised", "spent")} == {k: b[k] for k in ("tokens", "supervised", "spent")}
        for key in ("loss", "task_loss", "penalty", "gradient_norm", "rate"):
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=2e-5), key
    wanted, found = (read_weights(folder / "weights.safetensors") for folder in (one, two))
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-3, atol=5e-5) for name in wanted)


def compare(one: Path, two: Path) -> None:
    """The same training; every token charged once."""
    compare_training(one, two)
    ledgers = [json.loads((folder / "ledger.json").read_text()) for folder in (one, two)]
    assert ledgers[0]["tokens"] == ledgers[1]["tokens"] and ledgers[0]["steps"] == ledgers[1]["steps"]
    assert ledgers[1]["flops"] == pytest.approx(ledgers[0]["flops"], rel=0.1)  # padding differs
