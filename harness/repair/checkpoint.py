"""`lethe repair`: apply methods that act after training to a model that was tuned elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from harness.contract import Need, Weights, overrides
from harness.decoding.open_model import open_base
from harness.errors import PlanError, raise_faults
from harness.measured.adapter import load_adapted
from harness.measured.forms import Form, form_of
from harness.models.base_model import BaseModel, own_weights, save_model
from harness.recipes.catalogue import axis_names
from harness.recipes.hooks import ask
from harness.recipes.recipe import Recipe, parse_recipe
from harness.repair.dev_items import DevItems, dev_items
from harness.setup.material import CURES
from harness.training.ledger import Ledger
from harness.training.protocol import Training, TrainingData, no_dev_items
from harness.training.run import PlannedRun


@dataclass(frozen=True)
class Repaired:
    """What became of a tuned model."""

    folder: Path
    before: float
    """Norm of the tuned model's change from the base, over all weights that both have in one shape."""
    after: float
    """The same of the repaired model's."""
    kept: tuple[str, ...]
    """Weights that stay as tuned, since the base has them in another shape."""
    notes: tuple[str, ...] = ()
    """What the methods say of it."""

    def __str__(self) -> str:
        share = self.after / self.before if self.before else 1.0
        text = f"{self.folder}: {share:.1%} of the change's norm is left ({self.after:.4g} of {self.before:.4g})."
        if self.kept:
            text += f" {', '.join(self.kept)}: another shape than the base's, left as tuned."
        return " ".join([text, *self.notes])


def repair(base: str, tuned: str, by: str, to: str, seed: int = 0, general: str | None = None) -> Repaired:
    """Write `tuned`, mended by the recipe `by`, as a checkpoint for transformers to the new folder `to`.

    `base` is the model that was tuned: a folder or hub id; `tuned` is a checkpoint of the same architecture, or a peft adapter.
    `general`: a file of general records, whose dev part methods decide by. Raises PlanError for a recipe that does more than
    act on final weights, for another architecture, or if `to` is there.
    """
    # All that can be refused without loading a model.
    target = Path(to)
    faults = []
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        faults.append(f"'{to}' is there already: give --to a new folder")
    recipe = parse_recipe(by)
    faults += _recipe_faults(recipe)
    decides = Need.DEV_SCORES in recipe.needs
    if decides and not general:
        faults.append(f"'{by}' {CURES[Need.DEV_SCORES].replace('GENERAL=file', '--general FILE')}")
    if general and not decides:
        faults.append(f"'{by}' decides nothing on dev items, so --general is not read; leave it out, or take interpolate")
    raise_faults(faults)

    # Only a method that decides needs more than the two models.
    items = dev_items(base, tuned, general) if general else DevItems(no_dev_items, "cpu", "float32")
    untouched = open_base(base)
    tuned_base, weights = _tuned(tuned, untouched)
    training = Training(0.0, 1, untouched.max_length, 0.0, "constant", 0.0, 1.0, items.precision)
    nothing = TrainingData((), ())
    run = PlannedRun(
        untouched, nothing, recipe.methods, training, Ledger("steps", 0.0), seed, items.device, open_dev=items.open
    )

    # An embedding that was resized has no place on the line to the base: it stays as tuned.
    kept = _kept(weights, run.start, tuned)
    shared = {name: tensor for name, tensor in weights.items() if name not in kept}
    final = _mended(shared, run)
    save_model(tuned_base, weights | {name: final[name] for name in shared}, target)
    after = {name: final[name] for name in shared}
    notes = tuple(chain.from_iterable(ask(method, "notes") for method in recipe.methods))
    return Repaired(target, _distance(shared, run.start), _distance(after, run.start), kept, notes)


def _mended(tuned: Weights, run: PlannedRun) -> Weights:
    """Return the weights as the run's methods finish them, in written order."""
    if preparing := run.filled("prepare"):
        model = run.load()
        for method in preparing:
            method.prepare(model, run)
    weights = tuned
    for method in run.methods:
        weights = run.start | ask(method, "finish", weights, run)
    return weights


def _recipe_faults(recipe: Recipe) -> list[str]:
    """Return what of a recipe cannot act on a model that is trained already."""
    faults = []
    for name, method in zip(recipe.names, recipe.named, strict=True):
        # A hook that acts while a model trains would never be called here.
        hooks = [hook for hook in axis_names() if overrides(method, hook)]
        if hooks != ["finish"]:
            faults.append(
                f"{name} acts while a model is trained; repair takes methods that act after it: wise, dghard, interpolate ..."
            )
    return faults


def _tuned(path: str, base: BaseModel) -> tuple[BaseModel, Weights]:
    """Return a tuned model as a base (its own tokenizer and configuration), and its fp32 weights by name."""
    if form_of(path) is Form.ADAPTER:
        return base, own_weights(load_adapted(path, base, torch.float32, []))
    tuned_base = open_base(path)
    return tuned_base, own_weights(tuned_base.original(torch.float32))


def _kept(weights: Weights, start: Weights, tuned: str) -> tuple[str, ...]:
    """Return the weights that the base has in another shape. Raises PlanError where it has other weights at all."""
    if weights.keys() != start.keys():
        other = sorted(weights.keys() ^ start.keys())
        some = ", ".join(other[:3]) + (" ..." if len(other) > 3 else "")
        raise PlanError(
            f"'{tuned}' is of another architecture than the base: {some} ({len(other)} weights) stand in one of them only;"
            " give the base that it was tuned from"
        )
    return tuple(name for name, tensor in weights.items() if tensor.shape != start[name].shape)


def _distance(weights: Weights, start: Weights) -> float:
    return math.sqrt(sum(float((tensor - start[name]).square().sum(dtype=torch.float64)) for name, tensor in weights.items()))
