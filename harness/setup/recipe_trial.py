"""Trial of recipes on the model before anything runs: a model without weights is wrapped, and added parameters must fold.

A recipe that adds blocks is tried with weights too: it must begin as the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.checkpoints.weight_files import some
from harness.contract import blocks_of
from harness.errors import one_line
from harness.models.adapters import Wrapped, wrap
from harness.models.base_model import BaseModel, empty_model
from harness.models.batches import collate
from harness.models.forward import logits_at, same_logits
from harness.recipes.recipe import Recipe
from harness.toolbox import returns_one
from harness.training.ledger import Ledger
from harness.training.protocol import Training, TrainingData
from harness.training.run import PlannedRun


def recipe_faults(base: BaseModel, recipes: Sequence[Recipe]) -> list[str]:
    """Return why recipes cannot be made on this model, a sentence each."""
    # Recipes that wrap nothing fit every model.
    faults = {recipe.text: _fault(base, recipe) for recipe in recipes if _run(base, recipe).filled("trainable")}
    return [f"recipe '{text}' does not fit this model: {fault}" for text, fault in faults.items() if fault]


def _run(base: BaseModel, recipe: Recipe) -> PlannedRun:
    """Return a run without data, whose wrapping can be tried."""
    training = Training(1e-5, 1, base.max_length, 0.0, "constant", 0.0, 1.0, "float32")
    return PlannedRun(base, TrainingData((), ()), recipe.methods, training, Ledger("steps", 1.0), 0)


def _fault(base: BaseModel, recipe: Recipe) -> str | None:
    # Without weights: shapes and names are enough to see whether a wrapping fits.
    empty = empty_model(base.path)
    layers = f"; its layers are named {some(_layers(empty), 12)}"
    originals = dict(empty.named_parameters())
    run = _run(base, recipe)
    try:
        with torch.device("meta"):
            wrapped = wrap(empty, run.filled("trainable"), run, {})
        return _fold_fault(wrapped, originals, layers) or (_start_fault(base, recipe) if _adds_blocks(recipe) else None)
    except Exception as error:  # of the method, or of the library that it calls: what it says of the model
        return one_line(error).rstrip(".") + layers


def _adds_blocks(recipe: Recipe) -> bool:
    return any(method.adds == "blocks" for method in recipe.methods)


def _layers(model: Any) -> list[str]:
    """Return what the linear layers of the model's blocks are called."""
    # GPT-2 writes its linear layers as convolutions.
    kinds = (nn.Linear, *_convolutions())
    names: set[str] = set()
    for block in blocks_of(model):
        names |= {name.rpartition(".")[2] for name, part in block.named_modules() if isinstance(part, kinds)}
    return sorted(names)


def _convolutions() -> tuple[type[nn.Module], ...]:
    """Return GPT-2's linear layers, whose weights are transposed."""
    from transformers.pytorch_utils import Conv1D

    return (Conv1D,)


def _fold_fault(wrapped: Wrapped, originals: dict[str, nn.Parameter], layers: str) -> str | None:
    """Return what cannot be put into the base's own weights."""
    for name, layer in wrapped.model.named_modules():
        inner = layer.get_base_layer() if hasattr(layer, "get_base_layer") else None
        # What an adapter adds is added to one tensor.
        if isinstance(inner, nn.Linear) and not returns_one(inner):
            return f"{name} returns more than one tensor (a router), and cannot be wrapped; leave it out{layers}"
    for name, fold in wrapped.folds.items():
        # A tied weight is two layers: a change of one may not move the other.
        if name not in originals:
            return f"{name} is another layer's weight too (tied), and what is added cannot fold into both; leave it out{layers}"
        if fold(originals[name], fold.factors).shape != originals[name].shape:
            return f"what is added to {name} does not fold into it; leave it out{layers}"
    return None


@torch.no_grad()
def _start_fault(base: BaseModel, recipe: Recipe) -> str | None:
    """Return whether the wrapped model begins as the base."""
    from harness.contract import Example

    # Eight tokens are enough to see whether logits move.
    run = _run(base, recipe)
    tokens = tuple(5 + index % 3 for index in range(8))
    batch = collate([Example("trial", tokens, (True,) * len(tokens))])
    model = base.load(torch.float32)
    before = logits_at(model, batch)
    after = logits_at(wrap(model, run.filled("trainable"), run, {}).model, batch)
    if same_logits(after, before, torch.float32):
        return None
    return (
        f"it does not begin as the base (logits differ by up to {float((after - before).abs().max()):.2g}); use another method"
    )
