"""`lethe plan` on a tiny model: what it prints of each run, without anything having run."""

from __future__ import annotations

import re
from pathlib import Path

from harness.commands.plan import print_cost
from harness.plan.load import make_plan
from harness.runs import timing


def test_each_run_has_its_rate_its_seconds_and_its_memory(files, tiny_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    asked = {"data": files["domain"], "general": files["general"], "suites": files["echo"], "model": tiny_path}
    asked |= {"recipes": "sft low_lr ewc", "max_length": 64, "limit": 8, "precision": "float32", "out": str(tmp_path / "out")}

    # Timing takes few examples and few steps, whatever the comparison would train.
    steps: list[int] = []
    train = timing.train

    def counted_train(run, *arguments, **options):
        weights, progress = train(run, *arguments, **options)
        steps.append(progress.steps)
        return weights, progress

    monkeypatch.setattr(timing, "train", counted_train)
    print_cost(make_plan(asked))
    printed = capsys.readouterr().out

    rows = {cells[0]: cells for line in printed.splitlines() if len(cells := [c.strip() for c in line.split("│")[1:-1]]) == 10}
    assert list(rows) == ["base", "zero budget", "sft", "low_lr", "ewc"]
    rates = [float(rows[name][3]) for name in ("sft", "low_lr", "ewc")]
    assert rates[1] == rates[0] / 10 and rates[2] == rates[0]
    assert all(float(cells[8]) <= float(cells[9]) for cells in rows.values())
    assert float(rows["sft"][8]) > float(rows["base"][8])
    assert sorted(steps) == [timing.FEWER + 1] * 3 + [timing.STEPS + 1]
    assert re.search(
        r"in all about \d+ (s|min) on this machine, with nothing else running on it, evaluation\s+included", printed
    )
    assert not (Path(asked["out"]) / "runs").exists()


def test_a_method_whose_examples_need_a_model_is_priced_without_one(files, tiny_path, tmp_path, capsys, monkeypatch):
    """`sdft` writes its examples with the model being trained, and none is loaded to price memory."""
    monkeypatch.setenv("COLUMNS", "250")
    asked = {"data": files["domain"], "suites": files["echo"], "model": tiny_path, "recipes": "sdft", "budget": "1epochs"}
    print_cost(make_plan(asked | {"max_length": 64, "limit": 4, "precision": "float32", "out": str(tmp_path / "out")}))
    assert "sdft" in capsys.readouterr().out
