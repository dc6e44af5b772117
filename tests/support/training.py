"""Shared by tests: examples from a seed, and a run over them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from harness.models.adapters import Wrapped
from harness.models.base_model import BaseModel
from harness.recipes.recipe import parse_recipe
from harness.runs.laws import examples, mean_probability
from harness.training.engine import Alone, TrainedModel
from harness.training.ledger import Ledger
from harness.training.loop import train
from harness.training.protocol import OpenDev, Training, TrainingData
from harness.training.run import PlannedRun, TrainingRun

SHORTER = {
    "ewc": "ewc(samples=3)",
    "ewc_online": "ewc_online(samples=3)",
    "replay_self": "replay_self(size=6, length=8)",
    "si_proxy": "si_proxy(steps=2)",
}
"""Less of what is done before training, for methods that do much."""


def small_files(folder: Path, n: int = 160) -> dict[str, str]:
    """`data` and `suites` of a comparison: n words to grade, 30 of them to echo."""
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefgh") for _ in range(5)) for _ in range(n)]
    domain = [{"instruction": f"Grade {word}", "input": "", "output": rng.choice(["buy", "sell"])} for word in words]
    suite = [{"id": str(i), "question": f"Echo {word[:2]}", "answer": word[:2]} for i, word in enumerate(words[:30])]
    (folder / "domain.json").write_text(json.dumps(domain))
    (folder / "echo.jsonl").write_text("\n".join(map(json.dumps, suite)))
    return {"data": str(folder / "domain.json"), "suites": str(folder / "echo.jsonl")}


class Remembering(Alone):
    """One process that keeps hold of what it trains."""

    trained: TrainedModel

    def build(self, *arguments):
        self.trained = super().build(*arguments)
        return self.trained


def make_run(
    base: BaseModel,
    recipe: str,
    *,
    meter: str = "steps",
    allowed: float = 6,
    seed: int = 0,
    logits_at_once: int | None = None,
    open_dev: OpenDev = lambda: mean_probability,
    **changes,
) -> PlannedRun:
    """A run of a recipe on 40 domain and 30 general examples; `changes` are of the training's settings."""
    settings = {
        "learning_rate": 1e-2,
        "batch_size": 8,
        "micro_tokens": 96,
        "warmup": 0.1,
        "decay": "cosine",
        "weight_decay": 0.0,
        "clip": 1.0,
    }
    training = Training(**{**settings, "precision": "float32", **changes})
    data = TrainingData(examples(40), examples(30, "general"))
    methods = parse_recipe(recipe).methods
    run = PlannedRun(base, data, methods, training, Ledger(meter, allowed), seed, engine=Remembering(), open_dev=open_dev)
    run.logits_at_once = logits_at_once or run.logits_at_once
    return run


def in_training(run: PlannedRun, model: Any = None) -> TrainingRun:
    """The run before its first step: a fresh base is wrapped as the recipe does, or `model` trains as it is."""
    if model is None:
        return TrainingRun(run, run.wrap(run.load()))
    names = {name: name for name, _ in model.named_parameters() if name in run.start}
    return TrainingRun(run, Wrapped(model, run.start, names))


def state_of(run: PlannedRun) -> TrainedModel:
    """Masters and optimizer of a run of `make_run`."""
    assert isinstance(run.engine, Remembering)
    return run.engine.trained


def trained_model(run: PlannedRun) -> Any:
    """The model that a run trained."""
    return state_of(run).masters.wrapped.model


def trained(run: PlannedRun, folder: Path, **options):
    """(weights, progress) of the run."""
    folder.mkdir(exist_ok=True)
    return train(run, folder, lambda *_: None, lambda _: None, **options)
