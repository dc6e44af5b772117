"""The laws that every method is held to, on a small model: for `lethe recipes --check FILE`, and for the tests of this project.

Each law takes the name of a method as a recipe has it and a workshop, and raises Broken where the law does not hold.
"""

from __future__ import annotations

import contextlib
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.bundled import embedded
from harness.contract import Example, Weights, overrides
from harness.decoding.open_model import open_base
from harness.errors import PlanError
from harness.models.base_model import BaseModel, weights_hash
from harness.models.batches import collate
from harness.models.forward import logits_at, nll
from harness.recipes.recipe import CHAINED, parse_recipe
from harness.recipes.recipe_text import FILE, installed_methods
from harness.recipes.registry import find_method, methods
from harness.training.checkpoint import Progress
from harness.training.ledger import Ledger
from harness.training.loop import Overdrawn, train
from harness.training.protocol import Training, TrainingData
from harness.training.run import PlannedRun

RATE = 1e-2
STEPS = 4
"""More than an epoch of the examples."""
BUDGETS = (8, 80, 320)
"""In steps of plain fine-tuning: the first that pays for what the method prepares, and for a step, counts."""
MOST_OVER = 0.01
"""Share of the budget by which a run may exceed it, or stay below the last step it could have made."""


class Broken(Exception):
    """A law does not hold; the message says what was found."""


class Killed(Exception):
    """Stands for a process that dies between two steps."""


@dataclass(frozen=True)
class Workshop:
    """A base model and a folder in which methods are tried."""

    base: BaseModel
    folder: Path
    domain: int = 24
    general: int = 12
    """Examples of a run."""
    ends: dict[tuple[str, int], str] = field(default_factory=dict)
    """Hashes of the weights that short runs ended with, by recipe and seed: several laws compare with the same run."""

    def run(
        self, recipe: str, seed: int = 0, meter: str = "steps", allowed: float = STEPS, off_too: bool = False
    ) -> PlannedRun:
        """A run of a recipe on domain and general examples; `off_too`: of methods that are switched off, too."""
        made = parse_recipe(recipe)
        # Small and fast: a method that breaks a law breaks it here too.
        training = Training(RATE, 8, 96, 0.1, "cosine", 0.0, 1.0, "float32")
        data = TrainingData(examples(self.domain), examples(self.general, "general"))
        ledger = Ledger(meter, allowed)
        methods = made.named if off_too else made.methods
        return PlannedRun(self.base, data, methods, training, ledger, seed, open_dev=lambda: mean_probability)

    def trained(self, run: PlannedRun, folder: Path | None = None) -> tuple[Weights, Progress]:
        """Final weights, and how far the run came."""
        run_folder = folder or Path(tempfile.mkdtemp(dir=self.folder))
        run_folder.mkdir(exist_ok=True)
        return train(run, run_folder, lambda *_: None, lambda _: None)

    def end(self, recipe: str, seed: int = 0) -> str:
        """Return the hash of the weights that a short, undisturbed run ends with; such a run is made once."""
        if (recipe, seed) not in self.ends:
            self.ends[recipe, seed] = weights_hash(self.trained(self.run(recipe, seed=seed))[0])
        return self.ends[recipe, seed]


def examples(n: int, source: str = "domain", seed: int = 0) -> tuple[Example, ...]:
    """n sequences of 8 to 24 tokens whose second half is supervised."""
    # The same examples for every method, whatever ran before.
    rng = random.Random(f"{seed}/{source}")
    made = []
    for i in range(n):
        length = rng.randrange(8, 25)
        tokens = tuple(rng.randrange(4, 200) for _ in range(length))
        supervised = tuple(index >= length // 2 for index in range(length))
        made.append(Example(f"{source}-{i}", tokens, supervised, source))
    return tuple(made)


def mean_probability(model: Any) -> float:
    """Stand for the retention on dev items: the mean probability of the supervised tokens of four sequences."""
    batch = collate(examples(4, "dev"), next(model.parameters()).device)
    with torch.no_grad():
        return float(torch.exp(-nll(model, batch)[0]).mean())


# --- the laws --------------------------------------------------------------------------------------------------------


def states_its_source(name: str, workshop: Workshop) -> None:
    """Its paper, with a BibTeX entry."""
    if not re.search(r"@\w+\{", find_method(name).paper):
        raise Broken("`paper` has no BibTeX entry, which reports cite")


def trains_inside_the_budget(name: str, workshop: Workshop) -> None:
    """Trains, stays finite, and spends what it may and no more."""
    run, weights, progress = _on_a_budget(name, workshop)

    # Each of these would make its row of a table wrong without any error.
    over = run.ledger.record()["overshoot"]
    if not progress.steps:
        raise Broken(f"no step was made: preparation spent {run.ledger.spent:.3g} of {run.ledger.allowed:.3g} FLOPs")
    if bad := next((weight for weight, tensor in weights.items() if not tensor.isfinite().all()), None):
        raise Broken(f"{bad} is not finite after {progress.steps} steps")
    if over is None or over > MOST_OVER:
        raise Broken(f"it spent {over:+.1%} beyond its budget: what it computes is to be charged (run.charged)")

    # A method that trains nothing keeps everything, and looks perfect.
    if weights_hash(weights) == workshop.base.hash and not find_method(name).plain:
        raise Broken("the weights are the base's: it trained nothing")


def _on_a_budget(name: str, workshop: Workshop) -> tuple[PlannedRun, Weights, Progress]:
    """A run under a budget of FLOPs that pays for its preparation and some steps."""
    # What a method prepares may cost more than a small budget, or leave nothing of it: then a larger one is tried.
    plain = workshop.run("")
    price, _ = plain.step_price(next(plain.steps()))
    for steps in BUDGETS:
        run = workshop.run(name, meter="flops", allowed=steps * price)
        with contextlib.suppress(Overdrawn):
            weights, progress = workshop.trained(run)
            if progress.steps or steps == BUDGETS[-1]:
                return run, weights, progress
    raise Broken(f"what it prepares costs more than {BUDGETS[-1]} steps of plain fine-tuning")


def switched_off_is_plain(name: str, workshop: Workshop) -> None:
    """At its `off` settings it is plain fine-tuning bit for bit; what has none begins as the base."""
    method = find_method(name)

    # A wrapping cannot be switched off: it must begin as the base, or say why it does not.
    if method.off is None:
        run = workshop.run(name)
        batch = next(run.batches(examples(3)))
        same = torch.equal(logits_at(run.wrap(run.load()).model, batch), logits_at(run.load(), batch))
        if same is bool(method.unlike_base):
            raise Broken("freshly wrapped it has other logits than the base" if not same else "it is the base at first")
        return

    # A run leaves out what is switched off, so here it is kept: with wrong `off` settings a method that acts would be left out.
    off, _ = workshop.trained(workshop.run(recipe_off(name), off_too=True))
    if weights_hash(off) != workshop.end(""):
        raise Broken(f"{recipe_off(name)} is not plain fine-tuning bit for bit")


def same_seed_same_bits(name: str, workshop: Workshop) -> None:
    """One seed gives one result, another seed another."""
    again, _ = workshop.trained(workshop.run(name))
    if weights_hash(again) != workshop.end(name):
        raise Broken("two runs of one seed differ: draw from run.generator(name) or within run.rng(name) only")
    if workshop.end(name, seed=1) == workshop.end(name):
        raise Broken("two seeds give the same weights")


def resumes_bit_for_bit(name: str, workshop: Workshop) -> None:
    """Killed amid and resumed it ends as undisturbed."""
    folder = Path(tempfile.mkdtemp(dir=workshop.folder))

    # Killed in the middle, between two steps, where checkpoints are written.
    steps = iter(range(STEPS))

    def die(_: Any) -> None:
        if next(steps) == STEPS // 2:
            raise Killed

    with contextlib.suppress(Killed):
        train(workshop.run(name), folder, lambda *_: None, die, checkpoint_every=0.0)
    resumed, _ = workshop.trained(workshop.run(name), folder)
    if weights_hash(resumed) != workshop.end(name):
        raise Broken("resumed after a kill it ends elsewhere: what it learns belongs into state() and restore()")


def goes_with_every_method(name: str, workshop: Workshop) -> None:
    """With each other method it is one recipe in both orders, but for chained axes, and trains or is refused by name."""
    for other in sorted(methods().keys() - {name}):
        try:
            pair = parse_recipe(f"{name}+{other}")
        except PlanError:
            # The pair is refused by name, which is a right answer.
            continue

        # Only methods that share a chained axis may differ by their order.
        ordered = any(all(overrides(method, axis) for method in pair.methods) for axis in CHAINED)
        if (pair.question == parse_recipe(f"{other}+{name}").question) is ordered:
            raise Broken(f"{name}+{other} and {other}+{name} are {'one recipe' if ordered else 'two recipes'}")
        weights, _ = workshop.trained(workshop.run(f"{name}+{other}", allowed=2))
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise Broken(f"{name}+{other} ends in weights that are not finite")


Law = Callable[[str, Workshop], None]
LAWS: tuple[Law, ...] = (
    states_its_source,
    trains_inside_the_budget,
    switched_off_is_plain,
    same_seed_same_bits,
    resumes_bit_for_bit,
    goes_with_every_method,
)


def recipe_off(name: str) -> str:
    """The method at its `off` settings."""
    settings = ", ".join(f"{key}={value!r}" for key, value in (find_method(name).off or {}).items())
    return f"{name}({settings})"


# --- the command -----------------------------------------------------------------------------------------------------


def named(target: str) -> list[str]:
    """The methods that `FILE`, `FILE:Class` or an installed name stands for. Raises PlanError where there is none."""
    # Looked up first, so that a misspelt name is refused by the registry's own words.
    if FILE.fullmatch(target) or target in methods() or target in {point.name for point in installed_methods()}:
        find_method(target)
        return [target]
    path = Path(target)
    if path.suffix != ".py" or not path.is_file():
        raise PlanError(f"'{target}' is no Python file and no method; give path/to/file.py, path/to/file.py:Class or a name")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{target} cannot be read: {error}") from None
    # Read off the text, so that methods which the file only imports are not taken for its own.
    classes = re.findall(r"^class (\w+)\((?:\w+\.)*Method\)", text, re.MULTILINE)
    if not classes:
        raise PlanError(f"{target} defines no method; write `class Idea(Method)` there")
    for name in classes:
        find_method(f"{target}:{name}")
    return [f"{target}:{name}" for name in classes]


def verdicts(name: str, workshop: Workshop) -> Iterator[tuple[Law, str]]:
    """Each law, with what breaks it; empty where it holds."""
    for law in LAWS:
        try:
            law(name, workshop)
        except Broken as error:
            yield law, str(error)
        except Exception as error:  # whatever the method's code raises
            yield law, f"{type(error).__name__}: {error}"
        else:
            yield law, ""


def check_laws(target: str) -> int:
    """Run every law on the methods of a file, print what held; the exit code is 1 where one does not."""
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        base = open_base(embedded().model)
        base.hold(torch.float32)
        workshop = Workshop(base, Path(folder))
        for name in named(target):
            print(f"{name}:")
            for law, fault in verdicts(name, workshop):
                broken += bool(fault)
                print(f"  {'BROKEN' if fault else 'holds '}  {law.__doc__}" + (f"\n          {fault}" if fault else ""))
    return 1 if broken else 0
